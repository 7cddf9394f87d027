"""Weights of the deep tier in one safetensors file: ``encoder.*`` and ``head.*``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from classmark.errors import InvalidDataset, LabelMismatch
from classmark.storage import atomic_file
from classmark.training.transformer.checkpoint import read_checkpoints


def write_weights(model: Any, path: Path) -> None:
    """Write a model's weights in float32, whole or not at all.

    Raises:
        StorageFailed: they cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).clone().contiguous()
        for name, tensor in model.state_dict().items()
    }
    with atomic_file(path) as file:
        file.write(save(tensors))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read what ``write_weights`` wrote.

    Raises:
        InvalidDataset: it is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise InvalidDataset(
            f"the weights {path} cannot be read ({error}). Give another run, or train it again."
        ) from error


def read_start(run: Path) -> dict[str, Tensor]:
    """Return the weights of a run: a finished one's, or those of the newest good checkpoint.

    Raises:
        InvalidDataset: it has none that can be read.
    """
    finished = run / "weights" / "model.safetensors"
    if finished.is_file():
        return read_weights(finished)
    for _, content in read_checkpoints(run / "checkpoints"):
        if isinstance(content, dict):
            states = content["state_dict"].items()
            return {name.removeprefix("model."): tensor for name, tensor in states}
    raise InvalidDataset(f"{run} has no weights that can be read. Give another run as model.start.")


def set_weights(model: Any, weights: dict[str, Tensor], source: Path) -> None:
    """Give a model the weights of a run.

    Raises:
        LabelMismatch: they are those of another encoder or of as many labels as the model lacks.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise LabelMismatch(
            f"the weights of {source} do not fit this model: they are of another encoder or "
            "another number of labels. Name the encoder of that run as model.encoder."
        ) from error


def best_weights(folder: Path, epoch: int) -> Path:
    """Return where the weights of an epoch stand that was the best."""
    return folder / f"epoch-{epoch}.safetensors"


def drop_old_weights(folder: Path) -> None:
    """Delete all weights of epochs but the two newest, which the two kept checkpoints may name."""
    newest = sorted(folder.glob("epoch-*.safetensors"), key=_epoch_of, reverse=True)
    for path in newest[2:]:
        path.unlink()


def _epoch_of(path: Path) -> int:
    return int(path.stem.partition("-")[2])
