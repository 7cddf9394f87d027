"""Counts what a dataset folder holds, for the data card: numbers only, no text of a paper.

python benchmarks/data_card.py --dataset DIR --output benchmarks/reports/data-card.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import polars as pl

from classmark import taxonomy
from classmark.dataset import load_manifest
from classmark.dataset.statistics.statistics import measure
from report import run_benchmark

SPLITS = ("train", "valid", "test")
_COLUMNS = ["category_code", "categories", "published_date", "period"]


def read_facts(dataset: Path) -> pl.DataFrame:
    """Return one row a paper: its split and what is counted."""
    frames = [
        pl.read_parquet(dataset / f"{split}.parquet", columns=_COLUMNS).with_columns(
            split=pl.lit(split)
        )
        for split in SPLITS
    ]
    codes = pl.concat(frames)
    groups = {code: taxonomy.group(code) for code in codes["category_code"].unique()}
    return codes.with_columns(
        year=pl.col("published_date").str.slice(0, 4),
        archive=pl.col("category_code").str.split(".").list.first(),
        group=pl.col("category_code").replace_strict(groups, return_dtype=pl.String),
        cross_listed=pl.col("categories").str.contains(" "),
    )


def counts_by(facts: pl.DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Return papers by value and split, values in order."""
    found: dict[str, dict[str, int]] = {
        str(value): dict.fromkeys(SPLITS, 0) for value in sorted(facts[column].unique())
    }
    for value, split, n in facts.group_by(column, "split").len().iter_rows():
        found[str(value)][split] = n
    return found


def count(options: argparse.Namespace) -> dict[str, Any]:
    """Return every count of the card."""
    dataset: Path = options.dataset
    manifest = load_manifest(dataset)
    facts = read_facts(dataset)
    statistics = measure(dataset).statistics
    by = {"years": "year", "groups": "group", "archives": "archive", "categories": "category_code"}
    periods = counts_by(facts, "period")
    return {
        "dataset_digest": manifest.digest,
        "generated": manifest.generated,
        "sources": list(manifest.sources),
        "read": manifest.read,
        "kept": manifest.kept,
        "dropped": dict(manifest.dropped),
        "splits": {name: split.papers for name, split in manifest.splits.items()},
        "labels": len(manifest.labels),
        "first_date": facts["published_date"].min(),
        "last_date": facts["published_date"].max(),
        "cross_listed": int(facts["cross_listed"].sum()),
        "abstract_words": statistics.abstract_words,
        "near_duplicates": statistics.duplicates.near,
        "language": {
            "judged": statistics.language.judged,
            "not_english": statistics.language.not_english,
            "not_latin": statistics.language.not_latin,
        },
        "periods": {name: periods[name] for name in manifest.periods},
        **{name: counts_by(facts, column) for name, column in by.items()},
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--dataset": {"type": Path, "required": True, "help": "folder of a built dataset"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, count, FLAGS)
