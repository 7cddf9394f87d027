"""The digest of a dataset: of its rows and labels, whatever files hold them.

The same papers give the same digest in any order of rows, size of row groups, compression or
version of the Parquet writer; one changed cell gives another digest. The definition, for
recomputing it without classmark:

- A cell is a netstring of its text in UTF-8 (``5:hello,``), numbers in decimal; null is ``~``.
- A row is its cells in the order of the sorted column names; its digest is their SHA-256.
- A split is the netstrings of the sorted column names, then the row digests in ascending order; its
  digest is their SHA-256.
- A dataset is the JSON object ``{"labels": [...], "splits": {name: digest}, "version": 2}`` with
  sorted keys and Python's default separators; its digest is the SHA-256 of that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from classmark.records import SplitFile
from classmark.records.manifests import BYTES_DIGEST_VERSION, DATASET_FORMAT

_BATCH_PAPERS = 10_000
_NULL = "~"


def rows_digest(path: Path) -> str:
    """Return the SHA-256 of the rows of a Parquet file, 64 hexadecimal digits.

    The file is streamed; memory holds 32 bytes per paper.
    """
    digests = bytearray()
    with pq.ParquetFile(path) as file:
        names = sorted(file.schema_arrow.names)
        for batch in file.iter_batches(_BATCH_PAPERS):
            for row in _encoded_rows(pl.DataFrame(batch), names):
                digests += hashlib.sha256(row).digest()
    head = "".join(f"{len(name.encode())}:{name}," for name in names)
    whole = hashlib.sha256(head.encode())
    whole.update(np.sort(np.frombuffer(digests, dtype="S32")).tobytes())
    return whole.hexdigest()


def dataset_digest(
    splits: Mapping[str, SplitFile], labels: tuple[str, ...], version: int = DATASET_FORMAT
) -> str:
    """Return the digest of a dataset, 64 hexadecimal digits.

    Args:
        splits: the splits by name.
        labels: every label, sorted.
        version: format of the manifest; format 1 hashes the bytes of the split files, not rows.
    """
    of_bytes = version == BYTES_DIGEST_VERSION
    facts: dict[str, Any] = {
        "splits": {n: file.sha256 if of_bytes else file.rows_sha256 for n, file in splits.items()},
        "labels": labels,
    }
    if not of_bytes:
        facts["version"] = version
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _encoded_rows(frame: pl.DataFrame, names: list[str]) -> Iterator[bytes]:
    cells = (pl.col(name).cast(pl.String) for name in names)
    encoded = (pl.format("{}:{},", cell.str.len_bytes(), cell).fill_null(_NULL) for cell in cells)
    yield from frame.select(row=pl.concat_str(encoded).cast(pl.Binary))["row"]
