"""Papers like this one, on the page of a service that has an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from classmark import Classifier
from classmark.neighbours import Entry, build_index

pytestmark = pytest.mark.slow  # a browser

TEXT = "Colouring graphs\n\nWe colour planar graphs and bound the chromatic number."
TITLE = "<img src=x onerror=alert(1)> Colouring <b>sparse</b> graphs"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, start_shared: Callable[..., Any]
) -> Iterator[Any]:
    classifier = Classifier()
    folder = tmp_path_factory.mktemp("similar")
    vectors = classifier.vectors(["We colour sparse graphs with few colours."])
    entries = [Entry("10.1/a&b", 2019, ("math.CO", "cs.DM"), TITLE)]
    build_index(folder / "index", [(entries, vectors)], classifier.model)
    with start_shared("--workers", "1", "--index", str(folder / "index")) as started:
        yield started


def test_papers_like_this_one_are_listed_as_text(tab: Any) -> None:
    page = tab.classify(TEXT)
    part = page.locator('[data-part="similar"]')
    assert part.locator("h3").inner_text() == "Papers like this one"
    [row] = part.locator("li").all()
    assert row.locator(".name").inner_text() == TITLE
    assert row.locator("small").inner_text() == "10.1/a&b, 2019, math.CO cs.DM"
    assert 0 < float(row.locator(".share").inner_text()) < 1
    assert part.locator("img, b").count() == 0
