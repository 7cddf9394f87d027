"""Papers from sources: short columns into one frame, texts to disk, no Python object per paper."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from classmark.dataset.config import DatasetConfig
from classmark.dataset.schema import INTAKE_SCHEMA, TEXT_COLUMNS
from classmark.dataset.build.texts import TextStore, judge_texts
from classmark.errors import ContractViolation
from classmark.papers import Columns, abstract_fingerprint, canonical_id, read_papers
from classmark.records import SILENT, BadRecord, Paper, Progress
from classmark.storage import sha256_file

_CHUNK_PAPERS = 20_000
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


class _Collector:
    """Gathers papers column by column; of every 20,000 the texts go to disk."""

    def __init__(self, texts: TextStore, config: DatasetConfig, progress: Progress) -> None:
        self.texts = texts
        self.bad_records: Counter[str] = Counter()
        self.first_bad: dict[str, str] = {}
        self.read = 0
        self._strict = config.strict
        self._progress = progress
        self._chunks: list[pl.DataFrame] = []
        self._rows: list[tuple[object, ...]] = []

    def collect(self, records: Iterable[Paper | BadRecord], *, source: str, prefix: str) -> None:
        for record in records:
            self.read += 1
            if isinstance(record, BadRecord):
                self._count_bad(record, source)
            else:
                self._rows.append(_row(record, prefix))
            if len(self._rows) >= _CHUNK_PAPERS:
                self._close_chunk()
            if self.read % _REPORT_EVERY_RECORDS == 0:
                self._progress.advance(_REPORT_EVERY_RECORDS)

    def frame(self) -> pl.DataFrame:
        self._close_chunk()
        return pl.concat(self._chunks, rechunk=True).with_row_index("row")

    def _count_bad(self, record: BadRecord, source: str) -> None:
        what = f"{source}, {record.message.rstrip('.')}."
        self.first_bad.setdefault(record.kind, what)
        if self._strict:
            raise ContractViolation(
                f"{what} Mend the record, or leave --strict out to skip and count it."
            )
        self.bad_records[record.kind] += 1

    def _close_chunk(self) -> None:
        chunk = judge_texts(pl.DataFrame(self._rows, schema=INTAKE_SCHEMA, orient="row"))
        self._rows.clear()
        self.texts.add(chunk)
        self._chunks.append(chunk.drop(TEXT_COLUMNS))


def collect_papers(papers: Iterable[Paper], scratch: Path, config: DatasetConfig) -> Intake:
    """Return papers that come from no file, e.g. invented ones; texts wait in a new folder."""
    texts = TextStore(scratch)
    collector = _Collector(texts, config, SILENT)
    collector.collect(papers, source="papers", prefix="")
    return Intake(frame=collector.frame(), texts=texts, bad_records={}, first_bad={}, sources=())


def read_sources(
    sources: Sequence[Path],
    scratch: Path,
    config: DatasetConfig,
    progress: Progress = SILENT,
) -> Intake:
    """Read every source, streamed; the texts wait in a new folder, ``scratch``.

    Ids that are bare numbers are numbers of records, not of papers: with several sources they
    get the number of the source before them (``2-17``), or they would collide.

    Raises:
        UnreadableSource: a source is missing, binary, in no known format ...
        ContractViolation: a record cannot be read and the build is strict.
    """
    collector = _Collector(TextStore(scratch), config, progress)
    facts, first_rows = [], []
    for number, source in enumerate(sources, start=1):
        before = collector.read
        progress.step(f"reading {source.name}", done=before)
        first_rows.append(before - collector.bad_records.total())
        prefix = f"{number}-" if len(sources) > 1 else ""
        collector.collect(_records(source, config), source=source.name, prefix=prefix)
        read = collector.read - before
        facts.append({"name": source.name, "sha256": sha256_file(source), "read": read})
    return Intake(
        frame=collector.frame(),
        texts=collector.texts,
        bad_records=dict(collector.bad_records),
        first_bad=collector.first_bad,
        sources=tuple(facts),
        first_rows=tuple(first_rows),
    )


def _records(source: Path, config: DatasetConfig) -> Iterator[Paper | BadRecord]:
    return read_papers(
        source,
        format=config.format,
        columns=Columns(given=config.columns, advice=_COLUMNS_ADVICE),
        strict_dates=True,
        whole_labels=config.labels == "free",
    )


def _row(paper: Paper, prefix: str) -> tuple[object, ...]:
    """Return one row; the order is that of ``INTAKE_SCHEMA``."""
    identifier = canonical_id(paper.id or "")
    if prefix and identifier.isdecimal():
        identifier = prefix + identifier
    return (
        identifier,
        " ".join(paper.title.split()),
        " ".join(paper.abstract.split()),
        paper.category_code or (paper.categories[0] if paper.categories else None),
        paper.categories,
        paper.published_date,
        paper.updated_date,
        paper.authors,
        abstract_fingerprint(paper),
        paper.place,
    )
