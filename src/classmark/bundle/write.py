"""Write a bundle: the whole folder appears at once, or not at all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from classmark.bundle.find import MANIFEST_FILE, NAME_PATTERN, VERSION_PATTERN
from classmark.bundle.manifest import render_manifest
from classmark.errors import InvalidConfig
from classmark.records import BundleFile, BundleManifest
from classmark.storage import atomic_folder, sha256_file

ARRAYS_FOLDER = "arrays"
_ARRAY_NAME = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


def write_bundle(
    folder: Path,
    manifest: BundleManifest,
    arrays: Mapping[str, NDArray[np.generic]],
    texts: Mapping[str, str | bytes] | None = None,
    overwrite: bool = False,
) -> BundleManifest:
    """Write a bundle folder atomically and return its manifest with the digest of every file.

    Args:
        folder: the folder to make; call it ``NAME-VERSION`` where it is to be found by name.
        manifest: all that the bundle says of itself; its ``files`` are ignored.
        arrays: content of ``arrays/NAME.npy``; no array of Python objects.
        texts: further files by relative path, e.g. ``CARD.md``.
        overwrite: replace a bundle that is there.

    Raises:
        InvalidConfig: the manifest contradicts itself, or a file name is not plain.
        StorageFailed: something is in the way, or it cannot be written.
    """
    texts = texts or {}
    _check_manifest(manifest)
    _check_file_names(arrays, texts)
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        _write_arrays(temporary / ARRAYS_FOLDER, arrays)
        _write_texts(temporary, texts)
        manifest = replace(manifest, files=_describe_files(temporary))
        (temporary / MANIFEST_FILE).write_bytes(render_manifest(manifest))
    return manifest


def _check_manifest(manifest: BundleManifest) -> None:
    if not NAME_PATTERN.fullmatch(manifest.name):
        raise InvalidConfig(f"bundle name {manifest.name!r} must be a letter, then [A-Za-z0-9_-].")
    if not VERSION_PATTERN.fullmatch(manifest.version):
        raise InvalidConfig(f"bundle version {manifest.version!r} must be numbers and dots: 1.0.")
    k = len(manifest.labels)
    if k < 2 or len(set(manifest.labels)) != k:
        raise InvalidConfig(f"a bundle needs two or more labels, all different; got {k}.")
    policy = manifest.policy
    lengths = (len(policy.thresholds), len(policy.cross_list_thresholds))
    if lengths != (k, k):
        raise InvalidConfig(
            f"a bundle of {k} labels needs {k} thresholds of each kind, got {lengths[0]} for "
            f"acceptance and {lengths[1]} for cross-lists."
        )
    if not (math.isfinite(policy.temperature) and policy.temperature > 0):
        raise InvalidConfig(f"the temperature must be above 0, got {policy.temperature}.")


def _check_file_names(
    arrays: Mapping[str, NDArray[np.generic]], texts: Mapping[str, str | bytes]
) -> None:
    for name, array in arrays.items():
        if not _ARRAY_NAME.fullmatch(name) or array.dtype.hasobject:
            raise InvalidConfig(
                f"array {name!r} of {array.dtype} cannot be stored: use [A-Za-z0-9_] and numbers."
            )
    for name in texts:
        reserved = name.lower() == MANIFEST_FILE or name.split("/")[0] == ARRAYS_FOLDER
        if reserved or not is_safe_file_name(name):
            raise InvalidConfig(f"file name {name!r} is reserved or not a plain relative path.")


def is_safe_file_name(name: str) -> bool:
    """Tell whether a relative path stays in its folder on every system, and is not hidden."""
    return all(_SAFE_PART.fullmatch(part) for part in name.split("/"))


def _write_arrays(folder: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    if arrays:
        folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def _write_texts(folder: Path, texts: Mapping[str, str | bytes]) -> None:
    for name, content in texts.items():
        path = folder / PurePosixPath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _describe_files(folder: Path) -> dict[str, BundleFile]:
    return {
        path.relative_to(folder).as_posix(): BundleFile(
            sha256=sha256_file(path), bytes=path.stat().st_size
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
