"""Bundles rewritten by an attacker or a buggy tool: the digests are right, the content is not."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from classmark.bundle import manifest, write_bundle
from classmark.kernels.calibration import CalibrationCurve
from classmark.kernels.featuriser import FEATURISER_VERSION, fold_all, keys_in_numpy
from classmark.kernels.linear import (
    DIM,
    MAX_COUNT,
    MAX_WEIGHT,
    N_SCALES,
    ROW_BYTES,
    LinearArrays,
    bucket_of,
    fingerprint,
    slot_of,
)
from classmark.papers import RECIPE_VERSION
from classmark.records import BundleManifest, Policy

Change = Callable[[dict[str, Any]], object]


def rewrite(
    folder: Path,
    change: Change = lambda _: None,
    files: Mapping[str, bytes | None] | None = None,
) -> Path:
    """Change a bundle in its folder, and make every digest right again; returns the folder.

    Args:
        folder: of the bundle.
        change: changes the manifest in place.
        files: new content by relative path; None removes the file.
    """
    value = json.loads((folder / "bundle.json").read_bytes())
    for name, content in (files or {}).items():
        path = folder / name
        if content is None:
            path.unlink()
            del value["files"][name]
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        value["files"][name] = {"sha256": digest, "bytes": len(content)}
    change(value)
    (folder / "bundle.json").write_bytes(render(sealed(value)))
    return folder


digest_of, render = manifest._digest_of, manifest._render


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return the object of a ``bundle.json`` with the right digest and seal, whatever it holds."""
    value = {key: item for key, item in value.items() if key not in ("digest", "seal")}
    with suppress(KeyError, AttributeError, ValueError):  # no digest of what is not there
        value["digest"] = digest_of(manifest._deciding(value))
    return {**value, "seal": digest_of(value)}


def npy(array: Any) -> bytes:
    """Return the content of a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_with_header(header: bytes, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    """Return what looks like a ``.npy`` file, with any header."""
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


def setting(*keys: Any, to: Any) -> Change:
    """Return a change of one value of the manifest, by its way from the top."""

    def change(value: dict[str, Any]) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to

    return change


PAPER = {"title": "Stellar mass of galaxies", "abstract": "We weigh galaxies and count graphs."}


def write_linear_bundle(folder: Path, k: int = 4, n_slots: int = 600) -> Path:
    """Write a fast bundle of random weights, for which every term of ``PAPER`` is known."""
    rng = np.random.default_rng(0)
    keys = keys_in_numpy(fold_all([(PAPER["title"], PAPER["abstract"])])).key
    displacements = rng.integers(0, 9, 50).astype(np.uint16)
    fingerprints = np.zeros(n_slots, dtype=np.uint16)
    slots = slot_of(keys, displacements[bucket_of(keys, 50)], n_slots)
    fingerprints[slots] = fingerprint(keys)
    arrays = LinearArrays(
        displacements=displacements,
        fingerprints=fingerprints,
        rows=rng.integers(0, 256, (n_slots, ROW_BYTES)).astype(np.uint8),
        scale_codes=rng.integers(0, N_SCALES, n_slots).astype(np.uint8),
        weights=rng.integers(1, MAX_WEIGHT + 1, (MAX_COUNT, N_SCALES)).astype(np.int16),
        norms=rng.integers(1024, 9000, MAX_COUNT).astype(np.int32),
        head=rng.integers(-1000, 1000, (k, DIM)).astype(np.int16),
        bias=rng.normal(size=k),
        hidden_scale=0.07,
        logit_scale=1e-5,
        curve=CalibrationCurve(),
    )
    name, _, version = folder.name.rpartition("-")
    described = BundleManifest(
        name=name,
        version=version,
        kind="linear",
        label_space="arxiv",
        labels=("cs.LG", "hep-th", "math.CO", "stat.ML")[:k],
        text_recipe=RECIPE_VERSION,
        featuriser=FEATURISER_VERSION,
        taxonomy="1",
        policy=Policy(
            temperature=1.0,
            thresholds=(0.5,) * k,
            cross_list_thresholds=(0.2,) * k,
            set_threshold=0.1,
        ),
        files={},
        parameters=arrays.parameters(),
        metrics={"all": {"top_1": 0.5}},
        provenance={"seed": 1},
    )
    write_bundle(folder, described, arrays.arrays(), {"CARD.md": "# Tiny\n"})
    return folder
