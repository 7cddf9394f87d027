"""A run folder: what a fit was told, what it ran on, and what came of it. Written whole or not."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidDataset
from classmark.training import LinearWeights

WEIGHTS = ("keys", "embedding", "head", "bias")
_PACKAGES = ("classmark", "numpy", "scipy", "polars", "pyarrow", "hydra-core", "omegaconf")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its folder, what it was told, and its weights."""

    folder: Path
    provenance: dict[str, Any]
    weights: LinearWeights

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels, the columns of the head."""
        return tuple(self.provenance["labels"])


def write_weights(folder: Path, weights: LinearWeights) -> None:
    """Write the arrays of a fit as ``weights/*.npy``."""
    (folder / "weights").mkdir()
    for name in WEIGHTS:
        _write_array(folder / "weights" / f"{name}.npy", getattr(weights, name))


def _write_array(path: Path, array: NDArray[Any]) -> None:
    """Write what ``np.save`` writes, whose error on a full disk does not say that it is full."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        InvalidDataset: it is none, or a file of it is missing or damaged.
    """
    try:
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        arrays: dict[str, NDArray[Any]] = {
            name: np.load(folder / "weights" / f"{name}.npy", allow_pickle=False)
            for name in WEIGHTS
        }
        _check_provenance(provenance)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidDataset(
            f"{folder} is not a finished run ({error}). Give the folder that `classmark train` "
            "printed last."
        ) from error
    return Run(folder, provenance, LinearWeights(**arrays))


def _check_provenance(provenance: Any) -> None:
    given = set(provenance) if isinstance(provenance, dict) else set()
    for key in ("dataset", "dataset_digest", "labels", "label_space"):
        if key not in given:
            raise ValueError(f"provenance.json lacks {key!r}")


def describe_environment() -> dict[str, Any]:
    """Return commit, package versions, Python and platform."""
    return {
        "commit": _commit(),
        "packages": {name: v for name in _PACKAGES if (v := _version(name))},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that classmark runs from, ``+`` if it has changes."""
    here = Path(__file__).parent
    try:
        head, changes = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", str(here.parent)))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")
