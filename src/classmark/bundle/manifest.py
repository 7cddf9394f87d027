"""``bundle.json``: its one spelling, its digest, and reading it with suspicion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from classmark.bundle.check import MOST_DEPTH, is_deeper, manifest_problem, shown
from classmark.bundle.files import MANIFEST_FILE, read_manifest_bytes
from classmark.errors import BundleCorrupt, BundleIncompatible, BundleNotFound
from classmark.records import BundleManifest
from classmark.records.bundle import FORMAT_VERSION

_DIGEST = "digest"


def manifest_digest(manifest: BundleManifest) -> str:
    """Return the digest of a bundle, 64 hexadecimal digits.

    It is the SHA-256 of the canonical JSON of the manifest. The manifest holds the digest of each
    file, so any changed byte of the folder changes this digest or breaks one of those.
    """
    return _digest_of(manifest.to_dict())


def render_manifest(manifest: BundleManifest) -> bytes:
    """Return the bytes of ``bundle.json``; equal manifests give equal bytes."""
    return _render({**manifest.to_dict(), _DIGEST: manifest_digest(manifest)})


def read_manifest(folder: Path) -> BundleManifest:
    """Read what a bundle says of itself, and check that it makes sense; its files are not read.

    Raises:
        BundleNotFound: there is no ``bundle.json``.
        BundleCorrupt: a byte of it has changed since it was written.
        BundleIncompatible: it is of another format version, or holds a value that no bundle can.
    """
    return _parse(folder, _read_bytes(folder))


def read_digest(folder: Path) -> str:
    """Return the digest of a bundle after checking it against ``bundle.json`` itself.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: as ``read_manifest``.
    """
    return manifest_digest(read_manifest(folder))


def _read_bytes(folder: Path) -> bytes:
    try:
        return read_manifest_bytes(folder)
    except FileNotFoundError as error:
        raise BundleNotFound(f"no model at {folder}: it holds no {MANIFEST_FILE}.") from error


def _parse(folder: Path, content: bytes) -> BundleManifest:
    path = folder / MANIFEST_FILE
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "it is not JSON") from error
    if not isinstance(value, dict):
        raise _corrupt(path, f"it holds a {type(value).__name__}, not an object")
    if is_deeper(value, MOST_DEPTH):
        raise _corrupt(path, f"it has more than {MOST_DEPTH} levels")
    # First of all: another format may spell and digest itself in another way.
    version = value.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleIncompatible(
            f"{path} has format version {shown(version)}, this classmark reads "
            f"{FORMAT_VERSION}. Install the matching classmark, or export the bundle again."
        )
    return _checked(path, content, value)


def _checked(path: Path, content: bytes, value: dict[str, Any]) -> BundleManifest:
    """Return the manifest if its bytes are the one spelling of it and its digest is right."""
    stated = value.pop(_DIGEST, None)
    try:
        is_unchanged = stated == _digest_of(value) and content == _render(
            {**value, _DIGEST: stated}
        )
    except ValueError:  # a number that is not finite, or half a surrogate: never written
        is_unchanged = False
    if not is_unchanged:
        raise _corrupt(path, "its content does not match its digest")
    try:
        manifest = BundleManifest.from_dict(value)
    except BundleIncompatible as error:
        raise BundleIncompatible(f"{path}: {error}") from error
    problem = manifest_problem(manifest)
    if problem is None and manifest_digest(manifest) != stated:
        problem = "it lacks fields that every bundle has."
    if problem is not None:
        raise BundleIncompatible(f"{path}: {problem} Install or export the model again.")
    return manifest


def _corrupt(path: Path, problem: str) -> BundleCorrupt:
    return BundleCorrupt(
        f"{path} has changed since it was written: {problem}. Install or export the model again."
    )


def _digest_of(value: dict[str, Any]) -> str:
    canonical = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _render(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()
