"""Parquet files of papers; needs pyarrow, imported only here and only when one is read.

A few kilobytes of Parquet can stand for gigabytes: a dictionary holds a long text once, and a
million rows refer to it. So no more rows are decoded at a time than fit into ``_BATCH_BYTES``, and
a row becomes Python objects only after its size is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from classmark.errors import MissingExtra, UnreadableSource
from classmark.papers.columns import ReadOptions, first_value, locate_columns
from classmark.papers.fields import TEXT_FIELDS, Place, build_paper
from classmark.papers.files.lines import too_long
from classmark.records import BadRecord, Paper

_BATCH_BYTES = 8 << 20
_MAX_BATCH_ROWS = 256
_BUFFER_BYTES = 1 << 20
"""Columns are read in pieces of this size; by default pyarrow reads a whole row group."""
_MAX_FOOTER_STRING_BYTES = 16 << 20
_MAX_FOOTER_ITEMS = 100_000


def read_parquet(file: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a Parquet file, a few rows at a time.

    Args:
        file: seekable, from its start.
        options: how to read.

    Raises:
        MissingExtra: pyarrow is not installed.
        UnreadableSource: it is not a Parquet file, or damaged.
        WrongColumns: it lacks the columns that papers are read from.
    """
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet files", "data") from error
    number = 0
    try:
        for row in _Table(file, options, pa).rows():
            number += 1
            yield _paper(row, Place("row", number), options)
    except pa.ArrowMemoryError as error:
        raise UnreadableSource(
            f"{options.name} takes too much memory to read ({error}): one of its pages or texts is "
            "too large. Write it again with smaller pages, or as JSON lines."
        ) from error
    # UnicodeDecodeError: the name of a column is damaged.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first_line = str(error).partition("\n")[0]
        raise UnreadableSource(
            f"{options.name} is not a readable Parquet file ({first_line}). Write or copy it again."
        ) from error


