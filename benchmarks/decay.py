"""Measures how the fast tier ages: fitted to the end of a year, tested on each year after it.

python benchmarks/decay.py --data DATA --work WORK --output benchmarks/reports/decay.json
    --plot docs/images/decay.svg

Two series: ``recent`` fits on the newest N papers known at the end of a year, so that age alone
varies; ``all`` on every paper known then, which is what one would do, but grows with the years.
Test papers are drawn once and are in no fit. Fits are kept in --work: a second run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from classmark.dataset import load_manifest
from classmark.evaluation import EvaluationConfig, evaluate_table
from decay_curves import (
    Bucket,
    interval,
    measure_loss,
    measure_recovery,
    mix_weights,
    weighted_share,
)
from decay_fits import Fit, fit, plan_fit
from decay_plot import plot
from peer_papers import FLAGS, draw_capped, find_dataset, first_ranked, read_frames
from report import run_benchmark

N_RECENT, N_TEST, CAP_TEST, MOST_SHARE = 50_000, 3_000, 40, 0.3
# The decade, and what there is of the next; its file is capped a category, so its test is too.
BUCKETS = {**{str(y): (y, y) for y in range(2010, 2020)}, "2023-24": (2020, 2024)}
BUCKETS |= {"2025": (2025, 2025), "2026": (2026, 2026)}
FIRST_CAPPED = 2020
FITS = {
    "recent": (*range(2009, 2020), 2024, 2025, 2026),
    "all": (2009, 2012, 2015, 2018, 2026),
}
# A tenth of the papers needs more passes; chosen on the valid papers of peers.py (docs/log.md).
TRAIN = {"recent": ("model.epochs=10",), "all": ()}
SCHEDULES = {"recent": {"every year": 1, "every 3 years": 3}, "all": {"every 3 years": 3}}
_PERIODS = ",".join(f"{last}-12-31" for _, last in list(BUCKETS.values())[:-1])


def read_papers(dataset: Path) -> pl.DataFrame:
    """Return all papers of a dataset, whatever split they are in, in order of time."""
    frame = pl.concat(read_frames(dataset).values())
    year = pl.col("published_date").str.slice(0, 4).cast(pl.Int32).alias("year")
    return frame.with_columns(year).sort("published_date", "id")


def draw_test(papers: pl.DataFrame, n: int) -> dict[str, pl.DataFrame]:
    """Return the test papers of each bucket that has any: at most n, and at most 30 % of it."""
    drawn = {}
    for name, (first, last) in BUCKETS.items():
        bucket = papers.filter(pl.col("year").is_between(first, last))
        if first >= FIRST_CAPPED:
            bucket = draw_capped(bucket, CAP_TEST, MOST_SHARE)
            chosen = first_ranked(bucket, n)
        else:
            chosen = first_ranked(bucket, min(n, int(len(bucket) * MOST_SHARE)))
        if len(chosen):
            drawn[name] = chosen
    return drawn


def make_fits(papers: pl.DataFrame, test: dict[str, pl.DataFrame], options: Any) -> list[Fit]:
    """Return every fit of both series, made now or found in the work folder."""
    held_out = pl.concat(test.values())
    pool = papers.join(held_out, on="id", how="anti", maintain_order="left")
    sizes = {"recent": options.recent, "all": None}
    last = int(pool["year"].max())  # type: ignore[arg-type]
    space = load_manifest(options.dataset, verify=False).label_space
    return [
        fit(task, options.work / "fits", _PERIODS, space)
        for series in options.series.split(",")
        for until in (options.until or FITS[series])
        if until <= last
        for task in [plan_fit(pool, held_out, until, sizes[series], TRAIN[series])]
    ]


def read_buckets(fits: list[Fit], test: dict[str, pl.DataFrame]) -> list[Bucket]:
    """Return the test papers by bucket, with the hits of every fit on them."""
    places = [{identifier: row for row, identifier in enumerate(f.table.ids)} for f in fits]
    buckets = []
    for name, frame in test.items():
        # A dataset drops a test paper that is also, word for word, among its other papers.
        ids = [i for i in frame["id"].to_list() if all(i in place for place in places)]
        hits = {}
        for f, place in zip(fits, places, strict=True):
            rows = np.array([place[i] for i in ids], dtype=np.intp)
            right = f.table.scores[rows].argmax(axis=1) == f.table.primary[rows]
            hits[f.series, f.until] = right.astype(np.float64)
        buckets.append(Bucket(name, BUCKETS[name][1], fits[-1].table.primary[rows], hits))
    return buckets


def measure_cell(fit: Fit, bucket: Bucket, reference: Any) -> dict[str, Any]:
    """Return how a fit does on a bucket: accuracy as it is, at the fixed mix, and where seen."""
    names = {str(identifier): i for i, identifier in enumerate(fit.table.labels)}
    seen_labels = np.zeros(len(names), dtype=np.bool_)
    seen_labels[[names[label] for label in fit.cost["labels"] if label in names]] = True
    hits, seen = bucket.hits[fit.series, fit.until], seen_labels[bucket.primary].astype(np.float64)
    counts, once = bucket.draws(), np.ones((1, len(hits)))
    weights, covered = mix_weights(bucket.primary, reference)
    cell = {"series": fit.series, "until": fit.until, "test": bucket.name}
    cell |= {"age": bucket.year - fit.until, "papers": len(hits)}
    cell["top_1"] = interval(float(hits.mean()), counts @ hits / len(hits))
    cell["unseen_share"] = round(float(1 - seen.mean()), 4)
    for name, of in (("top_1_fixed_mix", weights), ("top_1_seen", seen)):
        value = float(weighted_share(hits, of, once)[0])
        drawn = weighted_share(hits, of, counts)
        cell[name] = interval(value, drawn) if of.any() else None
    return {**cell, "mix_covered": round(covered, 4)}


def measure_cells(fits: list[Fit], buckets: list[Bucket]) -> list[dict[str, Any]]:
    """Return a cell for each fit and each bucket that is not older than it, with macro-F1.

    The fixed mix is that of all test papers before the capped years together.
    """
    usual = [b.primary for b in buckets if b.year < FIRST_CAPPED] or [b.primary for b in buckets]
    labels = fits[0].table.labels
    pooled = np.bincount(np.concatenate(usual), minlength=len(labels))
    cells = []
    for one in fits:
        report = evaluate_table(one.table, config=EvaluationConfig(draws=0))
        slices = {s.name: s.metrics for s in report.periods}
        for bucket in buckets:
            if bucket.year < one.until:
                continue
            cell = measure_cell(one, bucket, pooled / pooled.sum())
            metrics = slices[_period_of(bucket.name)]
            cells.append({**cell, **{m: round(metrics[m].value, 4) for m in ("top_5", "macro_f1")}})
    return cells


def _period_of(bucket: str) -> str:
    return {"2023-24": "2020-2024", "2026": "from-2026", "2010": "until-2010"}.get(bucket, bucket)


def schedule(untils: list[int], every: int, year: int) -> int:
    """Return the last year of the fit in use in a year, if one is made every so many years.

    Fits fall due at the end of the first year, and so many years after; one that falls due in a
    year without new papers is the fit of the last year that had some.
    """
    due = max(range(untils[0], year, every), default=untils[0])
    return max(until for until in untils if until <= due)


def measure_schedules(buckets: list[Bucket], series: str) -> list[dict[str, Any]]:
    """Return what each schedule recovers: in each bucket, and over the decade together."""
    untils = sorted({until for s, until in buckets[0].hits if s == series})
    found = []
    for name, every in SCHEDULES[series].items():
        usable = []
        for bucket in buckets:
            now = schedule(untils, every, bucket.year)
            if bucket.year in untils and now != untils[0]:
                keys = ((series, untils[0]), (series, now), (series, bucket.year))
                usable.append((bucket, keys))
        decade = [pair for pair in usable if pair[0].year < FIRST_CAPPED]
        parts = [(b.name, [(b, k)]) for b, k in usable]
        parts += [("together until 2019", decade)] if decade else []
        for part, pairs in parts:
            measured = measure_recovery([b for b, _ in pairs], [k for _, k in pairs])
            if measured:
                found.append({"series": series, "schedule": name, "test": part, **measured})
    return found


def list_in_use(
    cells: list[dict[str, Any]], buckets: list[Bucket], series: str
) -> dict[str, list[dict[str, Any]]]:
    """Return, for each schedule, the cell of the fit that is in use in each bucket.

    ``never`` is the first fit throughout, ``same year`` one that has seen the bucket's own time.
    """
    found = {(c["until"], c["test"]): c for c in cells if c["series"] == series}
    untils = sorted({until for until, _ in found})
    chosen = {"same year": {b.name: b.year for b in buckets}}
    for name, every in SCHEDULES[series].items():
        chosen[name] = {b.name: schedule(untils, every, b.year) for b in buckets}
    chosen["never"] = {b.name: untils[0] for b in buckets}
    return {
        name: [found[until, test] for test, until in uses.items() if (until, test) in found]
        for name, uses in chosen.items()
    }


def describe(fits: list[Fit], buckets: list[Bucket], options: Any) -> dict[str, Any]:
    """Return the report."""
    manifest = load_manifest(options.dataset, verify=False)
    series = options.series.split(",")
    cells = measure_cells(fits, buckets)
    # Later papers come from other feeds: what is lost on them is not lost to age alone.
    decade = [b for b in buckets if b.year < FIRST_CAPPED]
    return {
        "note": "Compare CPU-seconds, not wall, where the machine was shared.",
        "dataset_digest": manifest.digest,
        "generated": manifest.generated,
        "settings": {
            "recent_papers": options.recent,
            "test_papers_at_most": options.test,
            "train": TRAIN,
        },
        "tests": {
            b.name: {"papers": len(b.primary), "categories": len(np.unique(b.primary))}
            for b in buckets
        },
        "fits": [
            {"series": f.series, "until": f.until, **f.cost, "labels": len(f.cost["labels"])}
            for f in fits
        ],
        "cells": cells,
        "in_use": {s: list_in_use(cells, buckets, s) for s in series},
        "lost_by_age": {s: measure_loss(decade or buckets, s) for s in series},
        "recovered": [row for s in series for row in measure_schedules(buckets, s)],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit, and return what was measured."""
    options.dataset = find_dataset(options.dataset, options.data, options.work)
    papers = read_papers(options.dataset)
    test = draw_test(papers, options.test)
    fits = make_fits(papers, test, options)
    return describe(fits, read_buckets(fits, test), options)


if __name__ == "__main__":
    flags = {
        **FLAGS,
        "--recent": {"type": int, "default": N_RECENT, "help": "papers of a recent fit; 50,000"},
        "--test": {"type": int, "default": N_TEST, "help": "most test papers of a year; 3,000"},
        "--series": {"default": "recent,all", "help": "which fits to make"},
        "--until": {"type": int, "nargs": "*", "help": "last years of the fits instead"},
    }
    tiny = {"recent": 300, "test": 60, "until": [2009, 2014], "series": "recent"}
    run_benchmark(__doc__, measure, flags, tiny=tiny, plot=plot)
