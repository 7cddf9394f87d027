"""Predictions with their feedback as JSON lines, CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any, Literal

from classmark.errors import MissingExtra
from classmark.records import Prediction, Progress, csv_text

Format = Literal["jsonl", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "parquet")

_BATCH = 1_000
_TYPES = {  # as pyarrow calls them, and two of our own
    **dict.fromkeys(("prediction_id", "at_utc"), "string"),
    **dict.fromkeys(("model_name", "model_version", "model_digest"), "string"),
    **dict.fromkeys(("paper_id", "text_fingerprint", "primary", "reason"), "string"),
    "probability": "double",
    "ranked": "codes with probabilities",
    "set": "codes",
    "cross_lists": "codes",
    "known_share": "double",
    "n_chars": "int64",
    "n_words": "int64",
    "latex_share": "double",
    "latency_ms": "double",
    **dict.fromkeys(("source", "author_category"), "string"),
    "used_authors": "bool",
    **dict.fromkeys(("compared_version", "compared_digest", "compared_primary"), "string"),
    "compared_code": "string",
    **dict.fromkeys(("compared_probability", "compared_latency_ms"), "double"),
    **dict.fromkeys(("client", "service_version", "features", "text"), "string"),
    **dict.fromkeys(("feedback_category", "feedback_comment"), "string"),
    **dict.fromkeys(("feedback_at_utc", "feedback_client"), "string"),
}
COLUMNS = tuple(_TYPES)
_COMPARED = tuple(name for name in COLUMNS if name.startswith("compared_"))


def text_of(
    predictions: Iterable[Prediction],
    format: Literal["jsonl", "csv"],
    *,
    raw_cells: bool = False,
) -> Iterator[tuple[str, int]]:
    """Yield pieces of the text, and how many predictions each holds; CSV begins with its header.

    JSON lines hold all feedback; the columns of CSV hold the latest. Lists are JSON arrays in CSV.

    Args:
        predictions: what to write.
        format: of the text.
        raw_cells: as for ``csv_text``.
    """
    if format == "csv":
        yield csv_text([COLUMNS]), 0
    for batch in _batches(predictions):
        if format == "csv":
            rows = [_flat(prediction) for prediction in batch]
            cells = [[_cell(row[name]) for name in COLUMNS] for row in rows]
            yield csv_text(cells, raw_cells=raw_cells), len(batch)
        else:
            lines = [json.dumps(p.to_dict(), ensure_ascii=False) + "\n" for p in batch]
            yield "".join(lines), len(batch)


def write_parquet(predictions: Iterable[Prediction], file: IO[bytes], progress: Progress) -> int:
    """Return how many predictions were written: the columns of CSV, with lists as lists.

    Args:
        predictions: what to write.
        file: open for writing.
        progress: of the predictions written.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("journal export to Parquet", "data") from error
    code_and_probability = pa.struct([("code", pa.string()), ("probability", pa.float64())])
    own = {
        "codes": pa.list_(pa.string()),
        "codes with probabilities": pa.list_(code_and_probability),
    }
    schema = pa.schema(
        [(name, own.get(kind) or pa.type_for_alias(kind)) for name, kind in _TYPES.items()]
    )
    n_written = 0
    with pq.ParquetWriter(file, schema) as writer:
        for batch in _batches(predictions):
            writer.write_table(pa.Table.from_pylist([_flat(p) for p in batch], schema=schema))
            n_written += len(batch)
            progress.advance(len(batch))
    return n_written


def _flat(prediction: Prediction) -> dict[str, Any]:
    """Return one row: the prediction, and what was said of it last."""
    row = prediction.event.to_dict()
    row.update({f"model_{key}": value for key, value in row.pop("model").items()})
    compared = row.pop("compared") or {}
    own = {**compared, **compared.get("model", {})}
    row.update({name: own.get(name.removeprefix("compared_")) for name in _COMPARED})
    ranked = row["ranked"]
    row["probability"] = ranked[0]["probability"] if ranked else None
    said = prediction.latest_feedback
    for name in ("category", "comment", "at_utc", "client"):
        row[f"feedback_{name}"] = getattr(said, name) if said else None
    return row


def _batches(predictions: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    iterator = iter(predictions)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _cell(value: object) -> object:
    is_json = isinstance(value, list | tuple | bool)
    return json.dumps(value, ensure_ascii=False) if is_json else value
