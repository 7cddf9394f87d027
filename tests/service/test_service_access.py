"""Who is let in: every route has a rule, which holds however its address is written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from addresses import BODY, METHODS, PROTECTED, path_of, targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Mount

from classmark.service import Service, ServiceSettings, create_app
from classmark.service.keys import SCOPES, create_key

ROOT = Path(__file__).parents[2]
SCRAPERS = "127.0.0.0/8, 10.1.2.3"
JSON = {"content-type": "application/json"}


class Door:
    """An application with API keys, asked without a server.

    Attributes:
        app: the application.
        keys: a key by scope.
    """

    def __init__(self, service: Service, keys: dict[str, str]) -> None:
        self.app = create_app(service)
        self.keys = keys
        self._version = service.answerer.model.version
        self._loop = asyncio.new_event_loop()
        self._thread = ThreadPoolExecutor(1)  # browser tests leave a running loop in this one

    def address(self, template: str) -> str:
        """Return an address of this model."""
        return template.replace("VERSION", self._version)

    def status(self, method: str, path: str, *, client: str = "192.0.2.1", **headers: str) -> int:
        """Return the status of a request."""
        asked = self._ask(method, path, {**JSON, **headers}, client)
        return self._thread.submit(lambda: self._loop.run_until_complete(asked)).result()

    def close(self) -> None:
        """End the loop and its thread."""
        self._thread.submit(self._loop.close).result()
        self._thread.shutdown()

    async def _ask(self, method: str, path: str, headers: dict[str, str], client: str) -> int:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": (client, 1),
            "server": ("192.0.2.2", 80),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": BODY, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return int(sent[0]["status"])


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Return an application with a key for each scope."""
    folder = tmp_path_factory.mktemp("door")
    keys = {scope: create_key(folder / "keys.json", scope, [scope])[1] for scope in SCOPES}
    service = Service(
        ServiceSettings(
            api_keys=folder / "keys.json",
            journal=str(folder / "journal.sqlite"),
            access_log=False,
            scrapers=SCRAPERS,
            refused_keys_per_minute=0,
        )
    )
    service.start()
    opened = Door(service, keys)
    yield opened
    opened.close()
    service.close()


def test_every_route_has_a_rule(door: Door) -> None:
    routes = {route.path: getattr(route, "access", None) for route in door.app.app.routes}  # type: ignore[attr-defined]
    assert [path for path, access in routes.items() if access is None] == []
    assert {"/v1/classify", "/metrics", "/openapi.json", "/", "/static/{name}"} <= routes.keys()


def test_the_documented_scope_of_each_endpoint_is_its_rule(door: Door) -> None:
    page = (ROOT / "docs/reference/http.md").read_text("utf-8")
    documented = {
        path: "public" if scope.strip() == "" else scope.strip()
        for addresses, scope in re.findall(r"^\| (`(?:GET|POST) .*?) \|.*\| *(\w*) \|$", page, re.M)
        for path in re.findall(r"(/[^`,\s]+)", addresses)
        if "..." not in path
    }
    assert len(documented) >= 10
    for route in door.app.app.routes:
        path = str(route.path).replace("{prediction_id}", "{id}")  # type: ignore[attr-defined]
        if path in documented:
            access = {"health": "public", "metrics": "admin"}.get(route.access, route.access)  # type: ignore[attr-defined]
            assert documented.pop(path) == access, path
    assert documented == {}


@pytest.mark.parametrize("endpoint", PROTECTED, ids=lambda endpoint: endpoint[1])
def test_the_key_of_the_scope_opens_an_endpoint_and_no_other_does(
    door: Door, endpoint: tuple[str, str, str]
) -> None:
    method, address, scope = endpoint
    path = door.address(address)
    assert door.status(method, path) == 401
    assert door.status(method, path, **{"X-API-Key": "cmk_wrong"}) == 401
    for other in SCOPES:
        status = door.status(method, path, **{"X-API-Key": door.keys[other]})
        assert (status == 403) == (other != scope)
        assert status != 401


def test_a_scraper_reads_metrics_without_a_key_and_nothing_else(door: Door) -> None:
    for client, expected in (
        ("127.0.0.1", 200), ("::ffff:127.0.0.1", 200), ("10.1.2.3", 200), ("10.1.2.4", 401),
        ("::1", 401), ("a proxy says so", 401), ("", 401),
    ):  # fmt: skip
        assert door.status("GET", "/metrics", client=client) == expected, client
    assert door.status("GET", "/metrics", client="127.0.0.1", **{"X-API-Key": "wrong"}) == 200
    assert door.status("GET", "/v1/status", client="127.0.0.1") == 401


@pytest.mark.slow
@settings(
    max_examples=1000,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_no_way_to_write_an_address_gets_past_its_rule(door: Door, data: st.DataObject) -> None:
    own_method, address, scope = data.draw(st.sampled_from(PROTECTED))
    target = data.draw(targets(door.address(address)))
    method = data.draw(st.sampled_from([own_method, *METHODS]))
    sender = data.draw(st.sampled_from([None, "wrong", *[s for s in SCOPES if s != scope]]))
    headers = {} if sender is None else {"X-API-Key": door.keys.get(sender, sender)}
    path = path_of(target)
    status = door.status(method, path, **headers)
    assert 400 <= status < 500, (method, target, sender)
    if any(ord(c) < 32 or ord(c) in range(127, 160) for c in path):
        assert status == 400
        for key in door.keys.values():
            assert door.status(method, path, **{"X-API-Key": key}) == 400


@pytest.mark.parametrize("behind", ["\n", "\r\n", "\x00", "\x7f", "\x85", "\u2028", "/\n", "\n/"])
def test_no_address_with_a_control_character_is_answered_not_even_a_public_one(
    door: Door, behind: str
) -> None:
    for route in door.app.app.routes:
        path = re.sub(r"{.*?}", "fast", str(route.path))  # type: ignore[attr-defined]
        for method in ("GET", "POST"):
            assert door.status(method, path + behind, **{"X-API-Key": door.keys["admin"]}) == 400


def test_a_route_without_a_rule_is_refused_to_every_key(door: Door) -> None:
    async def open_to_all() -> dict[str, str]:
        return {}

    app = door.app.app
    app.add_api_route("/forgotten", open_to_all)
    app.router.routes.append(Mount("/mounted", app))
    try:
        for path in ("/forgotten", "/mounted/forgotten", "/mounted/metrics"):
            for key in door.keys.values():
                assert door.status("GET", path, **{"X-API-Key": key}) == 404
    finally:
        del app.router.routes[-2:]


def test_a_request_is_answered_by_the_route_whose_rule_admitted_it(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = door.app._route_of("GET", "/v1/status")
    monkeypatch.setattr(door.app, "_route_of", lambda *_: admin)
    assert door.status("GET", "/v1/categories") == 401
    assert door.status("GET", "/v1/categories", **{"X-API-Key": door.keys["admin"]}) == 200
