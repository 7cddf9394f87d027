"""Says whether scoring has become slower since the last report, noise left out of account.

python benchmarks/regression.py [--against LAST.json] [--output THIS.json]

Each round times a yardstick and classmark one after the other on the same invented papers; what is
compared is their ratio, in which a slow or busy machine cancels. Processes differ more than rounds
do (where memory lies, what runs beside them), so a measurement is the median of each of several
processes. Something is slower if the whole 99 % interval of (these medians / the last ones) lies
above 1 + tolerance, and again in a second measurement: exit code 1. Reports of other processors are
not compared.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classmark import Classifier
from classmark.bundle import load_bundle
from classmark.bundle.find import find_bundle
from classmark.dataset import SampleConfig, sample_papers
from classmark.kernels.linear import LinearScorer, load_scorer
from report import cpu_name, run_benchmark
from yardsticks import text_yardsticks

TOLERANCE = 0.1
RESAMPLES, SEED, OUTSIDE = 2_000, 7, 0.5  # percent left out at each end of an interval
Ratios = dict[str, list[float]]


def ratios(options: argparse.Namespace) -> Ratios:
    """Return the time of each way to score, as a share of the yardstick's; a value per process."""
    words = ["--n", str(options.n), "--rounds", str(options.rounds), "--one-process"]
    blocks = []
    for _ in range(options.processes):
        command = [sys.executable, __file__, *words]
        blocks.append(
            json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        )
    return {name: [block[name] for block in blocks] for name in blocks[0]}


def one_process(n: int, rounds: int) -> dict[str, float]:
    """Return the median ratio of each way to score, in this process.

    Args:
        n: invented papers.
        rounds: measured, after one to warm up.
    """
    papers = list(sample_papers(SampleConfig(papers=n)))
    pairs = [(paper.title, paper.abstract) for paper in papers]
    arrays = load_scorer(load_bundle(find_bundle(None)))._arrays
    classifier, yardstick = Classifier(), text_yardsticks()["python"]
    kernel, plain = LinearScorer(arrays), LinearScorer(arrays, use_kernel=False)
    ways: dict[str, Callable[[], object]] = {
        "kernel": lambda: kernel.score(pairs),
        "numpy": lambda: plain.score(pairs),
        "answers": lambda: classifier.classify(papers),
    }
    found: Ratios = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            ratio = _seconds(way) / _seconds(lambda: yardstick(pairs))
            if number:
                found[name].append(ratio)
    return {name: round(statistics.median(values), 5) for name, values in found.items()}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return max(time.process_time() - start, 1e-6)


def slowdown(now: Sequence[float], before: Sequence[float]) -> dict[str, float]:
    """Return how many times as long it takes now, with the interval that noise leaves.

    Args:
        now: ratios of this measurement.
        before: of the last report.
    """
    rng = np.random.default_rng(SEED)
    medians = [
        np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
        for values in (np.asarray(now), np.asarray(before))
    ]
    low, high = np.percentile(medians[0] / medians[1], [OUTSIDE, 100 - OUTSIDE])
    value = float(np.median(now) / np.median(before))
    return {"value": round(value, 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def slower(now: Ratios, before: Mapping[str, Sequence[float]], tolerance: float) -> list[str]:
    """Return what takes longer than before by more than the tolerance, whatever the noise."""
    return [
        name
        for name, values in now.items()
        if name in before and slowdown(values, before[name])["low"] > 1 + tolerance
    ]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the ratios, and how they compare with the last report."""
    now = ratios(options)
    report: dict[str, Any] = {"papers": options.n, "ratios": now, "slower": []}
    if options.against is None or not options.against.exists():
        return {**report, "compared": "no last report"}
    last = json.loads(options.against.read_text(encoding="utf-8"))
    if last["provenance"]["kernel"] != LinearScorer.best_kernel() or _cpu(last) != _cpu(None):
        return {**report, "compared": "the last report is of another processor"}
    before = last["ratios"]
    found = slower(now, before, options.tolerance)
    if found:
        print(f"slower: {', '.join(found)}; measuring again", file=sys.stderr)
        again = ratios(options)
        found = [name for name in found if name in slower(again, before, options.tolerance)]
    changes = {name: slowdown(values, before[name]) for name, values in now.items()}
    return {**report, "compared": changes, "slower": found}


def _cpu(report: Mapping[str, Any] | None) -> str:
    return str(report["provenance"]["cpu"]) if report else cpu_name()


FLAGS: dict[str, dict[str, Any]] = {
    "--against": {"type": Path, "help": "last report; without it nothing is compared"},
    "--n": {"type": int, "default": 1000, "help": "papers; 1,000"},
    "--processes": {"type": int, "default": 9, "help": "of each measurement; 9"},
    "--rounds": {"type": int, "default": 9, "help": "of each process; 9"},
    "--tolerance": {"type": float, "default": TOLERANCE, "help": f"{TOLERANCE}"},
}


def parser_of_one() -> argparse.ArgumentParser:
    """Return the parser of a process that this program starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one-process", action="store_true")
    for name in ("--n", "--rounds"):
        parser.add_argument(name, **FLAGS[name])
    return parser


def main() -> int:
    """Measure, write the report, and say what has become slower."""
    if "--one-process" in sys.argv:
        options = parser_of_one().parse_args()
        print(json.dumps(one_process(options.n, options.rounds)))
        return 0
    found: dict[str, Any] = {}

    def keep(options: argparse.Namespace) -> dict[str, Any]:
        found.update(measure(options))
        return found

    run_benchmark(__doc__, keep, FLAGS, tiny={"n": 40, "processes": 2, "rounds": 2})
    compared = found["compared"]
    if isinstance(compared, str):
        print(f"not compared: {compared}", file=sys.stderr)
        return 0
    for name, change in compared.items():
        state = "SLOWER" if name in found["slower"] else "not slower"
        line = f"{name}: {change['value']} times the time ({change['low']} to {change['high']})"
        print(f"{line}, {state}", file=sys.stderr)
    return 1 if found["slower"] else 0


if __name__ == "__main__":
    sys.exit(main())
