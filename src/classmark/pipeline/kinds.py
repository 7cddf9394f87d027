"""The kinds of model: the only table of them above the kernels.

A kind is a wing of this room, ``classmark.pipeline.KIND``, a class of options, and ``KIND.yaml`` in
``conf/model``. Its record is a part in ``records.run``, its kernel a line of ``kernels.opening``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from classmark.errors import MissingExtra
from classmark.records import DatasetManifest, Progress
from classmark.records.run import Kind
from classmark.training import CascadeConfig, LinearConfig, TransformerConfig

if TYPE_CHECKING:
    from classmark.pipeline.config import TrainConfig
    from classmark.pipeline.export import Candidate, RunToExport

ModelConfig = LinearConfig | TransformerConfig | CascadeConfig


@dataclass(frozen=True)
class ModelKind:
    """A kind of model.

    Attributes:
        options: what ``model.*`` of a configuration becomes.
        extra: that a fit needs besides ``train``; "" if none.
        packages: whose versions a run records besides those of every kind.
        can_resume: whether a fit writes checkpoints.
    """

    options: type[ModelConfig]
    extra: str = ""
    packages: tuple[str, ...] = ()
    can_resume: bool = False


KINDS: dict[Kind, ModelKind] = {
    "linear": ModelKind(LinearConfig),
    "transformer": ModelKind(
        TransformerConfig,
        extra="deep",
        packages=("torch", "lightning", "transformers", "safetensors", "tokenizers"),
        can_resume=True,
    ),
    "cascade": ModelKind(CascadeConfig, packages=("onnxruntime", "tokenizers")),
}


class Wing(Protocol):
    """What a kind of model does its own way."""

    def train(
        self, config: TrainConfig, manifest: DatasetManifest, command: str, progress: Progress
    ) -> Path:
        """Return the run folder of a fit."""
        ...

    def make_candidate(self, run: RunToExport) -> Candidate:
        """Return what a run contributes to its bundle."""
        ...


def check_packages(kind: Kind) -> None:
    """Check that the packages of a kind are installed.

    Raises:
        MissingExtra: names the command that installs them.
    """
    needed = KINDS[kind]
    if needed.extra and any(find_spec(name) is None for name in needed.packages):
        raise MissingExtra(f"model={kind}", needed.extra)


def wing(kind: Kind) -> Wing:
    """Return the wing of a kind; its packages are imported when it is first used."""
    found: Any = import_module(f"classmark.pipeline.{kind}")
    return found  # type: ignore[no-any-return]
