"""The texts of a build: what they say of themselves, and where they wait until they are written.

Decisions are made on short columns. Abstracts and authors stay on disk, and are read once more in
the order in which the papers are written, so memory does not grow with them.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from classmark.dataset.schema import TEXT_COLUMNS, word_count

_MIN_PART_PAPERS = 20_000
_MAX_PARTS = 64
"""A part has a file of its own that stays open: systems allow a few hundred."""

# A withdrawal notice is short. A longer text that mentions one still holds an abstract, or is
# about withdrawal (of bids, of a plate from a bath, of papers).
_MAX_NOTICE_WORDS = 100
_MAX_PLAIN_NOTICE_WORDS = 30
_PAPER = r"(?:paper|article|manuscript|preprint|e-?print|submission|work|note|version)"
_NOTICE = (
    r"(?i)(?:^|[.!?:;]\s*)(?:"
    rf"(?:(?:this|the|our|my)\s+(?:\w+\s+){{0,2}})?{_PAPER}\s+(?:\w+\s+)?"
    r"(?:has|have|is|was|are|were)\s+(?:now\s+|been\s+|being\s+|temporarily\s+)*"
    r"(?:withdrawn|withdrown|retracted|removed\s+by)"
    r"|(?:temporarily\s+)?withdrawn\b"
    r")"
)
_PLAIN_NOTICE = (
    r"(?i)\b(?:withdrawn|retracted|removed)\s+(?:by|at\s+the\s+request\s+of)\s+"
    r"(?:(?:the|its)\s+)?(?:\w+\s+)?(?:author|arxiv)"
)
_OWN_PAPER = rf"(?i)(?:^|\b(?:this|the|my|our)\s+(?:\w+\s+)?){_PAPER}\b"
_WITHDRAW = r"(?i)\b(?:withdr(?:aw|own)(?:n|ed)?|withdrwan)\b"
_NO_ABSTRACT = (
    r"(?i)^(?:(?:no|without)\s+abstract|abstract\s+(?:is\s+)?not\s+available|n/?a)"
    r"(?:\s+(?:is\s+)?(?:available|given|provided))?\W*$"
)


def judge_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the papers with what must be known of their texts: length, withdrawn, empty.

    ``text_chars`` (uint32) is of title and abstract. ``is_withdrawn``: the abstract is a notice, a
    short text that says that the paper itself was withdrawn. ``is_empty``: it holds no word, or
    only says that there is none.
    """
    text = pl.col("summary")
    return frame.with_columns(
        text_chars=pl.col("title").str.len_chars() + text.str.len_chars(),
        is_withdrawn=_is_notice(text),
        is_empty=_is_wordless(text) | text.str.contains(_NO_ABSTRACT),
    )


def _is_notice(text: pl.Expr) -> pl.Expr:
    words = word_count("summary")
    notice = (words <= _MAX_NOTICE_WORDS) & text.str.contains(_NOTICE)
    own = text.str.contains(_OWN_PAPER) & text.str.contains(_WITHDRAW)
    return notice | ((words <= _MAX_PLAIN_NOTICE_WORDS) & (text.str.contains(_PLAIN_NOTICE) | own))


def _is_wordless(text: pl.Expr) -> pl.Expr:
    return ~text.str.contains(r"\p{L}") | (pl.col("fingerprint") == "")


_NO_REASON = "transport error"
"""All that polars says where a header of Parquet could not be written."""


@contextmanager
def system_errors() -> Iterator[None]:
    """Raise as an OSError with its number what polars words in its own way."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None and _NO_REASON not in str(error):
            raise
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number)) from error


class TextStore:
    """Abstracts and authors of papers on disk, by number of the row, from 0."""

    def __init__(self, folder: Path) -> None:
        """Keep them in a folder, which is made; whoever owns it removes it."""
        folder.mkdir()
        self._folder = folder
        self._ends: list[int] = [0]

    def add(self, texts: pl.DataFrame) -> None:
        """Keep the texts of the next rows."""
        with system_errors():
            texts.select(TEXT_COLUMNS).write_ipc(self._chunk(len(self._ends)), compression="lz4")
        self._ends.append(self._ends[-1] + texts.height)

    def in_order(self, rows: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
        """Yield the texts of some rows, in their order, in parts that fit into memory."""
        part_papers = max(_MIN_PART_PAPERS, -(-len(rows) // _MAX_PARTS))
        parts = self._deal_out(rows, part_papers)
        for path in parts:
            with pa.ipc.open_stream(path) as stream:
                part: Any = pl.from_arrow(stream.read_all())
            path.unlink()
            yield part.sort("place").drop("place")

    def _deal_out(self, rows: NDArray[np.int64], part_papers: int) -> list[Path]:
        """Write the texts to one file a part, each with its place, and return the files."""
        order = np.argsort(rows, kind="stable")
        bounds = np.searchsorted(rows, self._ends, sorter=order)
        paths = [self._folder / f"part-{n}" for n in range(-(-len(rows) // part_papers))]
        with ExitStack() as stack:
            writers: dict[int, Any] = {}
            for number, first in enumerate(self._ends[:-1]):
                places = order[bounds[number] : bounds[number + 1]]
                if not len(places):
                    continue
                chunk = pl.read_ipc(self._chunk(number + 1))
                texts = chunk[rows[places] - first].with_columns(
                    place=pl.Series(places), part=pl.Series(places // part_papers)
                )
                for (part, *_), some in texts.partition_by("part", as_dict=True).items():
                    table = some.drop("part").to_arrow()
                    if part not in writers:
                        file = stack.enter_context(paths[part].open("wb"))
                        writers[part] = stack.enter_context(pa.ipc.new_stream(file, table.schema))
                    writers[part].write_table(table)
        return paths

    def _chunk(self, number: int) -> Path:
        return self._folder / f"chunk-{number}"
