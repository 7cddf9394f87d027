"""Finds weights that an ONNX model keeps in other files, which no digest of a bundle covers.

onnxruntime reads them from wherever the model says, even when it is given the model as bytes, and
has no option to refuse them. The package onnx is not there where models are served; so this walks
the protocol buffers itself: only over what can hold a tensor, everything else is skipped.

Source: onnx.proto of ONNX 1.23; a test compares the table with the installed package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MODEL_SUFFIX = ".onnx"
MOST_FIELDS = 1_000_000
MOST_DEPTH = 64
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_MOST_TAG = 0xFFFFFFFF

PARTS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""Which fields of a message lead to a tensor, and the message that each holds."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor: where its data is, and whether it is elsewhere (0 is no)."""


class _Malformed(Exception):
    """The bytes are not those of an ONNX model."""


class _Message(NamedTuple):
    kind: str
    start: int
    end: int
    depth: int


def onnx_problem(content: bytes) -> str | None:
    """Return why a model cannot be part of a bundle, None if it can.

    Args:
        content: of an ONNX file.
    """
    waiting, n_fields = [_Message("ModelProto", 0, len(content), 0)], 0
    try:
        while waiting:
            message = waiting.pop()
            for number, value, end in _fields(content, message.start, message.end):
                n_fields += 1
                if n_fields > MOST_FIELDS or message.depth > MOST_DEPTH:
                    return "is too deeply nested or has too many fields to be checked"
                if message.kind == "TensorProto":
                    if number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0):
                        return "keeps weights in another file, which the digest does not cover"
                    continue
                part = PARTS[message.kind].get(number)
                if part is not None:
                    waiting.append(_message(part, value, end, message.depth + 1))
    except _Malformed:
        return "is not an ONNX model"
    return None


def _message(kind: str, start: int, end: int | None, depth: int) -> _Message:
    if end is None:
        raise _Malformed
    return _Message(kind, start, end, depth)


def _fields(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Yield (number, value, None) of a number and (number, start, end) of bytes or a message."""
    while at < end:
        tag, at = _varint(content, at, end)
        # A reader that cuts a longer tag to 32 bits would see another field than this one.
        if not 8 <= tag <= _MOST_TAG:
            raise _Malformed
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(content, at, end)
            yield number, value, None
        elif wire == _BYTES:
            n_bytes, at = _varint(content, at, end)
            if n_bytes > end - at:
                raise _Malformed
            yield number, at, at + n_bytes
            at += n_bytes
        elif wire in (_FIXED_32, _FIXED_64):
            at += 4 if wire == _FIXED_32 else 8
            if at > end:
                raise _Malformed
            yield number, 0, None
        else:  # groups, which ONNX does not have
            raise _Malformed


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place after it."""
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Malformed
