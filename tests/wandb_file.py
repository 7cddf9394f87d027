"""The records of a ``.wandb`` file: protocol buffers in a log of LevelDB's form."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_HEADER = b":W&B"
_BLOCK, _HEADER_BYTES, _RECORD_BYTES = 32768, 7, 7
_FULL, _LAST = 1, 4


def read_records(file: Path) -> Iterator[Any]:
    """Yield each record of a file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data.startswith(_HEADER)
    position, parts = _HEADER_BYTES, b""
    while position + _RECORD_BYTES <= len(data):
        if _BLOCK - position % _BLOCK < _RECORD_BYTES:  # too short for a record: padding
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += _RECORD_BYTES
        parts += data[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)
            parts = b""


def values(items: Iterable[Any]) -> dict[str, Any]:
    """Return what a list of keys with JSON says; a nested key is joined by dots."""
    return {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in items}
