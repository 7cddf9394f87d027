"""The digest is that of what decides answers, the seal that of everything."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spoilt_bundles
from classmark.bundle import (
    find_bundle,
    load_bundle,
    manifest_digest,
    read_digest,
    read_manifest,
    write_bundle,
)
from classmark.bundle.manifest import read_seal, render_manifest
from classmark.errors import BundleIncompatible
from classmark.records import BundleManifest
from classmark.records.manifests import BUNDLE_FORMAT

Make = Callable[..., Path]
MakeManifest = Callable[..., BundleManifest]


def test_the_same_content_has_the_same_digest_and_seal(
    tmp_path: Path, manifest: MakeManifest
) -> None:
    for name in ("a", "b"):
        write_bundle(tmp_path / name, manifest(), {"w": np.ones(3)}, {"CARD.md": "x"})
    assert read_digest(tmp_path / "a") == read_digest(tmp_path / "b")
    assert read_seal(tmp_path / "a") == read_seal(tmp_path / "b")


WRITTEN: dict[str, Any] = {"arrays": {"w": np.ones(3)}, "texts": {"CARD.md": "x", "v.txt": "a"}}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"version": "9.0"},
        {"metrics": {"reliability": {"cs.LG": 0.9}}},
        {"provenance": {"date": "2031-01-01", "seed": 8}},
        {"texts": {"CARD.md": "y", "v.txt": "a"}},
        {"texts": {"CARD.md": "x", "NOTES.md": "y", "v.txt": "a"}},
    ],
)
def test_what_decides_no_answer_changes_the_seal_only(
    tmp_path: Path, manifest: MakeManifest, change: dict[str, Any]
) -> None:
    before = write_with(tmp_path / "a", manifest, {})
    after = write_with(tmp_path / "b", manifest, change)
    assert read_digest(after) == read_digest(before)
    assert read_seal(after) != read_seal(before)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "transformer"},
        {"label_space": "free"},
        {"labels": ("cs.LG", "hep-th", "stat.ML", "math.CO")},
        {"text_recipe": "9"},
        {"featuriser": "9"},
        {"taxonomy": "9"},
        {"parameters": {"curve": 2}},
        {"policy": {"temperature": 2.0}},
        {"policy": {"thresholds": (0.5, 0.5, 0.5, 0.25)}},
        {"policy": {"cross_list_thresholds": (0.25, 0.2, 0.2, 0.2)}},
        {"policy": {"set_threshold": 0.25}},
        {"policy": {"scope_weights": (1.0, 2.0, 3.0)}},
        {"arrays": {"w": np.zeros(3)}},
        {"arrays": {"v": np.ones(3)}},
        {"texts": {"CARD.md": "x", "v.txt": "b"}},
    ],
)
def test_what_decides_answers_changes_the_digest(
    tmp_path: Path, manifest: MakeManifest, change: dict[str, Any]
) -> None:
    before = write_with(tmp_path / "a", manifest, {})
    after = write_with(tmp_path / "b", manifest, change)
    assert read_digest(after) != read_digest(before)
    assert read_seal(after) != read_seal(before)


def write_with(folder: Path, manifest: MakeManifest, change: dict[str, Any]) -> Path:
    """Write a bundle that differs in one thing."""
    described = manifest(**{k: v for k, v in change.items() if k not in (*WRITTEN, "policy")})
    policy = replace(described.policy, **change.get("policy", {}))
    parts = {key: change.get(key, value) for key, value in WRITTEN.items()}
    write_bundle(folder, replace(described, policy=policy), **parts)
    return folder


def test_a_bundle_of_format_1_keeps_the_digest_that_covers_all(make_bundle: Make) -> None:
    folder = make_bundle()
    old = replace(read_manifest(folder), format_version=1)
    (folder / "bundle.json").write_bytes(render_manifest(old))
    stated = json.loads((folder / "bundle.json").read_bytes())
    assert "seal" not in stated
    canonical = json.dumps(
        {k: v for k, v in stated.items() if k != "digest"}, sort_keys=True, separators=(",", ":")
    )
    assert stated["digest"] == hashlib.sha256(canonical.encode()).hexdigest()
    bundle = load_bundle(folder)
    assert bundle.digest == stated["digest"] == read_seal(folder)
    assert manifest_digest(replace(old, provenance={"date": "2031"})) != bundle.digest


@pytest.mark.slow
def test_a_model_of_format_1_is_sealed_again_without_a_changed_file(tmp_path: Path) -> None:
    shipped = load_bundle(find_bundle("fast"))
    first = shutil.copytree(shipped.path, tmp_path / "old")
    manifest = replace(shipped.manifest, format_version=1)
    (first / "bundle.json").write_bytes(render_manifest(manifest))
    old = load_bundle(first)
    assert old.manifest.format_version == 1
    folders = [tmp_path / name for name in ("fast-1.1", "fast-1.2")]
    for folder, metrics in zip(folders, ({}, {"reliability": {"cs.LG": 0.9}}), strict=True):
        manifest = replace(old.manifest, metrics=old.manifest.metrics | metrics)
        written = write_bundle(folder, manifest, old.arrays, old.contents)
        assert written.format_version == BUNDLE_FORMAT
        assert written.files == old.manifest.files
    first, second = map(load_bundle, folders)
    assert first.digest == second.digest == shipped.digest != old.digest


def test_a_digest_of_something_else_is_refused_although_the_seal_is_right(
    make_bundle: Make,
) -> None:
    folder = make_bundle()
    value = json.loads((folder / "bundle.json").read_bytes())
    value = {**value, "digest": "0" * 64}
    del value["seal"]
    seal = spoilt_bundles.digest_of(value)
    (folder / "bundle.json").write_bytes(spoilt_bundles.render({**value, "seal": seal}))
    with pytest.raises(BundleIncompatible, match=r"its digest '000.* is not that of what decides"):
        load_bundle(folder)


def test_a_bundle_replaced_by_one_of_the_same_digest_is_read_whole(
    tmp_path: Path, manifest: MakeManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("old", "new"):
        write_bundle(tmp_path / name, manifest(), {"w": np.ones(3)}, {"CARD.md": name})

    def read_then_replace(folder: Path) -> BundleManifest:
        read = read_manifest(folder)
        if (tmp_path / "new").is_dir():
            folder.rename(tmp_path / "gone")
            (tmp_path / "new").rename(folder)
        return read

    monkeypatch.setattr("classmark.bundle.load.read_manifest", read_then_replace)
    assert load_bundle(tmp_path / "old").content("CARD.md") == b"new"
