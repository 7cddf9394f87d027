"""Measures the fast tier: papers per CPU-second, one paper, and resident memory.

python benchmarks/bench_fast.py [--papers FILE] [--output benchmarks/reports/fast-speed.json]

Without --papers invented ones are used (the sample generator's), so that anybody can run it. Time
is of the process's CPU, on one core, from raw title and abstract to calibrated scores, and to
published answers. The yardsticks score the same papers right after: compare ratios, not rates,
between machines.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core is measured; set before numpy loads

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from classmark import Classifier, Paper
from classmark.bundle import load_bundle
from classmark.bundle.find import find_bundle
from classmark.dataset import SampleConfig, sample_papers
from classmark.kernels.linear import LinearScorer, load_scorer
from classmark.papers import read_papers
from report import run_benchmark
from yardsticks import text_yardsticks

BATCH, ONES = 500, 300
# A process of its own: this one has read the papers with other libraries. VmHWM (Linux), since
# ru_maxrss of a child starts at what its parent held.
_CHILD = """
import re, sys
from pathlib import Path
from classmark import Classifier
from classmark.papers import read_stream
classifier, batch = Classifier(), []
for paper in read_stream(sys.stdin.buffer, format="jsonl"):
    batch.append(paper)
    if len(batch) == 500:
        classifier.classify(batch)
        batch = []
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
Pairs = list[tuple[str, str]]


def seconds_of(work: Callable[[], object], rounds: int) -> float:
    """Return the median CPU-seconds of a few rounds, after one to warm up."""
    work()
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def measure_rate(score: Callable[[Pairs], object], pairs: Pairs, rounds: int) -> dict[str, Any]:
    """Return papers per CPU-second in batches, and microseconds of one paper alone."""
    batches = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
    together = seconds_of(lambda: [score(batch) for batch in batches], rounds)
    alone = seconds_of(lambda: [score([pair]) for pair in pairs[:ONES]], rounds)
    return {
        "papers_per_cpu_second": round(len(pairs) / together),
        "one_paper_us": round(alone / min(ONES, len(pairs)) * 1e6, 1),
    }


def measure_kernel(scorer: LinearScorer, pairs: Pairs, rounds: int) -> dict[str, Any]:
    """Return what a kernel does, with its name."""
    return {"kernel": scorer.kernel, **measure_rate(scorer.score, pairs, rounds)}


def times_yardsticks(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return how many times as many papers each kernel does as each yardstick."""
    rate = "papers_per_cpu_second"
    return {
        kernel: {
            name: round(found[kernel][rate] / yardstick[rate], 2)
            for name, yardstick in found["yardsticks"].items()
        }
        for kernel in ("numpy", "c")
    }


def resident_mb(papers: list[Paper]) -> int:
    """Return the peak memory of a process that classifies a stream of papers in batches."""
    lines = "\n".join(json.dumps({"title": p.title, "abstract": p.abstract}) for p in papers)
    run = subprocess.run(
        [sys.executable, "-c", _CHILD], input=lines.encode(), capture_output=True, check=True
    )
    return round(int(run.stdout) / 1024)


def read(path: Path | None, n: int) -> list[Paper]:
    """Return n papers of a file, or invented ones."""
    if path is None:
        return list(sample_papers(SampleConfig(papers=n)))
    return [p for p in islice(read_papers(path), n) if isinstance(p, Paper)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the speeds of both kernels, of whole answers and of the yardsticks."""
    papers, rounds = read(options.papers, options.n), options.rounds
    pairs = [(p.title, p.abstract) for p in papers]
    arrays = load_scorer(load_bundle(find_bundle(None)))._arrays
    classifier = Classifier()
    answers = seconds_of(lambda: classifier.classify(papers), rounds)
    found = {
        "papers": len(papers),
        "invented": options.papers is None,
        "mean_bytes": round(statistics.mean(len(t) + len(a) for t, a in pairs)),
        "numpy": measure_kernel(LinearScorer(arrays, use_kernel=False), pairs, rounds),
        "c": measure_kernel(LinearScorer(arrays), pairs, rounds),
        "answers_per_cpu_second": round(len(papers) / answers),
        "max_resident_mb": resident_mb(papers),
        "yardsticks": {
            name: measure_rate(score, pairs, rounds) for name, score in text_yardsticks().items()
        },
    }
    return {**found, "times": times_yardsticks(found)}


FLAGS: dict[str, dict[str, Any]] = {
    "--papers": {"type": Path, "help": "file of papers; invented ones without it"},
    "--n": {"type": int, "default": 5_000, "help": "papers; 5,000"},
    "--rounds": {"type": int, "default": 9, "help": "of each measurement; 9"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, tiny={"n": 60, "rounds": 1})
