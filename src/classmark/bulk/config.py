"""What a run is asked for, how it works, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from classmark.cluster import Engine, check_engine
from classmark.errors import UsageError
from classmark.papers import Columns
from classmark.runtime import DEFAULT_TOP

BulkLayout = Literal["parquet", "jsonl", "csv"]

LAYOUTS: tuple[BulkLayout, ...] = get_args(BulkLayout)


@dataclass(frozen=True, kw_only=True)
class BulkJob:
    """What to classify, and into what.

    Attributes:
        inputs: regular files, of this machine or in a bucket, in this order.
        output: the file to write; ``OUTPUT.parts`` beside it holds what is done.
        upload_to: where in a bucket the output goes instead; the parts stay beside ``output``.
        layout: of the output.
        model, index: as for ``Classifier``; a cluster takes no index.
        top, threshold, explain, authors: as for ``Classifier.classify``.
        strict: stop at the first bad record.
        format, columns: as for ``read_papers``.
        raw_cells: of CSV, as for ``csv_text``.
    """

    inputs: tuple[Path, ...]
    output: Path
    layout: BulkLayout
    model: str | Path | None = None
    index: str | Path | None = None
    top: int = DEFAULT_TOP
    threshold: float | None = None
    explain: bool = False
    authors: bool = True
    strict: bool = False
    format: str = "auto"
    columns: Mapping[str, str] | Columns = field(default_factory=dict)
    raw_cells: bool = False
    upload_to: Path | None = None

    def __post_init__(self) -> None:
        if self.explain and self.layout != "jsonl":
            raise UsageError(f"explanations cannot be written as {self.layout}. Use JSON lines.")
        for path in self.inputs:
            if path.exists() and not path.is_file():
                raise UsageError(
                    f"{path} is not a regular file, so a stopped run could not read it "
                    "again. Give files, or leave out the workers."
                )


@dataclass(frozen=True, kw_only=True)
class BulkConfig:
    """How the work is divided, and who does it.

    Attributes:
        engine: ``local``, processes of this machine; ``ray``, a cluster.
        address: of the cluster, as for ``cluster.connect``; None: one of this machine.
        workers: processes that read and classify; the calling one only divides and joins. None:
            one, or as many as a cluster has CPUs.
        chunk_bytes: bytes of lines, or characters of text, that make a part; memory is about
            twice as much a worker, over what the code and the model take.
        chunk_records: records that make a part, where it is not lines that are divided.
        row_group: rows of a row group of Parquet.
    """

    engine: Engine = "local"
    address: str | None = None
    workers: int | None = None
    chunk_bytes: int = 4 << 20
    chunk_records: int = 2_000
    row_group: int = 1 << 16

    def __post_init__(self) -> None:
        for name in ("workers", "chunk_bytes", "chunk_records", "row_group"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}.")
        check_engine(self.engine, self.address)


@dataclass(frozen=True, kw_only=True)
class BulkReport:
    """What a run came to.

    Attributes:
        records: papers and bad records of the whole output.
        bad: records that could not be read.
        before: records that an earlier run had done.
        seconds: of this run, from the first chunk to the whole file.
    """

    records: int
    bad: int
    before: int
    seconds: float
