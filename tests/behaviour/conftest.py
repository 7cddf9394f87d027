"""The models whose behaviour is tested: every arXiv bundle that is installed."""

from __future__ import annotations

import pytest

from classmark import Classifier
from classmark.bundle import list_bundles
from classmark.errors import MissingExtra
from classmark.taxonomy import categories

ARXIV = {category.code for category in categories(active_only=False)}


@pytest.fixture(
    scope="session", params=list_bundles(), ids=lambda bundle: f"{bundle.name}-{bundle.version}"
)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    try:
        found = Classifier(request.param.path)
    except MissingExtra as error:  # pragma: no cover - where a deep bundle is installed
        pytest.skip(str(error))
    if not set(found.labels) <= ARXIV:  # pragma: no cover - where a bundle of own labels is
        pytest.skip("it has labels of its own, these texts have arXiv's")
    return found
