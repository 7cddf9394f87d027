"""``/v1/registry``: what is named, who may change it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from registries import Versions, followed
from test_service_faults import PAPER

from classmark.service.keys import create_key

pytestmark = pytest.mark.slow  # each starts a server of its own


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    made.promote(made.add("7.0"))
    return made


@pytest.fixture
def admin(start: Any, versions: Versions, tmp_path: Path) -> Iterator[httpx.Client]:
    """Return a client with the scope ``admin`` of a service that follows a registry."""
    keys = tmp_path / "keys.json"
    _, text = create_key(keys, "the operator", ("admin", "classify"))
    options = ("--workers", "1", "--registry", str(versions.path), "--api-keys", str(keys))
    with start(*options) as server:
        headers = {"authorization": f"Bearer {text}"}
        with server.client(headers=headers) as client:
            yield client


def roles(state: dict[str, Any]) -> dict[str, tuple[str, float | None]]:
    return {one["role"]: (one["model"], one["percent"]) for one in state["bundles"]}


def test_a_canary_is_begun_and_taken_back_and_a_bundle_promoted_over_http(
    admin: httpx.Client, versions: Versions
) -> None:
    candidate = versions.add("7.1")
    refused = admin.post("/v1/registry/canary", json={"bundle": "fast@7.1"})
    assert refused.status_code == 409
    assert refused.json()["kind"] == "registry_refused"
    assert "gate" in refused.json()["detail"]
    versions.keep_report(candidate)

    rules = {"requests": 50, "minutes": 5}
    asked = {"bundle": "fast@7.1", "percent": 30, "rules": rules, "why": "a try"}
    begun = admin.post("/v1/registry/canary", json=asked)
    assert begun.status_code == 200, begun.text
    state = begun.json()
    assert roles(state) == {"champion": ("fast@7.0", None), "challenger": ("fast@7.1", 30)}
    assert state["rules"]["requests"] == 50
    assert state["events"][0]["action"] == "start_canary"
    assert state["events"][0]["why"] == "a try"
    assert state["events"][0]["who"].startswith("the operator (key ")
    followed(admin, state["sequence"])

    back = admin.post("/v1/registry/rollback", json={"why": "enough"})
    assert roles(back.json()) == {"champion": ("fast@7.0", None)}
    promoted = admin.post("/v1/registry/promote", json={"bundle": candidate})
    assert roles(promoted.json()) == {"champion": ("fast@7.1", None)}
    followed(admin, promoted.json()["sequence"])
    answer = admin.post("/v1/classify", json=PAPER)
    assert answer.json()["model"]["digest"] == candidate
    assert admin.get("/v1/registry").json() == promoted.json()


REFUSED: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("promote", {"bundle": "fast@9.9"}, 422, "bundle: "),
    ("promote", {"bundle": "champion"}, 409, "is the champion already"),
    ("promote", {"bundle": "champion", "force": True}, 422, "needs a reason"),
    ("promote", {"bundle": "champion", "force": True, "why": "x"}, 409, "the champion already"),
    ("promote", {}, 422, "bundle"),
    ("canary", {"bundle": "champion", "percent": 0}, 422, "percent"),
    ("canary", {"bundle": "champion", "percent": True}, 422, "percent"),
    ("canary", {"bundle": "champion", "rules": {"speed": 1}}, 422, "'speed'"),
    ("rollback", {}, 409, "no champion to go back to"),
    ("rollback", {"how": "fast"}, 422, "how"),
)


def test_what_the_registry_cannot_do_is_a_problem_that_says_why(
    admin: httpx.Client, versions: Versions
) -> None:
    before = versions.registry.pointer()
    for place, asked, status, said in REFUSED:
        response = admin.post(f"/v1/registry/{place}", json=asked)
        assert (response.status_code, asked) == (status, asked), response.text
        assert said in response.json()["detail"]
    assert versions.registry.pointer() == before


def test_without_keys_nobody_changes_the_registry_over_http(start: Any, versions: Versions) -> None:
    options = ("--workers", "1", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        response = client.post("/v1/registry/rollback", json={})
        assert response.status_code == 403
        assert "--api-keys" in response.json()["detail"]
        assert roles(client.get("/v1/registry").json()) == {"champion": ("fast@7.0", None)}


def test_a_service_without_a_registry_says_so(client: httpx.Client) -> None:
    for response in (client.get("/v1/registry"), client.post("/v1/registry/rollback", json={})):
        assert response.status_code == 404
        assert response.json()["kind"] == "registry_off"
