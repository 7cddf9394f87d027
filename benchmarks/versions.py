"""Versions of the packaged model in a registry of their own, for benchmarks and tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from classmark.bundle import find_bundle, load_bundle, read_digest, write_bundle
from classmark.records import GateCheck, GateReport
from classmark.registry import Registry
from classmark.wire import ModelRef

WHO = "a test"


def report_of(digest: str, *, passed: bool = True) -> bytes:
    """Return a gate report of one line that a bundle passed, or failed."""
    line = GateCheck(
        group="metrics",
        name="top_1",
        value=0.6 if passed else 0.4,
        limit=0.5,
        outcome="passed" if passed else "failed",
    )
    report = GateReport(
        candidate=ModelRef("tiny", "1.0", digest),
        champion=None,
        dataset_digest="d" * 64,
        split="test",
        generated=True,
        n=300,
        date="2026-01-01T00:00:00+00:00",
        machine="a machine",
        command="a test",
        rules={},
        left_out=(),
        checks=(line,),
    )
    return json.dumps(report.to_dict()).encode()


class Versions:
    """A registry, and the bundles that were made for it.

    Attributes:
        registry: open.
        folders: of the bundles, by digest.
    """

    def __init__(self, folder: Path) -> None:
        self.registry = Registry.create(folder / "registry", who=WHO)
        self.folders: dict[str, Path] = {}
        self._folder = folder

    @property
    def path(self) -> Path:
        """Return the folder of the registry."""
        return self.registry.path

    @property
    def champion(self) -> str:
        """Return the digest of the champion."""
        digest = self.registry.pointer().channels.champion
        assert digest is not None
        return digest

    def add(self, version: str, **changes: Any) -> str:
        """Add a version of the packaged model with its own probabilities; return its digest."""
        packaged = load_bundle(find_bundle("fast"))
        temperature = 1 + len(self.folders) / 10
        policy = replace(packaged.manifest.policy, temperature=temperature)
        manifest = replace(packaged.manifest, version=version, policy=policy, **changes)
        folder = self._folder / f"{manifest.name}-{version}"
        write_bundle(folder, manifest, packaged.arrays, {"CARD.md": f"# {version}\n"})
        self.folders[read_digest(folder)] = folder
        return self.registry.add(folder, who=WHO)

    def add_turned(self, version: str) -> str:
        """Add a version that ranks another category first for every paper; return its digest."""
        labels = load_bundle(find_bundle("fast")).manifest.labels
        return self.add(version, labels=(*labels[1:], labels[0]))

    def promote(self, digest: str) -> int:
        """Make a bundle the champion; return the number of that change."""
        return self.registry.promote(digest, who=WHO, why="a test", force=True).sequence

    def keep_report(self, digest: str) -> None:
        """Let a bundle have passed its gate."""
        self.registry.keep_report(report_of(digest))

    def canary(self, digest: str, percent: float, **options: Any) -> int:
        """Let a bundle that passed its gate answer a share; return the number of that change."""
        self.keep_report(digest)
        given: dict[str, Any] = {"rules": {}, "who": WHO, **options}
        return self.registry.start_canary(digest, percent=percent, **given).sequence

    def folder(self, digest: str) -> Path:
        """Return where the registry keeps a bundle."""
        return self.path / "bundles" / digest
