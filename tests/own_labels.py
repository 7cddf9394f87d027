"""A model of own labels for tests: the weights of the packaged one, its categories renamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from classmark import taxonomy
from classmark.bundle import find_bundle, load_bundle, write_bundle

BRANES = {"title": "Dualities of branes", "abstract": "We study branes in string theory."}
RENAMED = {
    "hep-th": "Strings; branes, and all",
    "math.CO": "組合せ論",
    "cs.CL": "Sprache & Übersetzung",
    "cs.DM": "ops",
    "cs.DS": "Ops",
    "cs.LG": "Machine learning, general",
    "gr-qc": "A label as long as labels may be: " + "x" * 166,
}


def own_label(code: str) -> str:
    """Return what a category of the packaged model is called in the model of own labels."""
    return RENAMED.get(code, f"{taxonomy.name(code)} | {code}")


def write_own_model(folder: Path) -> Path:
    """Write a bundle of own labels that answers as the packaged model does."""
    packaged = load_bundle(find_bundle("fast"))
    manifest = replace(
        packaged.manifest,
        name="own",
        version="1.0",
        label_space="free",
        taxonomy="",
        labels=tuple(own_label(code) for code in packaged.manifest.labels),
    )
    write_bundle(folder, manifest, packaged.arrays, {"CARD.md": "# own 1.0\n"})
    return folder


@pytest.fixture(scope="session")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of own labels; they hold blanks, commas and any letters."""
    return write_own_model(tmp_path_factory.mktemp("models") / "own-1.0")