@dataclass(frozen=True, slots=True)
class _Unread:
    """A value that is not turned into a Python object, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class _TooLong:
    """A row of more bytes than a record may have."""

    n_bytes: int


def _paper(
    row: Mapping[str, Any] | _TooLong, place: Place, options: ReadOptions
) -> Paper | BadRecord:
    if isinstance(row, _TooLong):
        problem = too_long(row.n_bytes, options.max_record_bytes)
        return place.bad(problem.kind, problem.message)
    unread = {name: value for name, value in row.items() if isinstance(value, _Unread)}
    for name in unread:
        if name in TEXT_FIELDS:
            return place.bad("wrong_type", f"{name} {unread[name].reason}")
        row = {**row, name: None}
    return build_paper(row, place, options)


class _Table:
    """An open file, and which of its columns are read.

    A column that holds neither plain values nor lists of texts is not decoded at all: no field of a
    paper is read from one, and there is no bound on how deep it may go.
    """

    def __init__(self, file: BinaryIO, options: ReadOptions, pa: Any) -> None:
        self._pa = pa
        self._file = file
        self._max_row_bytes = options.max_record_bytes
        table = self._open([])
        schema = table.schema_arrow
        leaves = [table.schema.column(i).path for i in range(table.metadata.num_columns)]
        self._columns: dict[str, list[str]] = {}
        self._unread: dict[str, _Unread] = {}
        for name, places in locate_columns(schema.names, options).items():
            columns = [schema.field(i) for i in places]
            read = [column.name for column in columns if _is_read(column.type, pa)]
            if read:
                self._columns[name] = read
            else:
                kind = str(columns[0].type).partition("<")[0]
                self._unread[name] = _Unread(f"is a column of type {kind}, not of texts")
        self._names = sorted({name for names in self._columns.values() for name in names})
        self._flat = set(self._names) & set(leaves)
        # A list can repeat a long text within one row; in a dictionary there is one copy of it.
        lists = tuple(f"{name}." for name in self._names if name not in self._flat)
        self._table = self._open([leaf for leaf in leaves if leaf.startswith(lists)])

    def rows(self) -> Iterator[Mapping[str, Any] | _TooLong]:
        """Yield field of a paper -> value for each row."""
        for group in range(self._table.num_row_groups):
            for batch in self._batches(self._table, group, self._names, self._n_rows(group)):
                yield from self._rows_of(batch)

    def _rows_of(self, batch: Any) -> Iterator[Mapping[str, Any] | _TooLong]:
        names = batch.schema.names
        arrays = {name: batch.column(names.index(name)) for name in self._names}
        limit = min(_BATCH_BYTES, self._max_row_bytes)
        is_small = sum(_n_bytes(array, self._pa) for array in arrays.values()) <= limit
        if is_small and (columns := self._converted(arrays)) is not None:
            for values in zip(*columns.values(), strict=True):
                yield self._row(dict(zip(columns, values, strict=True)))
            return
        for i in range(batch.num_rows):
            cells = {name: array.slice(i, 1) for name, array in arrays.items()}
            n_bytes = sum(_n_bytes(cell, self._pa) for cell in cells.values())
            if n_bytes > self._max_row_bytes:
                yield _TooLong(n_bytes)
            else:
                yield self._row({n: _value(cell, self._pa) for n, cell in cells.items()})

    def _row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return field of a paper -> value, of column -> value."""
        row: dict[str, Any] = dict(self._unread)
        for field, names in self._columns.items():
            row[field] = first_value(values.get, names)
        return row

    def _converted(self, arrays: Mapping[str, Any]) -> dict[str, list[Any]] | None:
        """Return the values of a batch, or None if Python has no object for one of them."""
        try:
            return {name: array.to_pylist() for name, array in arrays.items()}
        except _unconvertible(self._pa):
            return None

    def _n_rows(self, group: int) -> int:
        """Return how many rows of a row group make a batch."""
        about = self._table.metadata.row_group(group)
        chunks = [about.column(i) for i in range(about.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema in self._flat]
        row_bytes = sum(c.total_uncompressed_size for c in chunks) // max(1, about.num_rows)
        names = [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page]
        n_rows: int = _BATCH_BYTES // max(1, row_bytes, self._longest_in_dictionaries(group, names))
        return max(1, min(n_rows, _MAX_BATCH_ROWS))

    def _longest_in_dictionaries(self, group: int, names: list[str]) -> int:
        """Return the bytes of a row that has the longest text of every dictionary."""
        if not names:
            return 0
        first = next(self._batches(self._open(names), group, names, 1), None)
        columns = [] if first is None else first.columns
        return sum(_longest(c.dictionary, self._pa) for c in columns if _is_dictionary(c, self._pa))

    def _open(self, as_dictionaries: list[str]) -> Any:
        return self._pa.parquet.ParquetFile(
            self._file,
            read_dictionary=as_dictionaries,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            thrift_string_size_limit=_MAX_FOOTER_STRING_BYTES,
            thrift_container_size_limit=_MAX_FOOTER_ITEMS,
            page_checksum_verification=True,
        )

    @staticmethod
    def _batches(table: Any, group: int, names: list[str], n_rows: int) -> Iterator[Any]:
        batches: Iterator[Any] = table.iter_batches(
            n_rows, row_groups=[group], columns=names, use_threads=False
        )
        return batches


def _value(cell: Any, pa: Any) -> Any:
    """Return the value of an array of one; a date that Python cannot hold is returned as text."""
    try:
        return cell[0].as_py()
    except _unconvertible(pa) as error:
        if not pa.types.is_temporal(cell.type):
            return _Unread(f"cannot be read ({str(error)[:80]})")
    try:
        return cell.cast(pa.string())[0].as_py()
    except _unconvertible(pa) as error:
        return _Unread(f"cannot be read ({str(error)[:80]})")


def _unconvertible(pa: Any) -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for dates out of range, unknown zones, texts not in UTF-8, ..."""
    return (pa.ArrowException, ValueError, OverflowError, LookupError, TypeError)


def _n_bytes(values: Any, pa: Any) -> int:
    """Return how many bytes the values take, each written out."""
    if _is_list(values.type, pa):
        return len(values) + _n_bytes(values.flatten(), pa)
    if _is_dictionary(values, pa):
        if not _is_text(values.type.value_type, pa):
            return int(values.nbytes)
        lengths = pa.compute.binary_length(values.dictionary).take(values.indices)
        return pa.compute.sum(lengths).as_py() or 0
    return int(values.nbytes)


def _longest(texts: Any, pa: Any) -> int:
    if not _is_text(texts.type, pa):
        return 0
    return pa.compute.max(pa.compute.binary_length(texts)).as_py() or 0


def _is_dictionary(values: Any, pa: Any) -> bool:
    return bool(pa.types.is_dictionary(values.type))


def _is_list(kind: Any, pa: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_read(kind: Any, pa: Any) -> bool:
    """Tell whether a type is of plain values or of lists of texts."""
    if not pa.types.is_nested(kind):
        return True
    if not _is_list(kind, pa):
        return False
    kind = kind.value_type
    return _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind, pa)


def _is_text(kind: Any, pa: Any) -> bool:
    types = pa.types
    kinds = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(is_kind(kind) for is_kind in kinds)
