"""Measures the accuracy estimated without labels, and with few, against the truth by month.

python benchmarks/label_free.py --dataset DIR --model BUNDLE
    --output benchmarks/reports/label-free.json --plot docs/images/label-free.svg

BUNDLE was fitted on the training papers of DIR alone. The reference is a part of the valid papers,
as large as a bundle carries it; nothing of the test papers is used to fit an estimate. Months with
fewer than 50 papers are left out. The test papers of 2018-19 are stratified by category, those of
the 2020s capped per category, so months differ in the mix of categories, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import load_manifest, read_split
from classmark.evaluation import calibrated_probabilities, energy
from classmark.monitor.accuracy import LEAST_WINDOW, AccuracyEstimator
from classmark.pipeline.scoring import formula_share, score_dataset
from classmark.records import SILENT, ScoreTable
from classmark.runtime import features
from label_free_labels import LEVEL, glide_version, measure_alarms, measure_joining
from label_free_rivals import RIVALS, Case, Features, Rival
from peer_papers import read_frames
from report import run_benchmark, start_plot, write_plot

SIZES = (200, 1_000, 5_000)
REFERENCE, SEED, TOP, COMPONENTS = 4_000, 7, 10, 32
OURS, OTHER_REFERENCES = "learned difference", 5
Floats = NDArray[np.float64]
Windows = list[tuple[str, NDArray[np.intp]]]


class Projection:
    """Principal components of the centred text logits, of unit variance on the reference."""

    def __init__(self, table: ScoreTable) -> None:
        """Fit it on the reference."""
        scores = table.scores.astype(np.float64)
        self.centre = scores.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((scores - self.centre).T))
        most = min(COMPONENTS, len(values))
        self.basis = vectors[:, ::-1][:, :most] / np.sqrt(np.maximum(values[::-1][:most], 1e-9))

    def of(self, table: ScoreTable) -> NDArray[np.float32]:
        """Return them: float32 [n, d]."""
        return np.asarray((table.scores - self.centre) @ self.basis, dtype=np.float32)


@dataclass(frozen=True)
class Side:
    """A split: its scores without and with authors, and length and formulas of its texts."""

    text: ScoreTable
    joined: ScoreTable
    words: NDArray[np.int64]
    latex_share: NDArray[np.float32]


def read_side(options: argparse.Namespace, split: str) -> Side:
    """Return what is known of a split."""
    manifest = load_manifest(options.dataset)
    papers = read_split(options.dataset, split, manifest)
    texts = [f"{t}\n{a}" for t, a in zip(papers.titles, papers.abstracts, strict=True)]
    text, joined = (
        score_dataset(str(options.model), options.dataset, split, SILENT, authors=authors)
        for authors in (False, True)
    )
    words = np.array([len(one.split()) for one in texts])
    latex = np.array([formula_share(one) for one in texts], dtype=np.float32)
    return Side(text, joined, words, latex)


def features_of(side: Side, projection: Projection, *, authors: bool) -> Features:
    """Return the features of the papers of a split."""
    table = side.joined if authors else side.text
    chances = calibrated_probabilities(table.scores, table.temperature)
    top = np.argsort(-chances, axis=1, kind="stable")[:, :TOP]
    used = np.zeros(len(table), np.bool_) if table.used_authors is None else table.used_authors
    numbers = {
        "entropy": -(chances * np.log(chances + 1e-12)).sum(axis=1),
        "energy": energy(table.scores, table.temperature),
        "known_share": table.known_share,
        "log_words": np.log(np.maximum(side.words, 1)),
        "latex_share": side.latex_share,
    }
    nothing = np.zeros(len(table))
    columns = [numbers.get(name, nothing) for name in features.NUMBERS]
    flags = [
        used if name == "used_authors" else nothing.astype(np.bool_) for name in features.FLAGS
    ]
    return Features(
        labels=table.labels,
        top_labels=top,
        top_probs=np.take_along_axis(chances, top, axis=1).astype(np.float32),
        numbers=np.stack(columns, axis=1).astype(np.float32),
        flags=np.stack(flags, axis=1),
        projection=projection.of(side.text),
        truth=table.primary,
    )


def month_windows(dates: Sequence[str], least: int) -> Windows:
    """Return the rows of each month that has enough papers."""
    months = np.array([date[:7] for date in dates])
    found = ((str(month), np.flatnonzero(months == month)) for month in np.unique(months))
    return [(name, rows) for name, rows in found if len(rows) >= least]


class Times(NamedTuple):
    """Day and period of each paper."""

    dates: Sequence[str]
    periods: Sequence[str]


def sized_windows(times: Times, size: int) -> Windows:
    """Return windows of so many papers in a row, by date, none across two periods."""
    dates, periods = times
    order = np.lexsort((np.arange(len(dates)), np.array(dates)))
    named = np.array(periods)[order]
    windows = []
    for period in np.unique(named):
        rows = order[named == period]
        ends = range(size, len(rows) + 1, size)
        windows += [(str(dates[rows[end - size]][:7]), rows[end - size : end]) for end in ends]
    return windows


def measure_windows(
    estimator: AccuracyEstimator,
    reference: Features,
    papers: Features,
    windows: Windows,
    rivals: Mapping[str, Rival] = RIVALS,
) -> list[dict[str, Any]]:
    """Return truth, estimate and interval of each window, and what the rivals estimate."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    reference_chances = estimator.chances(reference)
    found = []
    for name, rows in windows:
        window = papers.rows(rows)
        chances = estimator.chances(window)
        ours = estimator.estimate(window, LEVEL)
        case = Case(reference, reference_chances, window, chances)
        truth = float(window.correct.mean())
        variance = float((chances * (1 - chances)).mean()) / len(rows)
        found.append(
            {
                "window": name,
                "papers": len(rows),
                "truth": round(truth, 4),
                "estimate": round(ours.value, 4),
                "low": round(ours.low, 4),
                "high": round(ours.high, 4),
                "covered": ours.low <= truth <= ours.high,
                "unlike": round(ours.unlike or 0.0, 4),
                "by_chance": round(sqrt(2 * variance / pi), 4),
                "sampling": round(z * sqrt(variance), 4),
                "rivals": {n: round(f(case), 4) for n, f in rivals.items()},
            }
        )
    return found


