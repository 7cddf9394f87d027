"""Load a bundle: read each file once, prove that it is what was written, and keep just that."""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from classmark.bundle.check import is_array_file, is_safe_file_name
from classmark.bundle.files import MANIFEST_FILE, corrupt, opened, refuse_unknown_files, unread
from classmark.bundle.manifest import (
    MEASURED_FILE,
    manifest_digest,
    manifest_seal,
    read_manifest,
    read_measured,
    read_seal,
)
from classmark.bundle.onnx import MODEL_SUFFIX, onnx_problem
from classmark.errors import BundleCorrupt, BundleIncompatible, BundleNotFound, ClassmarkError
from classmark.records import BundleFile, BundleManifest
from classmark.wire import Reliability

_MAX_ATTEMPTS = 50
_LINE_BYTES = 64
"""Arrays begin where a line of the cache does, so that a row of 32 bytes is never in two."""
_OWN_PAGES_BYTES = 256 * 1024
_MAX_HEADER_BYTES = 16_384
_HEADER_READERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}

# What numpy raises over the header of a file that is not an array.
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, OverflowError, SyntaxError, TokenError),
    *(RecursionError, MemoryError),
)

Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle in the memory of this process; later changes of its folder do not matter.

    Processes that are forked from this one share the memory, as nothing writes to it.

    Attributes:
        path: its folder.
        manifest: its metadata.
        digest: digest of what decides its answers, 64 hexadecimal digits.
        arrays: the arrays by name, read-only.
        contents: the other files by relative path.
        reliability: how categories fared on test papers, by code; empty if nobody measured it.
        members: of a cascade whose models were read too: these, by ``fast`` and ``deep``.
    """

    path: Path
    manifest: BundleManifest
    digest: str
    arrays: Mapping[str, NDArray[np.generic]]
    contents: Mapping[str, bytes]
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    members: Mapping[str, Bundle] = field(default_factory=dict)

    def array(self, name: str) -> NDArray[np.generic]:
        """Return an array of the bundle, read-only.

        Raises:
            BundleIncompatible: the bundle has no such array.
        """
        try:
            return self.arrays[name]
        except KeyError as error:
            raise BundleIncompatible(
                f"bundle {self.path} has no array {name!r} (it has {', '.join(self.arrays)}). "
                "Export the model again with this classmark."
            ) from error

    def content(self, name: str) -> bytes:
        """Return the content of a file that the manifest lists, e.g. ``CARD.md``.

        Raises:
            BundleIncompatible: the manifest lists no such file.
        """
        try:
            return self.contents[name]
        except KeyError as error:
            raise BundleIncompatible(
                f"bundle {self.path} has no file {name!r}. Export the model again with this "
                "classmark."
            ) from error


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle from its folder.

    The folder may be replaced by another version meanwhile: the answer is wholly the old one or
    wholly the new one.

    Args:
        folder: as ``find_bundle`` returns it.

    Raises:
        BundleNotFound: there is no bundle.
        BundleCorrupt: a file is missing, unexpected or changed; the message names it.
        BundleIncompatible: it is of another format version, or holds what no bundle can.
    """
    for _ in range(_MAX_ATTEMPTS):
        manifest = read_manifest(folder)
        try:
            bundle = _load(folder, manifest)
        except ClassmarkError:
            if _is_still(folder, manifest):
                raise
        else:
            if _is_still(folder, manifest):
                return bundle
    raise corrupt(folder, f"was replaced {_MAX_ATTEMPTS} times while it was read")


def verify_files(folder: Path, manifest: BundleManifest) -> None:
    """Check every file of a bundle against its manifest.

    Raises:
        BundleCorrupt: a file is missing, unexpected or changed; the message names it.
        BundleIncompatible: a file is as it was written, but no bundle can have it.
    """
    refuse_unknown_files(folder, {MANIFEST_FILE, MEASURED_FILE, *manifest.files})
    for name, described in manifest.files.items():
        _read_file(folder, name, described)
    read_measured(folder)


