"""The kinds of model: the only table of them above the kernels.

A kind is a wing of this room, ``classmark.pipeline.KIND``, a class of options, and ``KIND.yaml`` in
``conf/model``. Its record is a part in ``records.run``, its kernel a line of ``kernels.opening``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from classmark.errors import InvalidConfig, MissingExtra
from classmark.records import DatasetManifest, Progress
from classmark.records.run import Kind
from classmark.training import CascadeConfig, LinearConfig, TransformerConfig
from classmark.training.transformer.processes import read_variables

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
        can_share: whether several processes can make a fit.
        can_sweep: whether a sweep can try its options.
        has_epochs: whether a fit repeats, so that a loss is logged as it falls.
        measures_epochs: whether a fit measures the valid split after each of them.
        no_formats: why ``export`` cannot write a format, and what to do instead, by its name.
        not_smaller: why ``export`` can neither prune nor quantise it, and what to do instead; ""
            if it can.
        has_threshold: whether ``export`` can choose another threshold.
    """

    options: type[ModelConfig]
    extra: str = ""
    packages: tuple[str, ...] = ()
    can_resume: bool = False
    can_share: bool = False
    can_sweep: bool = True
    has_epochs: bool = True
    measures_epochs: bool = False
    no_formats: Mapping[str, str] = field(default_factory=dict)
    not_smaller: str = ""
    has_threshold: bool = False

    @property
    def uses_torch(self) -> bool:
        """Return whether a fit consists of operations of torch."""
        return "torch" in self.packages


_NO_CASCADE = "a cascade is two models and a threshold. Export the run of its deep model."
DEFAULT_KIND: Kind = "linear"
KINDS: dict[Kind, ModelKind] = {
    "linear": ModelKind(
        LinearConfig,
        no_formats={
            "hf": "Transformers has no class for a linear model over hashed words. Export a "
            "bundle, or fit model=transformer.",
            "onnx": "ONNX has no operator that gives the characters of a text, so a graph cannot "
            "hash words or spell LaTeX and Unicode as words. Export a bundle, which needs numpy "
            "alone.",
        },
        not_smaller="its rows have two bits each, and it keeps only the terms that matter most. "
        "Train it with a smaller model.max_features.",
    ),
    "transformer": ModelKind(
        TransformerConfig,
        extra="deep",
        packages=("torch", "lightning", "transformers", "safetensors", "tokenizers"),
        can_resume=True,
        can_share=True,
        measures_epochs=True,
        no_formats={
            "onnx": "ONNX has no operator that gives the characters of a text, so a graph cannot "
            "make tokens of it. Export a bundle: its model.onnx goes from tokens to logits, its "
            "tokenizer.json makes the tokens.",
        },
    ),
    "cascade": ModelKind(
        CascadeConfig,
        packages=("onnxruntime", "tokenizers"),
        can_sweep=False,
        has_epochs=False,
        no_formats=dict.fromkeys(("hf", "onnx", "bento"), _NO_CASCADE),
        not_smaller=_NO_CASCADE,
        has_threshold=True,
    ),
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


def kinds_that(test: Callable[[ModelKind], bool]) -> str:
    """Return how a command chooses the kinds that pass a test: ``model=A or model=B``."""
    return " or ".join(f"model={name}" for name, kind in KINDS.items() if test(kind))


def check_packages(kind: Kind) -> None:
    """Check that the packages of a kind are installed.

    Raises:
        MissingExtra: names the command that installs them.
    """
    needed = KINDS[kind]
    if needed.extra and any(find_spec(name) is None for name in needed.packages):
        raise MissingExtra(f"model={kind}", needed.extra)


def check_format(kind: Kind, format_: str) -> None:
    """Check that a kind of model can be written in a format.

    Raises:
        InvalidConfig: it cannot; says why, and what to do instead.
    """
    reason = KINDS[kind].no_formats.get(format_)
    if reason is not None:
        raise InvalidConfig(f"--format {format_} of a {kind} run: {reason}")


def check_processes(kind: Kind) -> None:
    """Refuse to fit in several processes what only one can.

    Raises:
        InvalidConfig: torchrun has started several, or its variables are half set.
    """
    place = read_variables(os.environ)
    if place and place.count > 1 and not KINDS[kind].can_share:
        raise InvalidConfig(
            f"model={kind} is fitted by one process, and torchrun has started {place.count}. Start "
            "the command without it."
        )


def is_first_process() -> bool:
    """Return whether this process writes and prints; of several processes one does."""
    place = read_variables(os.environ)
    return place is None or place.is_first


def check_smaller(kind: Kind) -> None:
    """Check that ``export`` can prune and quantise a kind of model.

    Raises:
        InvalidConfig: it cannot; says why, and what to do instead.
    """
    reason = KINDS[kind].not_smaller
    if reason:
        raise InvalidConfig(f"--prune and --quantize of a {kind} run: {reason}")


def check_threshold(kind: Kind) -> None:
    """Check that ``export`` can choose another threshold of a kind of model.

    Raises:
        InvalidConfig: it has none.
    """
    if not KINDS[kind].has_threshold:
        having = kinds_that(lambda known: known.has_threshold)
        raise InvalidConfig(
            f"--threshold of a {kind} run: it has no such threshold. Leave it out, or export a run "
            f"of {having}; `classmark classify --threshold` sets when a model abstains."
        )


def wing(kind: Kind) -> Wing:
    """Return the wing of a kind; its packages are imported when it is first used."""
    found: Any = import_module(f"classmark.pipeline.{kind}")
    return found  # type: ignore[no-any-return]
