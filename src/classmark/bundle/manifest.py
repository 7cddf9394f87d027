"""The metadata of a bundle: ``bundle.json`` with its digest and seal, and ``measured.json``.

The digest covers what decides answers; the seal covers everything else too. Bundles of format 1
have one number for both, which they call their digest.

``measured.json`` says how each category fared on test papers, which decides no answer. It is not in
the manifest, so that measuring a bundle again does not change its digest. It has a digest of its
own, so that damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from classmark.bundle.check import (
    MOST_DEPTH,
    MOST_NAME_CHARS,
    is_deeper,
    is_safe_text,
    manifest_problem,
    shown,
)
from classmark.bundle.files import MANIFEST_FILE, read_manifest_bytes, read_small
from classmark.errors import BundleCorrupt, BundleIncompatible, BundleNotFound
from classmark.records import BundleManifest, CategoryReport
from classmark.records.manifests import READ_VERSIONS
from classmark.wire import Reliability

_DIGEST, _SEAL = "digest", "seal"
_DECIDING = (
    *("kind", "label_space", "labels", "text_recipe", "featuriser", "taxonomy"),
    *("policy", "parameters"),
)
_FOR_PEOPLE = ".md"
"""Suffix of texts such as ``CARD.md``; they decide no answer."""
MEASURED_FILE = "measured.json"
REFERENCE_PREFIX = "reference_"
"""Begins the names of the arrays that the monitor compares with, which decide no answer."""
_REFERENCE_FILES = f"arrays/{REFERENCE_PREFIX}"
_DIGITS = 3


def manifest_digest(manifest: BundleManifest) -> str:
    """Return the digest of what decides the answers of a bundle, 64 hexadecimal digits.

    It is the SHA-256 of the canonical JSON of labels, policy, parameters, columns, the versions of
    recipe, featuriser and taxonomy, and the digests of the files that are read to answer. Name and
    version, metrics, provenance, the card and the reference are not in it: a fit that is repeated
    with the same seed has the same digest. In format 1 it is the seal.
    """
    value = manifest.to_dict()
    return _digest_of(value if manifest.format_version == 1 else _deciding(value))


def manifest_seal(manifest: BundleManifest) -> str:
    """Return the digest of all that a manifest says, 64 hexadecimal digits.

    The manifest holds the digest of each file, so any changed byte of the folder changes the seal
    or breaks one of those.
    """
    if manifest.format_version == 1:
        return manifest_digest(manifest)
    return _digest_of({**manifest.to_dict(), _DIGEST: manifest_digest(manifest)})


def render_manifest(manifest: BundleManifest) -> bytes:
    """Return the bytes of ``bundle.json``; equal manifests give equal bytes."""
    value = {**manifest.to_dict(), _DIGEST: manifest_digest(manifest)}
    if manifest.format_version > 1:
        value[_SEAL] = manifest_seal(manifest)
    return _render(value)


def read_manifest(folder: Path) -> BundleManifest:
    """Return the metadata of a bundle after checking that it makes sense; reads no other file.

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


def read_seal(folder: Path) -> str:
    """Return the seal of a bundle after checking it against ``bundle.json`` itself.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: as ``read_manifest``.
    """
    return manifest_seal(read_manifest(folder))


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
    if type(version) is not int or version not in READ_VERSIONS:
        raise BundleIncompatible(
            f"{path} has format version {shown(version)}{_writer_of(value)}, this classmark "
            f"reads {', '.join(map(str, READ_VERSIONS))}. Install the matching classmark, or "
            "export the bundle again."
        )
    return _checked(path, content, value, _DIGEST if version == 1 else _SEAL)


