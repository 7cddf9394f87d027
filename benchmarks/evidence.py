"""Measures what authors and the papers of an index add to the text, and what asking costs.

python benchmarks/evidence.py --dataset DATASET --work WORK [--bits 8 4 2]
    --output benchmarks/reports/evidence.json

The shipped model answers the test papers of DATASET. Each index holds the training papers, and its
weights are fitted on the valid papers, as `make neighbours-wheel` does. Neighbours are asked only
where the model is unsure; the curve says what asking more or fewer would bring with the same
weights. What is built is found again in --work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from authors import metrics_of
from classmark import Classifier, Index, Paper
from classmark.dataset import DatasetSplit, iter_authors, iter_texts, load_manifest, read_split
from classmark.errors import TrainingFailed
from classmark.evaluation import compare_tables
from classmark.kernels import RawScores
from classmark.kernels.calibration import log_softmax
from classmark.neighbours import NeighbourJoin
from classmark.pipeline.neighbours import calibrate_index
from classmark.pipeline.scoring import as_paper, make_table, with_policy
from classmark.records import SILENT, DatasetManifest, ScoreTable
from peer_papers import FLAGS, find_dataset
from peers import rounded
from report import run_benchmark

BITS = (8, 4, 2)
ASKED_BELOW = (0.3, 0.4, 0.5, 0.6, 0.7, 1.0)
METRICS = ("top_1", "top_5", "precision_at_1_listed", "macro_f1", "ece", "ece_floor")


@dataclass(frozen=True)
class Bench:
    """The shipped model, and the test papers of a dataset."""

    dataset: Path

    @cached_property
    def classifier(self) -> Classifier:
        """Return the shipped model."""
        return Classifier("fast")

    @cached_property
    def manifest(self) -> DatasetManifest:
        """Return the manifest of the dataset."""
        return load_manifest(self.dataset, verify=False)

    @cached_property
    def split(self) -> DatasetSplit:
        """Return the truth about the test papers."""
        return read_split(self.dataset, "test", self.manifest, texts=False)

    @cached_property
    def papers(self) -> list[Paper]:
        """Return the test papers."""
        texts = iter_texts(self.dataset, "test", self.manifest)
        authors = iter_authors(self.dataset, "test", self.manifest)
        return list(map(as_paper, texts, authors, self.split.years.tolist()))

    def table(self, raw: RawScores) -> ScoreTable:
        """Return the scores of the test papers under the policy of the model."""
        labels = tuple(self.classifier.labels)
        model = self.classifier.model
        table = make_table(raw, self.split, "test", self.manifest, labels, model)
        return with_policy(table, self.classifier.policy)

    def joined(self, raw: RawScores, near: NeighbourJoin) -> RawScores:
        """Return scores with what the neighbours of the test papers say."""
        temperature = self.classifier.policy.temperature
        return near.join(raw, self.papers, temperature, self.classifier.vectors)


def open_index(bench: Bench, work: Path, bits: int) -> tuple[dict[str, Any], NeighbourJoin | None]:
    """Return what an index of the training papers takes, and its join; None if it does not help."""
    path, facts = work / f"index-{bits}", dict[str, Any]()
    if not path.is_dir():
        words = ["index", "build", bench.dataset / "train.parquet", "--no-titles"]
        words += ["--bits", bits, "--output", path]
        command = [sys.executable, "-m", "classmark", *map(str, words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if Index.open(path).manifest.evidence is None:
        try:
            calibrate_index(path, bench.classifier, bench.dataset, "valid", SILENT)
        except TrainingFailed as error:
            facts["refused"] = str(error).replace(str(path), "INDEX")
    index = Index.open(path)
    files = [file.read_bytes() for file in path.iterdir() if file.is_file()]
    facts |= {
        "papers": len(index),
        "mb": round(sum(map(len, files)) / 1e6, 1),
        "mb_compressed": round(sum(len(zlib.compress(file, 9)) for file in files) / 1e6, 1),
    }
    weights = index.manifest.evidence
    if weights is None:
        return facts, None
    return facts, NeighbourJoin(index, bench.classifier.labels, weights)


def cpu_us(bench: Bench, start_s: float) -> float:
    """Return the CPU microseconds a paper since a moment of ``time.process_time``."""
    return round((time.process_time() - start_s) / len(bench.papers) * 1e6, 1)


def score(bench: Bench, *, authors: bool) -> tuple[RawScores, float]:
    """Return the scores of the test papers, and the CPU microseconds that they took a paper."""
    papers, start = bench.papers, time.process_time()
    return bench.classifier.score(papers, authors=authors), cpu_us(bench, start)


def measure_ways(
    bench: Bench, joins: dict[int, NeighbourJoin], name: str, scored: tuple[RawScores, float]
) -> Iterator[dict[str, Any]]:
    """Yield a kind of evidence, and each index beside it: metrics by period, cost."""
    raw, us = scored
    before = bench.table(raw)
    yield {"evidence": name, "cpu_us": us, "periods": metrics_of(before, METRICS)}
    for bits, near in joins.items():
        start = time.process_time()
        after = bench.table(bench.joined(raw, near))
        more_us = cpu_us(bench, start)
        gain = compare_tables(before, after).metrics
        yield {
            "evidence": f"{name}, neighbours",
            "bits": bits,
            "cpu_us": round(us + more_us, 1),
            "periods": metrics_of(after, METRICS),
            "gain": {m: rounded(gain[m], "difference") for m in ("top_1", "macro_f1")},
        }


def asked_below(bench: Bench, raw: RawScores, near: NeighbourJoin, limit: float) -> dict[str, Any]:
    """Return accuracy if neighbours are asked below a probability, and the share that is asked."""
    join = NeighbourJoin(
        near.index, bench.classifier.labels, replace(near.weights, ask_below=limit)
    )
    log_p = log_softmax(raw.scores, bench.classifier.policy.temperature)
    table = bench.table(bench.joined(raw, join))
    tops = metrics_of(table, ("top_1",))
    return {
        "below": limit,
        "share": round(len(join.asked(raw, log_p)) / len(bench.papers), 4),
        "top_1": {period: found["top_1"] for period, found in tops.items()},
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Build the indexes, and return what each kind of evidence is worth."""
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(find_dataset(options.dataset, options.data, options.work))
    opened = {bits: open_index(bench, options.work, bits) for bits in options.bits}
    joins = {bits: join for bits, (_, join) in opened.items() if join is not None}
    smallest = joins.get(min(joins, default=0))
    text, both = score(bench, authors=False), score(bench, authors=True)
    return {
        "model": bench.classifier.model.to_dict(),
        "dataset_digest": bench.manifest.digest,
        "generated": bench.manifest.generated,
        "papers": len(bench.papers),
        "indexes": {str(bits): facts for bits, (facts, _) in opened.items()},
        "ways": [
            *measure_ways(bench, joins, "text", text),
            *measure_ways(bench, joins, "text and authors", both),
        ],
        "asked": [asked_below(bench, text[0], smallest, at) for at in ASKED_BELOW if smallest],
    }


if __name__ == "__main__":
    flags = {
        **FLAGS,
        "--bits": {"type": int, "nargs": "*", "default": BITS, "help": "of the rows; 8 4 2"},
    }
    run_benchmark(__doc__, measure, flags, tiny={"bits": [2]})
