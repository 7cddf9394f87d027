"""The bundle format: write, read, digest, verify, find by name.

A bundle is a folder that holds ``bundle.json`` (its metadata), ``arrays/*.npy`` and
texts such as ``CARD.md``. Names load lazily: finding a bundle needs no numpy, which keeps
``--version`` instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classmark.bundle.find import FoundBundle, find_bundle, list_bundles
    from classmark.bundle.load import Bundle, load_bundle
    from classmark.bundle.manifest import manifest_digest, read_digest, read_manifest
    from classmark.bundle.write import describe_files, write_array, write_bundle

_HOMES = {
    "Bundle": "classmark.bundle.load",
    "FoundBundle": "classmark.bundle.find",
    "find_bundle": "classmark.bundle.find",
    "list_bundles": "classmark.bundle.find",
    "load_bundle": "classmark.bundle.load",
    "manifest_digest": "classmark.bundle.manifest",
    "read_digest": "classmark.bundle.manifest",
    "read_manifest": "classmark.bundle.manifest",
    "describe_files": "classmark.bundle.write",
    "write_array": "classmark.bundle.write",
    "write_bundle": "classmark.bundle.write",
}

__all__ = [
    "Bundle",
    "FoundBundle",
    "describe_files",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "manifest_digest",
    "read_digest",
    "read_manifest",
    "write_array",
    "write_bundle",
]


def __getattr__(name: str) -> object:
    """Load a name of this room when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classmark.bundle' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
