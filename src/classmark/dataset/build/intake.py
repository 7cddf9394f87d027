"""Papers from sources: short columns into one frame, texts to disk, no Python object per paper.

Decisions need the short columns only. Abstracts and authors stay on disk and are read once more in
the order in which the papers are written, so memory does not grow with them.
"""

from __future__ import annotations

import errno
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from classmark.dataset.config import DatasetConfig
from classmark.dataset.folder import INTAKE_SCHEMA, TEXT_COLUMNS
from classmark.errors import ContractViolation
from classmark.papers import (
    Columns,
    ReadOptions,
    abstract_fingerprint,
    canonical_id,
    is_place,
    read_papers,
)
from classmark.records import SILENT, BadRecord, Paper, Progress
from classmark.storage import sha256_file

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

    ``text_chars`` (uint32) is of title and abstract, ``summary_word_count`` (int32) of the
    abstract. ``is_withdrawn``: the abstract is a notice, a short text that says that the paper
    itself was withdrawn. ``is_empty``: it holds no word, or only says that there is none.
    """
    text = pl.col("summary")
    return frame.with_columns(summary_word_count=_word_count(text)).with_columns(
        text_chars=pl.col("title").str.len_chars() + text.str.len_chars(),
        is_withdrawn=_is_notice(text),
        is_empty=_is_wordless(text) | text.str.contains(_NO_ABSTRACT),
    )


def _word_count(text: pl.Expr) -> pl.Expr:
    # In a text whose white space is single blanks, as `_row` leaves it, a third of the time.
    return (text.str.count_matches(" ", literal=True) + (text != "")).cast(pl.Int32)


def _is_notice(text: pl.Expr) -> pl.Expr:
    words = pl.col("summary_word_count")
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
        """Create a folder for them; its owner removes it."""
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
            with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
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


CHUNK_PAPERS = 20_000
_Record = Paper | BadRecord
_COLUMNS_ADVICE = "Name yours in the setting columns (--columns title=…,abstract=…)"
_REPORT_EVERY_RECORDS = 1_000


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What came in.

    Attributes:
        frame: the readable papers: ``row``, the columns of ``INTAKE_SCHEMA`` but the texts, and
            what ``judge_texts`` says of these.
        texts: abstracts and authors by row.
        bad_records: records that cannot be read as papers, by kind.
        first_bad: where the first of each kind is and what is wrong with it, by kind.
        sources: name, sha256 and rows read of every source.
        first_rows: the first row of every source, as far as it has papers.
    """

    frame: pl.DataFrame
    texts: TextStore
    bad_records: dict[str, int]
    first_bad: dict[str, str]
    sources: tuple[dict[str, Any], ...]
    first_rows: tuple[int, ...] = ()

    @property
    def read(self) -> int:
        """Records read, good or bad."""
        return self.frame.height + sum(self.bad_records.values())

    def where(self, row: int, place: int) -> str:
        """Return ``FILE:LINE`` of a paper, ``FILE:NUMBER`` in JSON documents and Parquet."""
        source = bisect_right(self.first_rows, row) - 1
        return f"{self.sources[source]['name']}:{place}" if source >= 0 else f"paper {row + 1}"


@dataclass(frozen=True)
class Batch:
    """Neighbouring records of a source, as columns; made wherever the source is read.

    Attributes:
        frame: the readable papers: the columns of ``INTAKE_SCHEMA``, and what ``judge_texts`` says.
        read: records, good or bad.
        bad: kind and sentence of each record that cannot be read.
    """

    frame: pl.DataFrame
    read: int
    bad: tuple[tuple[str, str], ...]


def make_batch(records: Iterable[Paper | BadRecord], source: str, prefix: str) -> Batch:
    """Return records as columns.

    Args:
        records: of one source.
        source: its name, for messages.
        prefix: what ids that are bare numbers begin with.
    """
    rows, bad = [], []
    for record in records:
        if isinstance(record, BadRecord):
            bad.append((record.kind, f"{source}, {record.message.rstrip('.')}."))
        else:
            rows.append(_row(record, prefix))
    frame = judge_texts(pl.DataFrame(rows, schema=INTAKE_SCHEMA, orient="row"))
    return Batch(frame, len(rows) + len(bad), tuple(bad))


class Collector:
    """Gathers batches in their order; the texts of each go to disk."""

    def __init__(self, texts: TextStore, config: DatasetConfig) -> None:
        self.texts = texts
        self.bad_records: Counter[str] = Counter()
        self.first_bad: dict[str, str] = {}
        self.read = 0
        self._strict = config.strict
        self._frames = [make_batch((), "", "").frame.drop(TEXT_COLUMNS)]

    def take(self, batch: Batch) -> None:
        """Take the next records.

        Raises:
            ContractViolation: one is bad, and the build is strict.
        """
        self.read += batch.read
        for kind, what in batch.bad:
            self.first_bad.setdefault(kind, what)
            if self._strict:
                raise ContractViolation(
                    f"{what} Correct the record, or leave out --strict to skip and count it."
                )
            self.bad_records[kind] += 1
        if batch.frame.height:
            self.texts.add(batch.frame)
            self._frames.append(batch.frame.drop(TEXT_COLUMNS))

    def frame(self) -> pl.DataFrame:
        """Return what is known of the readable papers but the texts, with their rows."""
        return pl.concat(self._frames, rechunk=True).with_row_index("row")