def summarise(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean error, bias and coverage by method, and what chance alone gives."""
    truth = np.array([one["truth"] for one in found])
    estimates = {OURS: np.array([one["estimate"] for one in found])}
    estimates |= {n: np.array([one["rivals"][n] for one in found]) for n in found[0]["rivals"]}
    reach = np.array([one["sampling"] for one in found])
    methods = {}
    for name, values in estimates.items():
        off = values - truth
        covered = np.abs(off) <= reach
        if name == OURS:
            covered = np.array([one["covered"] for one in found])
            reach_of = np.mean([one["high"] - one["low"] for one in found]) / 2
        else:
            reach_of = reach.mean()
        methods[name] = {
            "error_points": round(100 * float(np.abs(off).mean()), 2),
            "bias_points": round(100 * float(off.mean()), 2),
            "coverage": round(float(covered.mean()), 3),
            "half_width_points": round(100 * float(reach_of), 2),
        }
    chance = 100 * float(np.mean([one["by_chance"] for one in found]))
    return {"windows": len(found), "by_chance_points": round(chance, 2), "methods": methods}


def by_period(found: list[dict[str, Any]], times: Times) -> dict[str, Any]:
    """Return the summary of all windows, and of those of each period."""
    periods = {date[:7]: period for date, period in zip(*times, strict=True)}
    parts: dict[str, list[dict[str, Any]]] = {"all": found} if found else {}
    for one in found:
        parts.setdefault(periods[one["window"]], []).append(one)
    return {name: summarise(part) for name, part in parts.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is estimated without labels and with few, without and with authors."""
    valid, test = (read_side(options, split) for split in ("valid", "test"))
    dates = read_frames(options.dataset)["test"]["published_date"].to_list()
    drawn = np.random.default_rng(SEED).permutation(len(valid.text))[: options.reference]
    rows = np.sort(drawn)
    projection = Projection(valid.text.select(rows))
    result: dict[str, Any] = {
        "model": test.text.model.to_dict(), "dataset_digest": test.text.dataset_digest,
        "generated": test.text.generated, "level": LEVEL, "reference_papers": len(rows),
        "test_papers": len(dates), "glide": glide_version(),
    }  # fmt: skip
    for name, authors in (("text", False), ("with authors", True)):
        print(name, file=sys.stderr, flush=True)
        whole = features_of(valid, projection, authors=authors)
        papers = features_of(test, projection, authors=authors)
        times = Times(dates, test.text.periods)
        result[name] = measure_answers(whole.rows(rows), papers, times, options)
        result[name]["other_references"] = measure_references(whole, papers, times, options)
    return result


def measure_references(
    valid: Features, papers: Features, times: Times, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return error and coverage by month with other draws of the reference."""
    found = []
    months = month_windows(times.dates, LEAST_WINDOW)
    for seed in range(OTHER_REFERENCES):
        rows = np.random.default_rng([SEED, seed]).permutation(len(valid))[: options.reference]
        reference = valid.rows(np.sort(rows))
        estimator = AccuracyEstimator(reference, reference.truth)
        by_month = measure_windows(estimator, reference, papers, months, rivals={})
        parts = by_period(by_month, times)
        found.append({name: part["methods"][OURS] for name, part in parts.items()})
    return found


def measure_answers(
    reference: Features, papers: Features, times: Times, options: argparse.Namespace
) -> dict[str, Any]:
    """Return all that is measured of answers by the text alone, or with authors."""
    estimator = AccuracyEstimator(reference, reference.truth)
    months = month_windows(times.dates, LEAST_WINDOW)
    by_month = measure_windows(estimator, reference, papers, months)
    sizes = {}
    for size in options.sizes:
        found = measure_windows(estimator, reference, papers, sized_windows(times, size))
        if found:
            sizes[str(size)] = by_period(found, times)
    named = np.array(times.periods)
    whole = [(str(period), np.flatnonzero(named == period)) for period in np.unique(named)]
    return {
        "reference_accuracy": round(estimator.accuracy, 4),
        "months": by_month,
        "by_month": by_period(by_month, times),
        "by_size": sizes,
        "joined": measure_joining(estimator, papers, months, options.draws),
        "alarms": measure_alarms(
            reference, papers, whole, streams=options.streams, labels=options.labels
        ),
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw truth and estimate by month, and the interval by labels."""
    plt = start_plot()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=(3, 1)
    )
    months = result["with authors"]["months"]
    places = np.arange(len(months))
    truth, estimate, low, high = (
        [100 * one[key] for one in months] for key in ("truth", "estimate", "low", "high")
    )
    left.fill_between(places, low, high, color="#7a4a21", alpha=0.18, linewidth=0)
    left.plot(places, estimate, color="#7a4a21", label="estimate without labels")
    left.plot(places, truth, color="#404040", marker=".", linestyle="", label="truth")
    every = max(1, len(months) // 12)
    left.set_xticks(places[::every], [one["window"] for one in months[::every]], rotation=45)
    left.set(ylabel="top-1, % of the month's papers", ylim=(0, 100))
    left.legend(frameon=False, fontsize=8)
    cells = result["with authors"]["joined"]
    for name, colour in (("labels alone", "#808080"), ("joined", "#7a4a21")):
        halves = [100 * cell[name]["half_width"] for cell in cells]
        right.plot([cell["labels"] for cell in cells], halves, marker="o", color=colour, label=name)
    right.set(xlabel="labels of the month", ylabel="half of the 95 % interval, points")
    right.set_ylim(bottom=0)
    right.legend(frameon=False, fontsize=8)
    write_plot(figure, path)


FLAGS: dict[str, dict[str, Any]] = {
    "--dataset": {"type": Path, "required": True, "help": "folder of a built dataset"},
    "--model": {"type": Path, "required": True, "help": "bundle fitted on its training papers"},
    "--reference": {"type": int, "default": REFERENCE, "help": "valid papers to learn from"},
    "--sizes": {"type": int, "nargs": "*", "default": SIZES, "help": "papers of a window"},
    "--draws": {"type": int, "default": 10, "help": "draws of labels for each month"},
    "--streams": {"type": int, "default": 400, "help": "streams of labels for the alarm"},
    "--labels": {"type": int, "default": 2_000, "help": "labels of each stream"},
}  # fmt: skip
TINY = {"sizes": (60,), "draws": 1, "streams": 5, "labels": 60}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, tiny=TINY, plot=plot)
