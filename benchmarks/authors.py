"""Measures what authors add to a fitted run: by how many are known, how long they wrote, how large.

python benchmarks/authors.py --dataset DIR --run RUN --model BUNDLE
    --output benchmarks/reports/authors.json --plot docs/images/authors.svg

RUN is a run of the linear model on DIR with an author table, and BUNDLE what `export` made of it.
Each group of the test papers is measured by the text alone and with authors, on the same papers.
Smaller tables are counted and fitted again; the weights of every size are fitted on the valid
papers.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import iter_authors, load_manifest
from classmark.evaluation import EvaluationConfig, compare_shares, evaluate_table, fit_temperature
from classmark.export import fit_curve
from classmark.pipeline.authors import (
    FittedAuthors,
    fit_author_join,
    fit_authors,
    join_table,
    read_authors,
)
from classmark.pipeline.scoring import Source, score_dataset, with_curve
from classmark.records import SILENT, RunRecord, ScoreTable
from quote_prose import UNBOUNDED
from report import run_benchmark, start_plot, write_plot

ENTRIES = (125_000, 250_000, 500_000, 1_000_000, 1_500_000)
KNOWN = ((0, 0), (1, 1), (2, 2), (3, 5), (6, UNBOUNDED))
PAPERS = ((0, 0), (1, 1), (2, 4), (5, 19), (20, UNBOUNDED))
OF_SIZES = ("top_1", "top_5", "macro_f1")
METRICS = (
    "top_1",
    "top_5",
    "macro_f1",
    "ece",
    "ece_floor",
    "precision_at_1_listed",
    "set_coverage",
    "set_size",
)
SEED = 7
LEAST_PAPERS = 30
"""Fewer papers of a group say nothing."""


def metrics_of(table: ScoreTable, wanted: Sequence[str] = METRICS) -> dict[str, Any]:
    """Return metrics of a table over all papers and by period."""
    report = evaluate_table(table, config=EvaluationConfig(draws=0))
    parts = [("all", report.n, report.metrics)]
    parts += [(part.name, part.n, part.metrics) for part in report.periods]
    return {
        name: {"papers": n, **{key: round(m[key].value, 6) for key in wanted}}
        for name, n, m in parts
    }


def by_group(
    text: ScoreTable, joined: ScoreTable, values: NDArray[Any], bounds: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Return top-1 of both tables for the papers whose value is within bounds, and the gain."""
    right = [table.scores.argmax(axis=1) == table.primary for table in (text, joined)]
    groups = []
    for low, high in bounds:
        rows = np.flatnonzero((values >= low) & (values <= high))
        if len(rows) < LEAST_PAPERS:
            continue
        before, after = (one[rows] for one in right)
        change = compare_shares(before, after, EvaluationConfig())
        groups.append(
            {
                "from": low,
                "to": high,
                "papers": len(rows),
                "text": round(float(before.mean()), 4),
                "with_authors": round(float(after.mean()), 4),
                "gain": {end: round(getattr(change, end) or 0.0, 4)
                         for end in ("difference", "low", "high")},
            }
        )  # fmt: skip
    return groups


def sizes_of(fitted: FittedAuthors) -> dict[str, Any]:
    """Return the entries and names of a table, and its bytes as arrays and compressed."""
    arrays = [array.tobytes() for array in fitted.arrays.arrays().values()]
    return {
        "entries": fitted.facts.entries,
        "names": fitted.facts.names,
        "mb": round(sum(map(len, arrays)) / 1e6, 2),
        "mb_compressed": round(sum(len(zlib.compress(array, 9)) for array in arrays) / 1e6, 2),
    }


