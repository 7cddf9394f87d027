"""The leak check: no paper, by id or by abstract, stands in two splits that were written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from classmark.errors import LeakFound
from classmark.papers import abstract_fingerprint, canonical_id
from classmark.records import Paper

_MAX_NAMED_LEAKS = 3
_BATCH_PAPERS = 10_000


def check_leaks(files: Mapping[str, Path]) -> None:
    """Check written Parquet files; ids and fingerprints are made anew from what they hold.

    Args:
        files: Parquet file by name of the split.

    Raises:
        LeakFound: an id or an abstract is in two splits; the message names the first papers.
    """
    papers = pl.concat([_identities(split, path) for split, path in files.items()])
    for key, noun in (("canonical", "id"), ("fingerprint", "abstract")):
        leaks = (
            papers.filter(pl.col(key).is_duplicated())
            .group_by(key)
            .agg(pl.col("split").n_unique().alias("n_splits"), pl.col("id"), pl.col("split"))
            .filter(pl.col("n_splits") > 1)
            .sort(key)
        )
        if leaks.height:
            raise LeakFound(
                f"{leaks.height} papers stand in two splits, by their {noun}: {_named(leaks)}. "
                "Remove the duplicates before you split."
            )


def _identities(split: str, path: Path) -> pl.DataFrame:
    with pq.ParquetFile(path) as file:
        parts = [
            _identities_of(batch.to_pydict())
            for batch in file.iter_batches(_BATCH_PAPERS, columns=["id", "summary"])
        ]
    schema = dict.fromkeys(("id", "canonical", "fingerprint"), pl.String)
    whole = pl.concat([pl.DataFrame(schema=schema), *parts], rechunk=True)
    return whole.with_columns(split=pl.lit(split))


def _identities_of(papers: dict[str, list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": papers["id"],
            "canonical": [canonical_id(i) for i in papers["id"]],
            "fingerprint": [abstract_fingerprint(Paper(abstract=a)) for a in papers["summary"]],
        }
    )


def _named(leaks: pl.DataFrame) -> str:
    shown = [
        " and ".join(f"{i!r} ({split})" for i, split in zip(ids, splits, strict=True))
        for ids, splits in leaks.head(_MAX_NAMED_LEAKS).select("id", "split").iter_rows()
    ]
    rest = leaks.height - len(shown)
    return "; ".join(shown) + (f" and {rest} more" if rest else "")
