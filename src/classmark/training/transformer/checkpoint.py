"""Checkpoints without pickle: a folder with ``state.json`` and ``tensors.safetensors``.

What Lightning hands over (weights, optimiser, schedule, loops, position of the loader) is a tree of
plain values and tensors. Tensors go into the safetensors file, the tree into JSON, where a
container that JSON does not have is an object with one key that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from classmark.errors import CheckpointCorrupt, InvalidDataset, LabelMismatch
from classmark.storage import (
    atomic_file,
    atomic_folder,
    remove,
    remove_leftovers,
    sha256_file,
    write_json,
)

FORMAT_VERSION = 1
KEPT = 2
STATE, TENSORS = "state.json", "tensors.safetensors"
_NAME = re.compile(r"step-(\d+)")


class SafeCheckpointIO(CheckpointIO):
    """Writes and reads Lightning's checkpoints as safetensors and JSON, whole or not at all."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ARG002 - Lightning's signature
    ) -> None:
        """Write a checkpoint as a folder, in place of an existing one.

        Raises:
            StorageFailed: it cannot be written; the existing one stays.
            TypeError: it holds what is neither a plain value nor a tensor.
        """
        tensors: dict[str, Tensor] = {}
        tree = _to_json(checkpoint, tensors)
        remove_leftovers(Path(path).parent)
        with atomic_folder(Path(path), overwrite=True) as folder:
            save_file(tensors, folder / TENSORS)
            digest = sha256_file(folder / TENSORS)
            write_json(
                folder / STATE,
                {"format_version": FORMAT_VERSION, "sha256": digest, "checkpoint": tree},
            )

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,  # noqa: ARG002 - Lightning's signature
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: its folder.
            map_location: device of the tensors; the CPU if None.
            weights_only: Lightning asks it of pickles; nothing here runs code.

        Raises:
            CheckpointCorrupt: a file of it is missing or has changed; it is named.
        """
        folder = Path(path)
        try:
            state = _read_state(folder)
            device = "cpu" if map_location is None else str(map_location)
            checkpoint = _from_json(state["checkpoint"], load_file(folder / TENSORS, device=device))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else f"{error}"
            raise CheckpointCorrupt(
                f"the checkpoint {folder} cannot be read: {reason}. Resume from an older one, or "
                "begin the run again."
            ) from error
        if not isinstance(checkpoint, dict):
            raise CheckpointCorrupt(f"the checkpoint {folder} holds no state. Begin the run again.")
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        remove(Path(path))


def _read_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if state["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version is {state['format_version']!r}")
    if sha256_file(folder / TENSORS) != state["sha256"]:
        raise ValueError(f"{TENSORS} has changed since it was written")
    return state


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint after a step stands."""
    return folder / f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest first."""
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted((path for path in found if _NAME.fullmatch(path.name)), reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the steps that were done when a checkpoint was written."""
    return int(checkpoint.name.partition("-")[2])


def read_checkpoints(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | CheckpointCorrupt]]:
    """Yield each checkpoint of a folder, the newest first, or what is wrong with it."""
    reader = SafeCheckpointIO()
    for path in list_checkpoints(folder):
        try:
            yield path, reader.load_checkpoint(path)
        except CheckpointCorrupt as error:
            yield path, error


def drop_old_checkpoints(folder: Path) -> None:
    """Delete all checkpoints but the newest ones."""
    for path in list_checkpoints(folder)[KEPT:]:
        remove(path)


def _to_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        name = f"{len(tensors):06d}"
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))
        # Tied weights share their memory, which safetensors refuses: each gets its own copy.
        tensors[name] = tensor.detach().cpu().clone().contiguous()
        return {kind: name}
    if isinstance(value, Mapping):
        return {"dict": [[_to_json(k, tensors), _to_json(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_to_json(item, tensors) for item in value]}
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}: {value!r}")


def _from_json(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "array":
            return tensors[content].numpy()
        case "dict":
            return {_from_json(k, tensors): _from_json(v, tensors) for k, v in content}
        case "list":
            return [_from_json(item, tensors) for item in content]
        case "tuple":
            return tuple(_from_json(item, tensors) for item in content)
    raise ValueError(f"{STATE} holds an unknown kind {kind!r}")


def undivided(tensor: Tensor) -> Tensor:
    """Return a tensor that processes have divided as one; each of them must ask for it."""
    gathered: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return gathered


def write_weights(model: Any, path: Path, *, written: bool = True) -> None:
    """Write a model's weights in float32, whole or not at all.

    Args:
        model: its processes must all call this if they have divided it.
        path: of the file.
        written: whether this process is the one to write it.

    Raises:
        StorageFailed: they cannot be written.
    """
    tensors = {
        name: undivided(tensor).detach().to("cpu", torch.float32).clone().contiguous()
        for name, tensor in model.state_dict().items()
    }
    if not written:
        return
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
