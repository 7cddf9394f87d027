"""Replays ten years month by month and measures when a new model is worth its cost.

python benchmarks/retrain_policy.py --data DATA --work WORK
    --output benchmarks/reports/retrain-policy.json --plot docs/images/retrain-policy.svg

The first champion is fitted on the newest papers at the end of the first year. It answers the
papers of the next month, the monitor looks at them, a rule decides, and a new model serves from the
month after. A second run finds the fits, the answers and the looks of the first in --work. Set
OMP_NUM_THREADS=1, so that CPU-seconds count no waiting threads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from classmark.dataset import load_manifest
from classmark.monitor.policy import WatchPolicy
from classmark.records import RetrainState
from classmark.retrain import RetrainPolicy
from decay import read_papers
from peer_papers import FLAGS, find_dataset
from report import run_benchmark
from retrain_fits import TRAIN, make_timeline
from retrain_looks import Monitor
from retrain_plot import plot
from retrain_rules import (
    Moment,
    Rule,
    ended_order,
    every,
    first_moment_after,
    never,
    on_alarm,
    on_decision,
    on_estimate,
)
from retrain_warm import measure_warm

FIRST, LAST, READ_FROM = "2009-12", "2019-12", "2008-01"
N_TRAIN, N_VALID, MOST_PAPERS = 30_000, 3_000, 2_000
NEVER, MONTHLY, DEFAULT = "never", "monthly", "default"
_Z = 1.96
SCHEDULES = {MONTHLY: 1, "quarterly": 3, "every 4 months": 4, "every 6 months": 6,
             "every 9 months": 9, "yearly": 12}  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """What a rule did: for each month the champion that answered, and the retrains."""

    months: tuple[str, ...]
    champions: tuple[str, ...]

    @property
    def retrains(self) -> tuple[str, ...]:
        """Return the months at whose end a model was fitted, without the first."""
        return tuple(dict.fromkeys(self.champions))[1:]


def rules() -> dict[str, tuple[str, Rule]]:
    """Return kind and rule of each policy, by its name."""
    found: dict[str, tuple[str, Rule]] = {NEVER: ("schedule", never())}
    found |= {name: ("schedule", every(months)) for name, months in SCHEDULES.items()}
    usual = WatchPolicy()
    found[DEFAULT] = ("decide", on_decision(RetrainPolicy(), usual))
    for days in (60.0, 180.0):
        policy = RetrainPolicy(cooldown_days=days)
        found[f"cooldown {days:g} days"] = ("decide", on_decision(policy, usual))
    for days in (180.0, 365.0):
        policy = RetrainPolicy(most_age_days=days)
        found[f"age {days:g} days"] = ("decide", on_decision(policy, usual))
    for tolerance in (0.02, 0.03):
        found[f"estimate {100 * tolerance:g} points lower"] = ("estimate", on_estimate(tolerance))
    for watch in (usual, WatchPolicy(retrain_size=0.1)):
        found[f"alarm of {watch.retrain_size:g}"] = ("alarm", on_alarm(watch))
    return found


def replay(monitor: Monitor, rule: Rule, months: Sequence[str]) -> Run:
    """Return what a rule does over months; the first champion is of the month before them."""
    names = monitor.timeline.months
    fitted = names.index(months[0]) - 1
    champions: list[str] = []
    orders: list[RetrainState] = []
    for month in months:
        champions.append(names[fitted])
        moment = Moment(monitor, names.index(month), fitted, tuple(orders))
        if month != months[-1] and rule(moment):
            at_utc = first_moment_after(month)
            orders.append(ended_order(names[fitted], at_utc, monitor.timeline.cpu_s(month)))
            fitted = moment.place
    return Run(tuple(months), tuple(champions))


def hits_of(monitor: Monitor, run: Run) -> list[NDArray[np.bool_]]:
    """Return the hits of a run on the papers of each month."""
    return [monitor.hits(c, m) for c, m in zip(run.champions, run.months, strict=True)]


def recovered(
    stale: Sequence[NDArray[np.bool_]],
    own: Sequence[NDArray[np.bool_]],
    best: Sequence[NDArray[np.bool_]],
) -> dict[str, float] | None:
    """Return the share of what age costs that a policy recovers, with an interval of 95 %.

    Months count alike. The interval is for the draw of papers, by the delta method; it holds
    nothing of the chance of a fit.

    Args:
        stale: hits by month without any retrain.
        own: those of the policy.
        best: those of the policy that retrains most.

    Returns:
        None if the best one has not gained anything.
    """
    gained = [np.subtract(o, s, dtype=np.float64) for o, s in zip(own, stale, strict=True)]
    lost = [np.subtract(b, s, dtype=np.float64) for b, s in zip(best, stale, strict=True)]
    whole = float(np.mean([m.mean() for m in lost]))
    if whole <= 0:
        return None
    value = float(np.mean([m.mean() for m in gained])) / whole
    errors = [(g - value * m) / whole for g, m in zip(gained, lost, strict=True)]
    spread = _Z * float(np.sqrt(sum(e.var() / len(e) for e in errors))) / len(errors)
    bounds = {"value": value, "low": value - spread, "high": value + spread}
    return {name: round(number, 4) for name, number in bounds.items()}


def measure_run(monitor: Monitor, run: Run, ends: Mapping[str, Run], kind: str) -> dict[str, Any]:
    """Return what a policy did, what it cost and what it recovered.

    Args:
        monitor: has the answers.
        run: of the policy.
        ends: the runs without a retrain, and with one every month.
        kind: of the policy.
    """
    own, stale, best = (hits_of(monitor, r) for r in (run, ends[NEVER], ends[MONTHLY]))
    sizes = monitor.timeline.sizes
    papers = np.array([sizes[monitor.timeline.months.index(m)] for m in run.months])
    accuracy = np.array([m.mean() for m in own])
    # All fits are of as many papers: their mean has less of what else the machine did.
    each_s = float(np.mean([monitor.timeline.cpu_s(month) for month in ends[MONTHLY].retrains]))
    return {
        "kind": kind,
        "retrains": len(run.retrains),
        "at": list(run.retrains),
        "cpu_hours": round(len(run.retrains) * each_s / 3600, 3),
        "cost_share": round(len(run.retrains) / len(ends[MONTHLY].retrains), 4),
        "accuracy": round(float(accuracy.mean()), 4),
        "accuracy_per_paper": round(float(np.average(accuracy, weights=papers)), 4),
        "recovered": recovered(stale, own, best),
        "recovered_per_paper": _per_paper((stale, own, best), papers),
        "recovered_until_2017": _until(run.months, (stale, own, best), "2018"),
        "by_month": [round(float(value), 4) for value in accuracy],
    }


def _per_paper(hits: Sequence[Any], papers: NDArray[np.int64]) -> float | None:
    """Return the share recovered where months count by their papers."""
    stale, own, best = (np.average([m.mean() for m in h], weights=papers) for h in hits)
    return round(float((own - stale) / (best - stale)), 4) if best > stale else None


def _until(months: Sequence[str], hits: Sequence[Any], end: str) -> dict[str, float] | None:
    """Return the share recovered in the months before a year."""
    n = sum(month < end for month in months)
    stale, own, best = (h[:n] for h in hits)
    return recovered(stale, own, best) if n else None


def measure_signals(monitor: Monitor, runs: Mapping[str, Run], ages: int) -> list[dict[str, Any]]:
    """Return what the monitor says of models by their age, beside what they have really lost.

    The loss is against the newest model of each month, on the same papers.
    """
    names = monitor.timeline.months
    newest = dict(zip(runs[MONTHLY].months, runs[MONTHLY].champions, strict=True))
    rows: dict[int, list[tuple[float, ...]]] = {}
    pairs = {p for r in runs.values() for p in zip(r.champions, r.months, strict=True)}
    for until, month in sorted(pairs):
        age = names.index(month) - names.index(until)
        if age > ages or not monitor.has_report(until, month):
            continue
        report, hits = monitor.report(until, month), monitor.hits(until, month)
        if report.accuracy is None or report.size is None:
            continue
        lost = float(monitor.hits(newest[month], month).mean() - hits.mean())
        estimate = report.accuracy
        rows.setdefault(age, []).append(
            (
                lost,
                estimate.reference - float(hits.mean()),
                estimate.reference - estimate.value,
                report.size.share,
                float(report.action in ("retrain", "page")),
                float(estimate.low <= hits.mean() <= estimate.high),
            )
        )
    keys = ("lost", "below_reference", "estimated_below", "size", "alarms", "covered")
    return [
        {"age": age, "looks": len(rows[age])}
        | dict(zip(keys, np.mean(rows[age], axis=0).round(4).tolist(), strict=True))
        for age in sorted(rows)
    ]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the report."""
    dataset = find_dataset(options.dataset, options.data, options.work)
    manifest = load_manifest(dataset, verify=False)
    month = pl.col("published_date").str.slice(0, 7)
    papers = read_papers(dataset).filter((month >= READ_FROM) & (month <= LAST))
    folder = options.work / f"months-{manifest.digest[:12]}"
    timeline = make_timeline(papers, manifest.label_space, folder, options.train, options.valid)
    monitor = Monitor(timeline, timeline.kept, options.papers)
    months = [m for m in timeline.months if options.first < m <= options.last]
    chosen, runs = rules(), {}
    for name, (_, rule) in chosen.items():
        print(f"replaying {name}", file=sys.stderr, flush=True)
        runs[name] = replay(monitor, rule, months)
        top_1 = np.mean([hits.mean() for hits in hits_of(monitor, runs[name])])
        print(f"{top_1:.4f}, {len(runs[name].retrains)} retrains", file=sys.stderr, flush=True)
    ends = {name: runs[name] for name in (NEVER, MONTHLY)}
    return {
        "note": "A retrain costs the mean CPU-seconds of all fits, reading their papers included; "
        "the first fit does not count.",
        "dataset_digest": manifest.digest,
        "generated": manifest.generated,
        "settings": {
            "fit_papers": options.train,
            "valid_papers": options.valid,
            "papers_of_a_month_at_most": options.papers,
            "first_fit": options.first,
            "train": TRAIN,
            "default": asdict(RetrainPolicy()),
        },
        "months": months,
        "papers": [timeline.sizes[timeline.months.index(month)] for month in months],
        "policies": {
            name: measure_run(monitor, run, ends, chosen[name][0]) for name, run in runs.items()
        },
        "signals": measure_signals(monitor, runs, options.ages),
        "warm": measure_warm(monitor, months),
    }


if __name__ == "__main__":
    flags = {
        **FLAGS,
        "--first": {"default": FIRST, "help": "month at whose end the first model is fitted"},
        "--last": {"default": LAST, "help": "last month of the replay"},
        "--train": {"type": int, "default": N_TRAIN, "help": "papers of a fit; 30,000"},
        "--valid": {"type": int, "default": N_VALID, "help": "further papers, held out; 3,000"},
        "--papers": {"type": int, "default": MOST_PAPERS, "help": "maximum papers of a month"},
        "--ages": {"type": int, "default": 24, "help": "months of age up to which looks are shown"},
    }
    tiny = {"first": "2012-12", "last": "2013-08", "train": 400, "valid": 300, "papers": 100}
    run_benchmark(__doc__, measure, flags, tiny=tiny, plot=plot)