def collect_papers(papers: Iterable[Paper], scratch: Path, config: DatasetConfig) -> Intake:
    """Return papers that come from no file, e.g. invented ones; texts wait in a new folder."""
    texts = TextStore(scratch)
    collector = Collector(texts, config)
    for batch in batches_of(papers, "papers", ""):
        collector.take(batch)
    return Intake(frame=collector.frame(), texts=texts, bad_records={}, first_bad={}, sources=())


def read_sources(
    sources: Sequence[Path],
    scratch: Path,
    config: DatasetConfig,
    progress: Progress = SILENT,
    read: Read | None = None,
) -> Intake:
    """Read every source, streamed; the texts wait in a new folder, ``scratch``.

    ``read`` yields the batches of all sources in order, and None after the last of each; without it
    this process reads them.

    Ids that are bare numbers are numbers of records, not of papers: with several sources they
    get the number of the source before them (``2-17``), or they would collide.

    Raises:
        UnreadableSource: a source is missing, binary, in no known format ...
        ContractViolation: a record cannot be read and the build is strict.
    """
    collector = Collector(TextStore(scratch), config)
    facts, first_rows = [], []
    read = read or read_here([id_prefix(n, len(sources)) for n in range(len(sources))])
    with closing(read(sources, config, progress)) as batches:
        for source in sources:
            before = collector.read
            progress.step(f"reading {source.name}", done=before)
            first_rows.append(before - collector.bad_records.total())
            for batch in iter(partial(next, batches), None):
                collector.take(batch)
            n_read = collector.read - before
            facts.append({"name": source.name, "sha256": sha256_file(source), "read": n_read})
    return Intake(
        frame=collector.frame(),
        texts=collector.texts,
        bad_records=dict(collector.bad_records),
        first_bad=collector.first_bad,
        sources=tuple(facts),
        first_rows=tuple(first_rows),
    )


Read = Callable[[Sequence[Path], DatasetConfig, Progress], Generator[Batch | None]]


def id_prefix(number: int, n_sources: int) -> str:
    """Return what bare numbers begin with in the source of a number, from 0."""
    return f"{number + 1}-" if n_sources > 1 else ""


def read_options(config: DatasetConfig) -> ReadOptions:
    """Return how the records of a source are read."""
    return ReadOptions(
        name="",
        columns=Columns(given=config.columns, advice=_COLUMNS_ADVICE),
        strict_dates=True,
        whole_labels=config.labels == "free",
    )


def read_here(prefixes: Sequence[str]) -> Read:
    """Return what reads sources in this process; their bare numbers begin with these prefixes."""
    return partial(_read_here, prefixes)


def _read_here(
    prefixes: Sequence[str], sources: Sequence[Path], config: DatasetConfig, progress: Progress
) -> Generator[Batch | None]:
    options = read_options(config)
    for prefix, source in zip(prefixes, sources, strict=True):
        records = read_papers(
            source,
            format=config.format,
            columns=options.columns,
            strict_dates=options.strict_dates,
            whole_labels=options.whole_labels,
        )
        yield from batches_of(_counted(records, progress), source.name, prefix)
        yield None


def _counted(records: Iterable[_Record], progress: Progress) -> Iterator[_Record]:
    for number, record in enumerate(records, start=1):
        if number % _REPORT_EVERY_RECORDS == 0:
            progress.advance(_REPORT_EVERY_RECORDS)
        yield record


def batches_of(records: Iterable[Paper | BadRecord], source: str, prefix: str) -> Iterator[Batch]:
    """Yield records in batches; the arguments are those of ``make_batch``."""
    rest = iter(records)
    while group := list(islice(rest, CHUNK_PAPERS)):
        yield make_batch(group, source, prefix)


def _row(paper: Paper, prefix: str) -> tuple[object, ...]:
    """Return one row; the order is that of ``INTAKE_SCHEMA``."""
    identifier = canonical_id(paper.id or "")
    identifier = prefix + identifier if is_place(identifier) else identifier
    return (
        identifier,
        _with_single_blanks(paper.title),
        _with_single_blanks(paper.abstract),
        paper.category_code or (paper.categories[0] if paper.categories else None),
        paper.categories,
        paper.published_date,
        paper.updated_date,
        str(list(paper.authors)) if paper.authors else "",
        abstract_fingerprint(paper),
        paper.place,
    )


def _with_single_blanks(text: str) -> str:
    # All white space but the blank is unprintable, and most texts hold none of it.
    if text.isprintable() and "  " not in text and text.strip(" ") == text:
        return text
    return " ".join(text.split())
