"""Measures learning without retraining: a fixed model whose author table and index get new papers.

python benchmarks/learning.py --dataset DATASET --work WORK [--steps 12]
    --output benchmarks/reports/learning.json

A model is fitted on the papers to the end of a year. In each later test year it answers with the
author table and the index of its own time, and with those of all papers until then, to which the
weights of its time apply. Beside it, a model that was fitted to the end of the year before. Test
papers are those of decay.py, and are in no fit, table or index.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from classmark import Classifier, Index, Paper
from classmark.bundle import load_bundle
from classmark.dataset import load_manifest
from classmark.errors import TrainingFailed
from classmark.export.authors import CountedPapers, count_authors
from classmark.kernels import RawScores
from classmark.kernels.authors import AuthorTable
from classmark.kernels.joining import AuthorJoin, load_join
from classmark.neighbours import Entry, EvidenceWeights, NeighbourJoin, build_index
from classmark.pipeline.neighbours import calibrate_index
from classmark.records.progress import SILENT
from classmark.records.values import author_names
from decay import BUCKETS, draw_test, read_papers
from decay_curves import DRAWS, SEED, interval
from peer_papers import FLAGS, build_dataset, find_dataset, first_ranked
from report import run_benchmark

N_VALID, N_TEST, SHARE, FIRST = 3_000, 3_000, 0.3, 2009
TESTS = (2012, 2015, 2018)
MONTHS = 12
# What comes back: what was, what grew, and a new fit, each of the same evidence if it can be.
COMPARED = {
    "text": ("fixed: text", "grown: index", "retrained: text"),
    "authors": ("fixed: authors", "grown: authors", "retrained: authors"),
    "authors and index": (
        "fixed: authors and index",
        "grown: authors and index",
        "retrained: authors and index",
    ),
}
Hits = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """A model that was fitted to the end of a year, with its own table and index.

    Attributes:
        classifier: the model, which uses its own table.
        join: its author table; None if it has none.
        weights: of the join with neighbours; None if they do not help.
        index: of its training papers.
        cost: CPU-seconds of fit, export and calibration.
    """

    classifier: Classifier
    join: AuthorJoin | None
    weights: EvidenceWeights | None
    index: Path
    cost: float

    @cached_property
    def columns(self) -> dict[str, int]:
        """Return the column of each label."""
        return {label: i for i, label in enumerate(self.classifier.labels)}

    def top(self, papers: list[Paper], join: AuthorJoin | None, index: Path | None) -> list[str]:
        """Return the first label of each paper, with what table and index say."""
        classifier = self.classifier
        temperature = classifier.policy.temperature
        raw: RawScores = classifier.score(papers, authors=False)
        if join is not None:
            raw = join.join(raw, papers, temperature)
        if index is not None and self.weights is not None:
            near = NeighbourJoin(Index.open(index), classifier.labels, self.weights)
            raw = near.join(raw, papers, temperature, classifier.vectors)
        return [classifier.labels[i] for i in raw.scores.argmax(axis=1).tolist()]


def fit(pool: pl.DataFrame, test: pl.DataFrame, until: int, work: Path) -> Fitted:
    """Return the model of the papers of a pool to the end of a year; found again in its folder."""
    folder, start = work / f"until-{until}", time.monotonic()
    known = pool.filter(pl.col("year") <= until)
    valid = first_ranked(known, min(N_VALID, len(known) // 5))
    train = known.join(valid, on="id", how="anti", maintain_order="left")
    splits = {"train": train, "valid": valid, "test": test}
    papers = build_dataset({n: f.drop("year") for n, f in splits.items()}, folder / "dataset")
    bundle = folder / "fixed-1.0"
    if not bundle.is_dir():
        words = ["train", f"dataset.path={papers.folder}", f"runs_dir={folder / 'runs'}"]
        run = _classmark(*words, "model.threads=1").split()[-1]
        _classmark("export", run, "--output", bundle, "--non-papers", "none")
    classifier = Classifier(bundle)
    index = folder / "index"
    write_index(index, classifier, train)
    try:
        calibrate_index(index, classifier, papers.folder, "valid", SILENT)
    except TrainingFailed as error:
        print(f"until {until}: {error}", file=sys.stderr)
    weights, cost = Index.open(index).manifest.evidence, round(time.monotonic() - start, 1)
    return Fitted(classifier, load_join(load_bundle(bundle)), weights, index, cost)


def _classmark(*words: object) -> str:
    command = [sys.executable, "-m", "classmark", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def papers_of(frame: pl.DataFrame) -> list[Paper]:
    """Return the rows of a dataset as papers."""
    columns = ("id", "title", "summary", "authors", "published_date")
    rows = zip(*(frame[name].to_list() for name in columns), strict=True)
    return [
        Paper(id=i, title=t or "", abstract=s or "", authors=author_names(a), published_date=d)
        for i, t, s, a, d in rows
    ]


def listed_of(frame: pl.DataFrame) -> list[tuple[str, ...]]:
    """Return the categories of each paper, the primary first."""
    rows = zip(frame["category_code"], frame["categories"], strict=True)
    return [tuple(dict.fromkeys((code, *(rest or "").split()))) for code, rest in rows]


def write_index(path: Path, classifier: Classifier, known: pl.DataFrame) -> None:
    """Write an index of papers."""
    papers = zip(known["id"], known["year"], listed_of(known), strict=True)
    entries = [Entry(id, year, codes) for id, year, codes in papers]
    vectors = classifier.vectors(papers_of(known))
    build_index(path, [(entries, vectors)], classifier.model, bits=4, overwrite=True)


def grow_table(model: Fitted, known: pl.DataFrame) -> AuthorJoin | None:
    """Return the join of a model with a table of the papers that are known now."""
    if model.join is None:
        return None
    listed = [
        [model.columns[c] for c in codes if c in model.columns] if codes[0] in model.columns else []
        for codes in listed_of(known)
    ]
    # What has no column in the fixed model cannot be counted.
    usable = np.array([bool(columns) for columns in listed])
    kept = known.filter(usable)
    counted = count_authors(
        CountedPapers(
            authors=map(author_names, kept["authors"]),
            years=kept["year"].to_numpy(),
            listed_indptr=np.cumsum([0, *(len(c) for c in listed if c)]),
            listed_indices=np.array([c for columns in listed for c in columns], dtype=np.int16),
            n_labels=len(model.columns),
        ),
        len(model.join.arrays.labels) * 4,
    )
    if counted is None:
        return model.join
    arrays, first_year = counted
    arrays = replace(arrays, profile=model.join.arrays.profile, prior=model.join.arrays.prior)
    return replace(model.join, table=AuthorTable(arrays, first_year))


def periods(frame: pl.DataFrame, year: int, steps: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the test papers of each part of a year, with the day on which it begins."""
    size = MONTHS // steps
    for first in range(1, MONTHS + 1, size):
        day, end = f"{year:04}-{first:02}-01", f"{year:04}-{first + size:02}-01"
        part = frame.filter((pl.col("published_date") >= day) & (pl.col("published_date") < end))
        if len(part):
            yield day, part


