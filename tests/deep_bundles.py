"""Tiny deep bundles for tests, made once a session: sample papers, tiny encoder, fitted head."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from classmark.bundle import write_bundle
from classmark.bundle.manifest import read_digest, read_manifest
from classmark.kernels.cascade import CASCADE_VERSION
from classmark.papers import RECIPE_VERSION
from classmark.pipeline import ExportOptions


@dataclass(frozen=True)
class DeepFolders:
    """Where the parts are: dataset, encoder, run and bundles of both precisions."""

    dataset: Path
    encoder: Path
    run: Path
    fp32: Path
    int8: Path


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> DeepFolders:
    """Return the folders of a tiny deep model; skip where there is no torch to make it."""
    pytest.importorskip("torch", reason="deep bundles are made with torch")
    from classmark.dataset import SampleConfig, sample_dataset
    from classmark.pipeline import ExportOptions, export_run
    from deep_models import write_tiny_encoder
    from deep_runs import write_deep_run

    root = tmp_path_factory.mktemp("deep")
    config = SampleConfig(papers=1200, categories=24, noise=0.0)
    sample_dataset(root / "dataset", config, periods=("2017-12-31",), command="a test")
    write_tiny_encoder(root / "tiny")
    run = write_deep_run(root / "run", root / "dataset", root / "tiny")
    for name, precision in (("deep", "fp32"), ("deepint", "int8")):
        export_run(
            run, root / f"{name}-1.0", ExportOptions(name=name, version="1.0", quantize=precision)
        )
    return DeepFolders(
        root / "dataset", root / "tiny", run, root / "deep-1.0", root / "deepint-1.0"
    )


@pytest.fixture(scope="session")
def fast_bundle(deep: DeepFolders) -> Path:
    """Return a weak fast bundle of the same dataset, beside the deep ones."""
    from classmark.pipeline import compose_config, export_run, train

    folder = deep.fp32.with_name("quick-1.0")
    config = compose_config(
        [
            f"dataset.path={deep.dataset}",
            f"runs_dir={deep.dataset.parent / 'runs'}",
            *("model.max_features=300", "model.min_papers=20", "model.epochs=1"),
        ]
    )
    run = train(config, command="a test")
    export_run(run, folder, ExportOptions(name="quick", version="1.0"))
    return folder


def copy_of(bundle: Path, parent: Path) -> Path:
    """Return a copy of a bundle that a test may spoil."""
    return Path(shutil.copytree(bundle, parent / bundle.name))


def write_cascade(folder: Path, parts: Mapping[str, Path]) -> Path:
    """Write a cascade of a ``fast`` and a ``deep`` bundle beside it; return its folder."""
    seen: dict[str, Any] = {}
    for part, place in parts.items():
        name, _, version = place.name.rpartition("-")
        seen[part] = {"name": name, "version": version, "digest": read_digest(place)}
    described = replace(
        read_manifest(parts["deep"]),
        name="both",
        kind="cascade",
        featuriser=CASCADE_VERSION,
        text_recipe=RECIPE_VERSION,
        parameters={**seen, "threshold": 0.9, "mix": 0.5},
        authors={},
        files={},
    )
    write_bundle(folder, described, {})
    return folder