def _load(folder: Path, manifest: BundleManifest) -> Bundle:
    refuse_unknown_files(folder, {MANIFEST_FILE, MEASURED_FILE, *manifest.files})
    arrays: dict[str, NDArray[np.generic]] = {}
    contents: dict[str, bytes] = {}
    for name, described in manifest.files.items():
        read = _read_file(folder, name, described)
        if isinstance(read, bytes):
            contents[name] = read
        else:
            arrays[Path(name).stem] = read
    digest = manifest_digest(manifest)
    return Bundle(folder, manifest, digest, arrays, contents, read_measured(folder))


def _read_file(folder: Path, name: str, described: BundleFile) -> NDArray[np.generic] | bytes:
    """Return a file of a bundle, an array as one, after comparing its digest."""
    if not is_safe_file_name(name):
        raise corrupt(folder / MANIFEST_FILE, f"lists a file outside of its folder, {name!r}")
    path = folder / name
    content = _read_unchanged(path, described)
    if is_array_file(name):
        return _to_array(path, content)
    as_bytes = content.tobytes()
    problem = onnx_problem(as_bytes) if name.endswith(MODEL_SUFFIX) else None
    if problem is not None:
        raise BundleIncompatible(
            f"{path} {problem}. Export the model again with all of its weights inside."
        )
    return as_bytes


def _read_unchanged(path: Path, described: BundleFile) -> Bytes:
    """Return the bytes of a file, from the one time it is read, if they have the right digest."""
    try:
        with opened(path) as (file, n_bytes):
            is_whole = n_bytes == described.bytes
            content = _aligned(n_bytes if is_whole else 0)
            is_whole = is_whole and _fill(content, file)
    except FileNotFoundError as error:
        raise corrupt(path, "is missing") from error
    except OSError as error:
        raise unread(path, error) from error
    if not is_whole or hashlib.sha256(content.data).hexdigest() != described.sha256:
        raise corrupt(path, "has changed since the bundle was written")
    return content


def _fill(content: Bytes, file: io.RawIOBase) -> bool:
    """Read a file into memory of its size; False if it was cut off meanwhile."""
    n_read = 0
    while n_read < len(content):
        n_more = file.readinto(content.data[n_read:])
        if not n_more:
            return False
        n_read += n_more
    return True


def _aligned(n_bytes: int) -> Bytes:
    """Return memory that begins at a line of the cache.

    A large array gets pages of its own, which the system has back when the model is freed. From the
    heap it would not: there the next model does not fit into the place of the last one.
    """
    if n_bytes >= _OWN_PAGES_BYTES and sys.platform != "win32":
        pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return np.frombuffer(pages, dtype=np.uint8)
    whole = np.empty(n_bytes + _LINE_BYTES, dtype=np.uint8)
    start = -int(whole.__array_interface__["data"][0]) % _LINE_BYTES
    return whole[start : start + n_bytes]


def _to_array(path: Path, content: Bytes) -> NDArray[np.generic]:
    """Return the array that a ``.npy`` file holds, as a read-only view of its bytes."""
    head = io.BytesIO(content[:_MAX_HEADER_BYTES].tobytes())
    try:
        shape, in_fortran_order, dtype = _HEADER_READERS[npy.read_magic(head)](head)
        start, n_bytes = head.tell(), math.prod(shape) * dtype.itemsize
        if dtype.hasobject or in_fortran_order or min(shape, default=0) < 0:
            raise ValueError("it is not plain numbers in C order")
        if len(content) - start != n_bytes or start % dtype.alignment:
            raise ValueError(f"{len(content) - start} bytes of data for shape {shape} of {dtype}")
        read_only = np.asarray(content.data.toreadonly())
        array: NDArray[np.generic] = read_only[start:].view(dtype).reshape(shape)
    except _UNREADABLE as error:
        raise BundleIncompatible(
            f"{path}: it is not an array that classmark writes ({str(error)[:200]}). Export the "
            "model again."
        ) from error
    return array


def _is_still(folder: Path, manifest: BundleManifest) -> bool:
    try:
        return read_seal(folder) == manifest_seal(manifest)
    except (BundleNotFound, BundleCorrupt, BundleIncompatible):
        return False
