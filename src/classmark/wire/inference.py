"""Answers of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from classmark.wire.answer import Published


class TensorMetadata(Published, frozen=True):
    """Name and type of a tensor; a dimension of -1 has any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Tensor(Published, frozen=True):
    """One output, row by row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Any, ...] = ()


class Inference(Published, frozen=True, kw_only=True, omit_defaults=True):
    """Answers as tensors."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: tuple[Tensor, ...]


class ModelMetadata(Published, frozen=True):
    """The tensors that the model takes and returns."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class ServerMetadata(Published, frozen=True):
    """The server."""

    name: str
    version: str
    extensions: tuple[str, ...] = ()


class Readiness(Published, frozen=True, omit_defaults=True):
    """State of the server or the model."""

    name: str | None = None
    live: bool | None = None
    ready: bool | None = None
