"""The model in the package, found by nobody's home."""

from __future__ import annotations

from pathlib import Path

import pytest

from classmark.runtime import Classifier


@pytest.fixture(autouse=True)
def no_home(models_home: Path) -> Path:
    """Let no model of this machine's user be found."""
    return models_home


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """Return the model in the package."""
    import classmark

    return Classifier(next((Path(classmark.__file__).parent / "bundles").glob("fast-*")))
