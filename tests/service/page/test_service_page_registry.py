"""The status view of a service that follows a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from registries import WHO, Versions, followed

pytestmark = pytest.mark.slow  # a browser
WHY = "<img src=x onerror=alert(1)> better"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    made = Versions(tmp_path_factory.mktemp("registry"))
    made.promote(made.add("7.0"))
    return made


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., Any], versions: Versions) -> Iterator[Any]:
    with start_shared("--workers", "1", "--registry", str(versions.path)) as started:
        yield started


def test_champion_challenger_shares_and_the_last_changes_are_shown(
    tab: Any, server: Any, versions: Versions
) -> None:
    candidate, shadow = versions.add("7.1"), versions.add("7.2")
    versions.registry.set_shadow(shadow, percent=10, who=WHO)
    with server.client() as client:
        followed(client, versions.canary(candidate, 5, why=WHY))
    page = tab.open("#status")
    page.locator("#registry h2").first.wait_for()
    shown = page.locator("#registry .figures").inner_text()
    for said in ("fast 7.0", "fast 7.1", "5\u202f% of the clients", "fast 7.2", "10\u202f%"):
        assert said in shown
    assert candidate[:16] in shown
    rows = page.locator("#registry tbody tr").all_inner_texts()
    assert rows[0].split("\t")[1:] == ["start canary", "fast@7.1", WHO, WHY]
    assert len(rows) == versions.registry.pointer().sequence
    assert page.locator("#registry img").count() == 0
    assert "7.0" in page.locator("#card").inner_text()
