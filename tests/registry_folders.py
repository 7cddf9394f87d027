"""Registries for tests: tiny bundles that differ, and reports that they passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark.bundle import write_bundle
from classmark.registry import Registry
from tiny_bundles import tiny_manifest
from versions import report_of

__all__ = ["WHO", "add_passed", "registry", "report_of", "three", "write_tiny"]
WHO = "tester@here"


def write_tiny(folder: Path, version: str, **changes: Any) -> Path:
    """Write a tiny bundle whose digest depends on its version."""
    weights = np.arange(12, dtype=np.int8).reshape(3, 4) + int(version.split(".")[0])
    labels = changes.get("labels")
    manifest = tiny_manifest("tiny", version, **({"labels": labels} if labels else {}))
    write_bundle(folder, manifest, {"weights": weights}, {"CARD.md": "# Tiny\n"})
    return folder


def add_passed(registry: Registry, folder: Path, version: str) -> str:
    """Add a tiny bundle that passed the gate; returns its digest."""
    digest = registry.add(write_tiny(folder / f"tiny-{version}", version), who=WHO)
    registry.keep_report(report_of(digest))
    return digest


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Return an empty registry."""
    return Registry.create(tmp_path / "registry", who=WHO)


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> list[str]:
    """Return the digests of three bundles of the registry that passed the gate."""
    return [add_passed(registry, tmp_path, version) for version in ("1.0", "2.0", "3.0")]
