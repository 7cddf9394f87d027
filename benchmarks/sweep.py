"""The trials of a sweep, and its best options beside the default: other seeds, other papers.

python benchmarks/sweep.py --study DIR --dataset DIR --work DIR [--seeds 8,9,10] --output FILE

DIR of the study is what `classmark sweep` printed. The best trial was chosen by the valid split and
by one seed; here both configurations are fitted with other seeds, and compared on the test split,
which no trial was compared by. A fit that is finished in the work folder is not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.records import RunRecord, ScoreTable, SweepReport
from classmark.tracking.runs import read_summary
from report import Measured, run_benchmark

_METRICS = ("top_1", "top_5", "macro_f1", "ece_calibrated")
_NORMAL_95 = 1.96


def fitted(folder: Path, options: argparse.Namespace, *overrides: str) -> Path:
    """Return the run of a configuration; it is fitted if there is none."""
    runs = sorted(folder.glob(f"*/{RunRecord.FILE}"))
    if not runs:
        command = [sys.executable, "-m", "classmark", "train", f"dataset.path={options.dataset}"]
        words = ["tracker=csv", f"runs_dir={folder}", *overrides]
        subprocess.run([*command, *words], check=True)
        runs = sorted(folder.glob(f"*/{RunRecord.FILE}"))
    return runs[-1].parent


def right(run: Path, split: str) -> NDArray[np.float64]:
    """Return which papers of a split a run gets right: float [n], 0 or 1."""
    table = ScoreTable.read(run / "scores" / f"model-{split}.npz")
    return np.asarray(table.scores.argmax(axis=1) == table.primary, dtype=np.float64)


def numbers(run: Path) -> Measured:
    """Return the metrics of a run on both splits, and its CPU-bound time as it was measured."""
    summary = read_summary(run)
    found = {
        f"{split}/{name}": round(summary.metrics[f"{split}/{name}"], 5)
        for split in ("valid", "test")
        for name in _METRICS
        if f"{split}/{name}" in summary.metrics
    }
    return {**found, "seconds": summary.record.fit_seconds}


def difference(best: list[Path], default: list[Path], split: str) -> Measured:
    """Return how much more accurate the best options are, in points, with a paired interval.

    A paper counts by the share of seeds that get it right; the interval is over papers.
    """
    ours, theirs = (
        np.mean([right(run, split) for run in runs], axis=0) for runs in (best, default)
    )
    d = 100 * (ours - theirs)
    error = _NORMAL_95 * d.std(ddof=1) / np.sqrt(len(d))
    return {
        "papers": len(d),
        "points": round(float(d.mean()), 3),
        "low": round(float(d.mean() - error), 3),
        "high": round(float(d.mean() + error), 3),
    }


def measure(options: argparse.Namespace) -> Measured:
    """Return the study's report with the comparison."""
    study: Path = options.study
    text = (study / "sweep.json").read_text(encoding="utf-8")
    report = SweepReport.from_dict(json.loads(text))
    experiments = {"default": [], "best": [f"experiment={study / 'best.yaml'}"]}
    seeds = [int(seed) for seed in options.seeds.split(",")]
    runs = {
        name: [
            fitted(options.work / f"{name}-{seed}", options, *words, f"seed={seed}")
            for seed in seeds
        ]
        for name, words in experiments.items()
    }
    comparison: dict[str, Any] = {
        "seeds": seeds,
        "runs": {name: [numbers(run) for run in found] for name, found in runs.items()},
        "difference": {
            split: difference(runs["best"], runs["default"], split) for split in ("valid", "test")
        },
    }
    return {**report.to_dict(), "comparison": comparison}


if __name__ == "__main__":
    run_benchmark(
        __doc__,
        measure,
        {
            "--study": {"type": Path, "required": True, "help": "folder of the study"},
            "--dataset": {"type": Path, "required": True, "help": "that it was begun on"},
            "--work": {"type": Path, "required": True, "help": "folder for the fits"},
            "--seeds": {"default": "8,9,10", "help": "of the fits, none of them the sweep's"},
        },
    )
