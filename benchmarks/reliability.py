"""Measures how far the shipped model can be relied on.

python benchmarks/reliability.py --dataset DIR --output benchmarks/reports/reliability.json

DIR is the dataset of MODELS.md; its test split is measured.

How often it is right when it says 80 % (bins of a reliability diagram); how often the prediction
set of a text holds the primary, as the text gets shorter; and top-1 of the newest period under
other mixes of categories than that of its test papers, which are at most 70 a category.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from classmark import Classifier, Paper
from classmark.dataset import iter_texts, load_manifest, read_split
from classmark.evaluation import EvaluationConfig, evaluate_details
from classmark.evaluation.metrics.intervals import share_interval
from classmark.pipeline.scoring import score_dataset
from classmark.records import SILENT, ScoreTable
from report import run_benchmark

FIRST_WORDS = (50, 30, 20, 10)
EVEN_PAPERS = 20
NEWEST = "from-2020"


def bins_of(table: ScoreTable) -> list[dict[str, Any]]:
    """Return the bins with their intervals."""
    return [asdict(found) for found in evaluate_details(table).bins]


def sets_of(table: ScoreTable, dataset: Path) -> list[dict[str, Any]]:
    """Return coverage of the sets where less and less of the papers is given."""
    classifier = Classifier("fast")
    pairs = list(iter_texts(dataset, "test", load_manifest(dataset)))
    rows = np.flatnonzero(table.primary >= 0)
    parts: dict[str, list[tuple[str, str]]] = {"title and abstract": pairs}
    for n in FIRST_WORDS:
        parts[f"title and {n} words"] = [(t, " ".join(a.split()[:n])) for t, a in pairs]
    parts["title"] = [(title, "") for title, _ in pairs]
    found = []
    for what, texts in parts.items():
        raw = classifier.score(Paper(title=title, abstract=abstract) for title, abstract in texts)
        decisions, wanted = classifier.decide(raw), table.primary[rows]
        holds = decisions.probabilities[rows, wanted] >= classifier.policy.set_threshold
        holds |= decisions.first[rows] == wanted
        n_words = [len(title.split()) + len(abstract.split()) for title, abstract in texts]
        coverage = share_interval(int(holds.sum()), len(rows))
        found.append({"what": what, "words": np.mean(n_words), "coverage": asdict(coverage)})
    return found


def mixes_of(table: ScoreTable, dataset: Path, period: str) -> dict[str, Any]:
    """Return top-1 of a period when its categories weigh otherwise than in its test papers."""
    table = table.select(np.flatnonzero(np.array(table.periods) == period))
    right = table.scores.argmax(axis=1) == table.primary
    held = np.bincount(table.primary, minlength=len(table.labels))
    given = _counts_of(table.labels, dataset, period)
    wanted = {
        "in the mix of the test papers (at most 70 a category)": held,
        "in the mix of the data (at most 1,200 a category)": given,
        f"with at most {EVEN_PAPERS} papers a category": np.minimum(held, EVEN_PAPERS),
        "with every category alike": np.ones_like(held),
    }
    mixes = []
    for name, mix in wanted.items():
        share = np.where(held > 0, mix, 0) / mix[held > 0].sum()
        largest = int(share.argmax())
        mixes.append(
            {
                "mix": name,
                "largest": f"{table.labels[largest]} {share[largest]:.1%}",
                "top_1": _weighted(right, (share / np.maximum(held, 1))[table.primary]),
            }
        )
    categories = int(np.count_nonzero(held))
    return {"period": period, "n": len(table), "categories": categories, "mixes": mixes}


def _counts_of(labels: tuple[str, ...], dataset: Path, period: str) -> Any:
    """Return how many papers of each label a period has in all splits."""
    manifest = load_manifest(dataset)
    counts = np.zeros(len(labels), dtype=np.int64)
    for name in manifest.splits:
        split = read_split(dataset, name, manifest, texts=False)
        inside = split.labels[np.array(split.periods) == period]
        found = np.bincount(inside, minlength=len(manifest.labels))
        for label, n in zip(manifest.labels, found.tolist(), strict=True):
            counts[labels.index(label)] += n
    return counts


def _weighted(right: Any, weight: Any) -> dict[str, float]:
    """Return the weighted share of right papers with its bootstrap interval."""
    config = EvaluationConfig()
    rng = np.random.default_rng(config.seed)
    drawn = rng.integers(0, len(right), (config.draws, len(right)))
    shares = (right * weight)[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
    tail = (1 - config.level) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    value = (right * weight).sum() / weight.sum()
    return {"value": float(value), "low": float(low), "high": float(high)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return bins, sets and mixes of the shipped model on the texts of the test papers."""
    dataset: Path = options.dataset
    table = score_dataset("fast", dataset, "test", SILENT, authors=False)
    periods = np.array(table.periods)
    names = list(dict.fromkeys(table.periods))
    return {
        "model": table.model.to_dict(),
        "dataset_digest": table.dataset_digest,
        "split": table.split,
        "generated": table.generated,
        "n": len(table),
        "level": EvaluationConfig().level,
        "bins": bins_of(table),
        "periods": {name: bins_of(table.select(np.flatnonzero(periods == name))) for name in names},
        "sets": sets_of(table, dataset),
        "mixes": mixes_of(table, dataset, NEWEST),
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--dataset": {"type": Path, "required": True, "help": "folder of a built dataset"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS)
