"""The bundles of a registry as folders: found by a text, copied in whole, removed in one step."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from classmark.bundle import Bundle, load_bundle
from classmark.bundle.files import MANIFEST_FILE
from classmark.bundle.manifest import MEASURED_FILE, read_measured_bytes, render_manifest
from classmark.errors import (
    BundleCorrupt,
    BundleIncompatible,
    BundleNotFound,
    CloudNotFound,
    UsageError,
)
from classmark.records import BundleManifest, Pointer
from classmark.records.registry import CHANNELS
from classmark.storage import (
    atomic_folder,
    discard,
    discard_old,
    is_remote,
    local_copy,
    recover_output,
    remove,
)

BUNDLES, SIGNATURES, REPORTS = "bundles", "signatures", "reports"
FEWEST_DIGITS = 8
_HEX = frozenset("0123456789abcdef")


def find_digest(pointer: Pointer, spec: str) -> str:
    """Return the digest of the bundle that a text means.

    Args:
        pointer: the state of the registry.
        spec: a channel, NAME@VERSION, a digest, or its first digits, at least 8.

    Raises:
        BundleNotFound: there is none, or the channel is empty.
        UsageError: it means several.
    """
    if spec in CHANNELS:
        digest = pointer.channel(spec)
        if digest is None:
            raise BundleNotFound(f"no bundle is the {spec}. `classmark registry list` shows all.")
        return digest
    is_digits = len(spec) >= FEWEST_DIGITS and set(spec) <= _HEX
    found = [
        digest
        for digest, known in pointer.bundles.items()
        if known.spec == spec or (is_digits and digest.startswith(spec))
    ]
    if len(found) > 1:
        raise UsageError(f"{spec!r} means {len(found)} bundles. Give more digits of the digest.")
    if not found:
        specs = ", ".join(sorted(known.spec for known in pointer.bundles.values())) or "none"
        raise BundleNotFound(
            f"the registry has no bundle {spec[:64]!r}; there is {specs}. Give a channel, "
            f"NAME@VERSION, or at least {FEWEST_DIGITS} digits of a digest."
        )
    return found[0]


def members_of(manifest: BundleManifest) -> Iterator[tuple[str, str]]:
    """Yield (part, digest) of the models that a bundle names, as a cascade does."""
    for part in ("fast", "deep"):
        reference = manifest.parameters.get(part)
        if isinstance(reference, dict) and isinstance(reference.get("digest"), str):
            yield part, reference["digest"]


def copy_in(bundle: Bundle, target: Path, *, keep_sound: bool) -> Bundle:
    """Write a bundle to its place, whole or not at all; returns what is there.

    Args:
        bundle: as it was loaded; its files are read again, and must be the same.
        target: its folder in the registry.
        keep_sound: leave a bundle of that digest which is there, unless it is damaged.

    Raises:
        BundleCorrupt: it changed while it was copied.
        StorageFailed: it cannot be written.
    """
    recover_output(target)
    if keep_sound:
        with suppress(CloudNotFound, BundleNotFound, BundleCorrupt, BundleIncompatible):
            return load_bundle(local_copy(target))
    with atomic_folder(target, overwrite=True, last=MANIFEST_FILE) as folder:
        for name in bundle.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((bundle.path / name).read_bytes())
        (folder / MANIFEST_FILE).write_bytes(render_manifest(bundle.manifest))
        if measured := read_measured_bytes(bundle.path):
            (folder / MEASURED_FILE).write_bytes(measured)
        load_bundle(folder)
    return load_bundle(local_copy(target))


def remove_unknown(registry: Path, known: Collection[str]) -> tuple[str, ...]:
    """Delete what belongs to no known bundle; returns the digests of the bundles that went.

    In a bucket, where another process may be adding one, only what is older than a day goes.
    """
    if is_remote(registry):
        return _remove_old(registry, known)
    gone = [folder for folder in sorted((registry / BUNDLES).iterdir()) if folder.name not in known]
    for folder in gone:
        discard(folder)
    for signature in sorted((registry / SIGNATURES).iterdir()):
        if signature.name not in known:
            remove(signature)
    return tuple(folder.name for folder in gone if not folder.name.startswith("."))


def _remove_old(registry: Path, known: Collection[str]) -> tuple[str, ...]:
    for signature in (registry / SIGNATURES).iterdir():
        if signature.name not in known:
            discard_old(signature)
    spare = [folder for folder in (registry / BUNDLES).iterdir() if folder.name not in known]
    return tuple(folder.name for folder in spare if discard_old(folder, first=MANIFEST_FILE))


def unlike(folder: Path) -> BundleCorrupt:
    """Return the error of a bundle that is not the one that was added under its name."""
    return BundleCorrupt(
        f"{folder / MANIFEST_FILE} is another one than was added as {folder.name[:12]}. Restore "
        "the folder from a copy of the registry, or add that bundle again."
    )