def answer(
    fixed: Fitted, renewed: Fitted, pool: pl.DataFrame, test: pl.DataFrame, options: Any
) -> dict[str, Hits]:
    """Return the hits of each way to answer on the test papers of a year."""
    year, parts = int(test["year"].max()), []  # type: ignore[arg-type]
    for day, part in periods(test, year, options.steps):
        known = pool.filter(pl.col("published_date") < day)
        grown = options.work / "grown"
        write_index(grown, fixed.classifier, known)
        table, papers = grow_table(fixed, known), papers_of(part)
        own, renewed_own = fixed.join, renewed.join
        tops = {
            "fixed: text": fixed.top(papers, None, None),
            "fixed: authors": fixed.top(papers, own, None),
            "fixed: authors and index": fixed.top(papers, own, fixed.index),
            "grown: authors": fixed.top(papers, table, None),
            "grown: index": fixed.top(papers, None, grown),
            "grown: authors and index": fixed.top(papers, table, grown),
            "retrained: text": renewed.top(papers, None, None),
            "retrained: authors": renewed.top(papers, renewed_own, None),
            "retrained: authors and index": renewed.top(papers, renewed_own, renewed.index),
        }
        truth = np.array(part["category_code"].to_list())
        parts.append({n: (np.array(found) == truth).astype(float) for n, found in tops.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def describe(hits: dict[str, Hits]) -> dict[str, Any]:
    """Return accuracies with intervals, and how much of the decay comes back."""
    n = len(next(iter(hits.values())))
    counts = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
    found: dict[str, Any] = {"papers": n}
    found["top_1"] = {name: interval(float(h.mean()), counts @ h) for name, h in hits.items()}
    found["recovered"] = {}
    for what, ways in COMPARED.items():
        stale, grown, new = (hits[way] for way in ways)
        drawn = [(counts @ (one - stale)) for one in (grown, new)]
        if new.mean() > stale.mean() and np.quantile(drawn[1], 0.025) > 0:
            share = float((grown.mean() - stale.mean()) / (new.mean() - stale.mean()))
            found["recovered"][what] = interval(share, drawn[0] / drawn[1])
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, grow, and return what was measured."""
    options.dataset = find_dataset(options.dataset, options.data, options.work)
    papers = read_papers(options.dataset)
    drawn = draw_test(papers, options.test)
    wanted = {name: drawn[name] for name in map(str, options.tests) if name in drawn}
    held_out = pl.concat(drawn.values())
    pool = papers.join(held_out, on="id", how="anti", maintain_order="left")
    pool = first_ranked(pool, int(len(pool) * options.share)).sort("published_date", "id")
    test = pl.concat(wanted.values())
    fixed = fit(pool, test, options.first, options.work)
    years = [options.first, *(BUCKETS[name][0] - 1 for name in wanted)]
    seen = set(pool.filter(pl.col("year") <= options.first)["category_code"])
    report: dict[str, Any] = {
        "dataset_digest": load_manifest(options.dataset, verify=False).digest,
        "fixed_until": options.first,
        "steps_a_year": options.steps,
        "share_of_papers": options.share,
        "papers": {str(y): len(pool.filter(pl.col("year") <= y)) for y in years},
        "fixed": {"labels": len(seen), "has_authors": fixed.join is not None},
        "tests": {},
    }
    for name, frame in wanted.items():
        renewed = fit(pool, test, BUCKETS[name][0] - 1, options.work)
        found = describe(answer(fixed, renewed, pool, frame, options))
        unseen = sum(code not in seen for code in frame["category_code"]) / len(frame)
        report["tests"][name] = {**found, "unseen_share": round(unseen, 4)}
        print(name, report["tests"][name], file=sys.stderr)
    return report


if __name__ == "__main__":
    flags = {
        **FLAGS,
        "--first": {"type": int, "default": FIRST, "help": "last year of the fixed model; 2009"},
        "--tests": {"type": int, "nargs": "*", "default": TESTS, "help": "test years"},
        "--test": {"type": int, "default": N_TEST, "help": "most test papers of a year; 3,000"},
        "--share": {"type": float, "default": SHARE, "help": "of the papers that are known; 0.3"},
        "--steps": {"type": int, "default": 1, "help": "renewals a year: 1, 2, 3, 4, 6 or 12"},
    }
    tiny = {"tests": [2012], "test": 60, "share": 1.0}
    run_benchmark(__doc__, measure, flags, tiny=tiny)
