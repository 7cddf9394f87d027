"""Write a bundle: the whole folder appears at once, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle.check import ARRAYS_FOLDER, is_array_file, is_safe_file_name, manifest_problem
from classmark.bundle.files import MANIFEST_FILE
from classmark.bundle.manifest import MEASURED_FILE, render_manifest, render_measured
from classmark.bundle.onnx import MODEL_SUFFIX, onnx_problem
from classmark.errors import InvalidConfig
from classmark.records import BundleFile, BundleManifest, CategoryReport
from classmark.records.manifests import BUNDLE_FORMAT
from classmark.storage import atomic_folder, sha256_file


def write_bundle(
    folder: Path,
    manifest: BundleManifest,
    arrays: Mapping[str, NDArray[np.generic]],
    texts: Mapping[str, str | bytes] | None = None,
    overwrite: bool = False,
    measured: Iterable[CategoryReport] | bytes = (),
) -> BundleManifest:
    """Write a bundle folder atomically and return its manifest with the digest of every file.

    Args:
        folder: the folder to make; call it ``NAME-VERSION`` where it is to be found by name.
        manifest: the metadata of the bundle; its ``files`` and format are ignored.
        arrays: content of ``arrays/NAME.npy``; no array of Python objects.
        texts: further files by relative path, e.g. ``CARD.md``.
        overwrite: replace an existing bundle.
        measured: how the categories fared on test papers; kept beside the manifest, which does not
            list it, so that the digest is the same for a bundle that was measured again. Or, as
            bytes, what ``measured.json`` of another bundle holds.

    Raises:
        InvalidConfig: the manifest contradicts itself, a file name is not plain, or an ONNX model
            keeps weights in another file.
        StorageFailed: something is in the way, or it cannot be written.
    """
    texts = texts or {}
    problem = manifest_problem(replace(manifest, files={}))
    if problem is not None:
        raise InvalidConfig(problem)
    _check_files(arrays, texts)
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        _write_arrays(temporary, arrays)
        _write_texts(temporary, texts)
        files = describe_files(temporary)
        manifest = replace(manifest, files=files, format_version=BUNDLE_FORMAT)
        if content := measured if isinstance(measured, bytes) else _rendered(measured):
            _write_texts(temporary, {MEASURED_FILE: content})
        (temporary / MANIFEST_FILE).write_bytes(render_manifest(manifest))
    return manifest


def _rendered(measured: Iterable[CategoryReport]) -> str:
    categories = tuple(measured)
    return render_measured(categories) if categories else ""


def _check_files(
    arrays: Mapping[str, NDArray[np.generic]], texts: Mapping[str, str | bytes]
) -> None:
    for name, array in arrays.items():
        if not is_array_file(_array_file(name)) or array.dtype.hasobject:
            raise InvalidConfig(
                f"array {name!r} of {array.dtype} cannot be stored: use [A-Za-z0-9_] and numbers."
            )
    for name, content in texts.items():
        is_reserved = name.lower() in (MANIFEST_FILE, MEASURED_FILE)
        if is_reserved or name.split("/")[0] == ARRAYS_FOLDER or not is_safe_file_name(name):
            raise InvalidConfig(f"file name {name!r} is reserved or not a plain relative path.")
        if name.endswith(MODEL_SUFFIX) and isinstance(content, bytes):
            problem = onnx_problem(content)
            if problem is not None:
                raise InvalidConfig(f"{name} {problem}. Save it with all of its weights inside.")


def _array_file(name: str) -> str:
    return f"{ARRAYS_FOLDER}/{name}.npy"


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write what ``np.save`` writes, whose error on a full disk does not say that it is full."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def _write_arrays(folder: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    if arrays:
        (folder / ARRAYS_FOLDER).mkdir()
    for name, array in arrays.items():
        write_array(folder / _array_file(name), array)


def _write_texts(folder: Path, texts: Mapping[str, str | bytes]) -> None:
    for name, content in texts.items():
        path = folder / PurePosixPath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def describe_files(folder: Path) -> dict[str, BundleFile]:
    """Return digest and size of every file of a folder, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): BundleFile(
            sha256=sha256_file(path), bytes=path.stat().st_size
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
