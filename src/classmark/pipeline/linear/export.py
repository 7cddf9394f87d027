"""The fitted weights of a linear run: written, read and checked, quantised for a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.export import quantise
from classmark.kernels.featuriser import FEATURISER_VERSION
from classmark.kernels.linear import DIM, LinearScorer
from classmark.pipeline.export import Candidate, RunToExport
from classmark.records.run import damaged_run
from classmark.training import LinearWeights

WEIGHTS = ("keys", "embedding", "head", "bias")


def make_candidate(run: RunToExport) -> Candidate:
    """Return what the run of a linear model contributes to its bundle.

    Raises:
        RunCorrupt: an array of the run is missing or damaged.
    """
    fitted = read_weights(run.folder, len(run.record.labels))
    run.progress.step(f"quantising {len(fitted.keys):,} features")
    arrays = quantise(fitted.keys, fitted.embedding, fitted.head, fitted.bias)
    return Candidate(
        what="linear over hashed words and word pairs, 128 dimensions, 2-bit rows",
        featuriser=FEATURISER_VERSION,
        scorer=LinearScorer(arrays),
        parameters=lambda curve: replace(arrays, curve=curve).parameters(),
        arrays=arrays.arrays(),
        facts={"features": f"{len(fitted.keys):,}"},
    )


def write_weights(folder: Path, weights: LinearWeights) -> None:
    """Write the arrays of a fit as ``weights/*.npy`` into a run folder."""
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


def read_weights(folder: Path, n_labels: int) -> LinearWeights:
    """Return the weights of a run folder.

    Raises:
        RunCorrupt: an array is missing or damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name in WEIGHTS:
        file = f"weights/{name}.npy"
        try:
            arrays[name] = np.load(folder / file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            problem = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
            raise damaged_run(folder, file, problem) from error
    for name, problem in _weights_problems(arrays, n_labels):
        raise damaged_run(folder, f"weights/{name}.npy", problem)
    return LinearWeights(**arrays)


def _weights_problems(arrays: Mapping[str, NDArray[Any]], k: int) -> Iterator[tuple[str, str]]:
    f = arrays["keys"].shape[0] if arrays["keys"].ndim else 0
    wanted = {
        "keys": (np.uint64, (f,)),
        "embedding": (np.float32, (f, DIM)),
        "head": (np.float32, (DIM, k)),
        "bias": (np.float32, (k,)),
    }
    for name, (dtype, shape) in wanted.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            yield name, f"it is {array.dtype} {array.shape}, it must be {np.dtype(dtype)} {shape}"
        elif array.dtype == np.float32 and not np.isfinite(array).all():
            yield name, "it has numbers that are not finite"
