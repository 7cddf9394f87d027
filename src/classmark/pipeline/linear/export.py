"""The fitted weights of a linear run: written, read and checked, quantised for a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import write_array
from classmark.export import quantise
from classmark.kernels.featuriser import FEATURISER_VERSION
from classmark.kernels.linear import DIM, LinearScorer
from classmark.pipeline.authors import read_authors
from classmark.pipeline.export import Candidate, RunToExport
from classmark.pipeline.run_folder import read_array
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
        authors=read_authors(run.folder, run.record),
    )


def write_weights(folder: Path, weights: LinearWeights) -> None:
    """Write the arrays of a fit as ``weights/*.npy`` into a run folder."""
    (folder / "weights").mkdir()
    for name in WEIGHTS:
        write_array(folder / "weights" / f"{name}.npy", getattr(weights, name))


def read_weights(folder: Path, n_labels: int) -> LinearWeights:
    """Return the weights of a run folder.

    Raises:
        RunCorrupt: an array is missing or damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name in WEIGHTS:
        arrays[name] = read_array(folder, f"weights/{name}.npy")
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
