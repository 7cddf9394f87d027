"""Load a bundle: map its arrays, and prove that it is what was written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from classmark.bundle.find import MANIFEST_FILE
from classmark.bundle.manifest import manifest_digest, read_digest, read_manifest
from classmark.bundle.write import ARRAYS_FOLDER, is_safe_file_name
from classmark.errors import BundleCorrupt, BundleIncompatible, BundleNotFound, ClassmarkError
from classmark.records import BundleManifest
from classmark.storage import sha256_file

_MAX_ATTEMPTS = 50


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was read; its arrays are mapped, so they cost memory only where touched.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        digest: digest of the whole, 64 hexadecimal digits.
        arrays: the mapped arrays by name, read-only.
    """

    path: Path
    manifest: BundleManifest
    digest: str
    arrays: dict[str, NDArray[np.generic]]

    def array(self, name: str) -> NDArray[np.generic]:
        """Return an array of the bundle, mapped read-only.

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

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists, e.g. ``CARD.md``.

        Raises:
            BundleIncompatible: the manifest lists no such file.
        """
        if name not in self.manifest.files:
            raise BundleIncompatible(f"bundle {self.path} has no file {name!r}.")
        return self.path / name


def load_bundle(folder: Path, *, verify: bool = True) -> Bundle:
    """Load a bundle from its folder.

    The folder may be replaced by another version meanwhile: the answer is wholly the old one or
    wholly the new one.

    Args:
        folder: as ``find_bundle`` returns it.
        verify: hash every file; without it only ``bundle.json`` is checked against its digest.

    Raises:
        BundleNotFound: there is no bundle.
        BundleCorrupt: a file is missing, unexpected or changed; the message names it.
        BundleIncompatible: it is of another format version.
    """
    for _ in range(_MAX_ATTEMPTS):
        manifest = read_manifest(folder)
        try:
            bundle = _load(folder, manifest, verify=verify)
        except ClassmarkError:
            if _is_still(folder, manifest):
                raise
        else:
            if _is_still(folder, manifest):
                return bundle
    raise _corrupt(folder, f"was replaced {_MAX_ATTEMPTS} times while it was read")


def verify_files(folder: Path, manifest: BundleManifest) -> None:
    """Check every file of a bundle against its manifest.

    Raises:
        BundleCorrupt: a file is missing, unexpected or changed; the message names it.
    """
    _refuse_unexpected_files(folder, manifest)
    for name, described in manifest.files.items():
        path = _path_of(folder, name)
        try:
            unchanged = (
                path.stat().st_size == described.bytes and sha256_file(path) == described.sha256
            )
        except FileNotFoundError as error:
            raise _corrupt(path, "is missing") from error
        except OSError as error:
            raise _corrupt(path, f"cannot be read ({error.strerror})") from error
        if not unchanged:
            raise _corrupt(path, "has changed since the bundle was written")


def _load(folder: Path, manifest: BundleManifest, *, verify: bool) -> Bundle:
    if verify:
        verify_files(folder, manifest)
    arrays = {
        Path(name).stem: _map_array(_path_of(folder, name))
        for name in manifest.files
        if name.startswith(f"{ARRAYS_FOLDER}/") and name.endswith(".npy")
    }
    return Bundle(folder, manifest, manifest_digest(manifest), arrays)


def _map_array(path: Path) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise _corrupt(path, "is missing") from error
    except (OSError, ValueError, TypeError, OverflowError, SyntaxError, TokenError) as error:
        raise _corrupt(path, "has changed since the bundle was written: it is no array") from error
    return array


def _path_of(folder: Path, name: str) -> Path:
    if not is_safe_file_name(name):
        raise _corrupt(folder / MANIFEST_FILE, f"lists a file outside of its folder, {name!r}")
    return folder / name


def _refuse_unexpected_files(folder: Path, manifest: BundleManifest) -> None:
    known = {MANIFEST_FILE, *manifest.files}
    # os.walk, because rglob fails where a folder vanishes under it.
    for root, folders, names in os.walk(folder):
        # File managers leave hidden files behind; nothing reads them.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and path.relative_to(folder).as_posix() not in known:
                raise _corrupt(path, "does not belong to the bundle")


def _is_still(folder: Path, manifest: BundleManifest) -> bool:
    try:
        return read_digest(folder) == manifest_digest(manifest)
    except (BundleNotFound, BundleCorrupt, BundleIncompatible):
        return False


def _corrupt(path: Path, problem: str) -> BundleCorrupt:
    return BundleCorrupt(f"{path} {problem}. Install or export the model again.")