def _checked(path: Path, content: bytes, value: dict[str, Any], seal: str) -> BundleManifest:
    """Return the manifest if its bytes are the one spelling of it and its digests are right.

    Args:
        path: of ``bundle.json``.
        content: of it.
        value: the object that it holds; loses its digests.
        seal: key of the digest of everything else.
    """
    stated = value.pop(seal, None)
    try:
        is_unchanged = stated == _digest_of(value) and content == _render({**value, seal: stated})
    except ValueError:  # a number that is not finite, or half a surrogate: never written
        is_unchanged = False
    if not is_unchanged:
        raise _corrupt(path, f"its content does not match its {seal}")
    digest = value.pop(_DIGEST, None) if seal != _DIGEST else stated
    try:
        manifest = BundleManifest.from_dict(value)
    except BundleIncompatible as error:
        raise BundleIncompatible(f"{path}: {error}") from error
    problem = manifest_problem(manifest)
    if problem is None and _digest_of(manifest.to_dict()) != _digest_of(value):
        problem = "it lacks fields that every bundle has."
    if problem is None and manifest_digest(manifest) != digest:
        problem = f"its digest {shown(digest)} is not that of what decides its answers."
    if problem is not None:
        raise BundleIncompatible(f"{path}: {problem} Install or export the model again.")
    return manifest


def _writer_of(value: dict[str, Any]) -> str:
    """Return which classmark wrote a bundle, in parentheses; "" if it does not say so."""
    provenance = value.get("provenance")
    packages = provenance.get("packages") if isinstance(provenance, dict) else None
    version = packages.get("classmark") if isinstance(packages, dict) else None
    return f" (of classmark {version})" if is_safe_text(version, MOST_NAME_CHARS) else ""


def _corrupt(path: Path, problem: str) -> BundleCorrupt:
    return BundleCorrupt(
        f"{path} has changed since it was written: {problem}. Install or export the model again."
    )


def _deciding(value: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest that decides answers."""
    files = {
        name: file
        for name, file in value["files"].items()
        if not (name.endswith(_FOR_PEOPLE) or name.startswith(_REFERENCE_FILES))
    }
    deciding = {key: value[key] for key in (*_DECIDING, "columns", "authors") if key in value}
    return {**deciding, "files": files}


def _digest_of(value: dict[str, Any]) -> str:
    canonical = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _render(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def render_measured(categories: Iterable[CategoryReport]) -> str:
    """Return the content of ``measured.json``.

    For each category: how many test papers it has, for how many it was ranked first, and how many
    of these were right.
    """
    return _render_counts(
        {c.code: {"papers": c.n, "first": c.predicted, "right": c.right} for c in categories}
    )


def read_measured(folder: Path) -> dict[str, Reliability]:
    """Return how reliable each measured category is; empty if the bundle was not measured.

    Raises:
        BundleCorrupt: the file has changed since it was written, or cannot be read.
    """
    path = folder / MEASURED_FILE
    try:
        content = read_small(path)
    except FileNotFoundError:
        return {}
    try:
        categories = json.loads(content)["categories"]
        found = {code: _reliability(**counts) for code, counts in categories.items()}
        is_unchanged = content == _render_counts(categories).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _changed(path) from error
    if not is_unchanged:
        raise _changed(path)
    return found


def read_measured_bytes(folder: Path) -> bytes:
    """Return the content of ``measured.json``, for another bundle; b"" if there is none.

    Raises:
        BundleCorrupt: the file cannot be read.
    """
    try:
        return read_small(folder / MEASURED_FILE)
    except FileNotFoundError:
        return b""


def rarely_right(labels: Iterable[str], reliability: Mapping[str, Reliability]) -> list[str]:
    """Return the labels that were measured, and not once right when they came first."""
    return [
        label for label in labels if label in reliability and reliability[label].is_rarely_right
    ]


def _reliability(papers: int, first: int, right: int) -> Reliability:
    if not 0 <= right <= min(papers, first):
        raise ValueError(f"{right} right of {first} ranked first, with {papers} papers")
    return Reliability(round(right / first, _DIGITS) if first else None, first)


def _render_counts(categories: dict[str, Any]) -> str:
    canonical = json.dumps(categories, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    value = {"categories": categories, "digest": sha256(canonical.encode()).hexdigest()}
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _changed(path: Path) -> BundleCorrupt:
    return BundleCorrupt(
        f"{path} has changed since it was written. Delete it to get answers without "
        "reliability, or install or export the model again."
    )