def careers_of(fitted: FittedAuthors, source: Source, test: ScoreTable) -> NDArray[np.int64]:
    """Return how many earlier papers the known author with most of them has: int64 [n]."""
    names = iter_authors(source.dataset, "test", source.manifest)
    return np.array(
        [
            max((c.papers.total() for c in fitted.table.careers(authors, year)), default=0)
            for authors, year in zip(names, test.years.tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def with_table(
    fitted: FittedAuthors, source: Source, valid: ScoreTable, test: ScoreTable, temperature: float
) -> ScoreTable | None:
    """Return the test papers with a table; None if it does not help."""
    found = fit_author_join(source, fitted, valid, temperature)
    return None if found is None else join_table(found[0], source, test, temperature)


def by_size(
    fitted: FittedAuthors, source: Source, run: Path, entries: Sequence[int]
) -> list[dict[str, Any]]:
    """Return size and metrics of smaller tables, and of the whole one."""
    raw = {s: ScoreTable.read(run / f"scores/model-{s}.npz") for s in ("valid", "test")}
    curve = fit_curve(raw["valid"])
    valid, test = (with_curve(table, curve) for table in raw.values())
    temperature = fit_temperature(valid.scores, valid.primary)
    curve_of_sizes = []
    for n in (*(n for n in entries if n < fitted.facts.entries), None):
        table = fitted
        if n is not None:
            table = fit_authors(source, max_entries=n, seed=SEED) or fitted
            print(f"{table.facts.entries:,} entries", file=sys.stderr, flush=True)
        found = with_table(table, source, valid, test, temperature)
        metrics = found and metrics_of(found, OF_SIZES)
        curve_of_sizes.append({**sizes_of(table), "metrics": metrics})
    return curve_of_sizes


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the metrics with and without authors, by group, and by size of the table."""
    record = RunRecord.read(options.run)
    fitted = read_authors(options.run, record)
    if fitted is None:
        sys.exit(f"the run {options.run} has no table of authors. Train with one.")
    source = Source(options.dataset, load_manifest(options.dataset), SILENT)
    text, joined = (
        score_dataset(str(options.model), options.dataset, "test", SILENT, authors=authors)
        for authors in (False, True)
    )
    if joined.used_authors is None:
        sys.exit(f"{options.model} has no table of authors: they did not help on its valid papers.")
    names = list(iter_authors(source.dataset, "test", source.manifest))
    known = fitted.table.evidence(names, text.years).known[:, 0]
    return {
        "model": text.model.to_dict(),
        "dataset_digest": record.dataset_digest,
        "generated": text.generated,
        "papers": len(text),
        "share_known": round(float(joined.used_authors.mean()), 4),
        "text": metrics_of(text),
        "with_authors": metrics_of(joined),
        "by_known_authors": by_group(text, joined, known, KNOWN),
        "by_earlier_papers": by_group(text, joined, careers_of(fitted, source, text), PAPERS),
        "sizes": by_size(fitted, source, options.run, options.entries),
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw top-1 by size of the table, by authors that are known, and by earlier papers."""
    plt = start_plot()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    sizes = [one for one in result["sizes"] if one["metrics"]]
    for name in [n for n in result["text"] if n != "all"] or ["all"]:
        tops = [100 * one["metrics"][name]["top_1"] for one in sizes]
        left.plot([one["mb_compressed"] for one in sizes], tops, marker="o", label=name)
    left.set(xlabel="table, MB compressed", ylabel="top-1, % of test papers")
    left.legend(frameon=False, fontsize=8)
    for axes, key, words in (
        (middle, "by_known_authors", "known authors of the paper"),
        (right, "by_earlier_papers", "earlier papers of the best known one"),
    ):
        groups = result[key]
        ticks = [_bounds(group) for group in groups]
        for kind, colour in (("text", "#808080"), ("with_authors", "#7a4a21")):
            tops = [100 * group[kind] for group in groups]
            axes.plot(ticks, tops, marker="o", color=colour, label=kind.replace("_", " "))
        axes.set(xlabel=words)
        axes.legend(frameon=False, fontsize=8)
    write_plot(figure, path)


def _bounds(group: dict[str, Any]) -> str:
    low, high = group["from"], group["to"]
    if low == high:
        return f"{low}"
    return f"{low}+" if high == UNBOUNDED else f"{low}-{high}"


FLAGS: dict[str, dict[str, Any]] = {
    "--dataset": {"type": Path, "required": True, "help": "folder of a built dataset"},
    "--run": {"type": Path, "required": True, "help": "a run on it, with a table of authors"},
    "--model": {"type": Path, "required": True, "help": "its bundle"},
    "--entries": {
        "type": int, "nargs": "*", "default": ENTRIES, "help": "sizes of further tables",
    },
}  # fmt: skip

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, plot=plot)
