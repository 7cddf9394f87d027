"""API keys and rates, against a running service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from classmark.errors import InvalidKeys, UsageError
from classmark.service import keys as keys_module
from classmark.service.exchange import Exchange
from classmark.service.keys import KeyRing, create_key, read_keys, revoke_key
from classmark.service.limits import client_of

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_the_file_holds_no_key_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, text = create_key(path, "page", ["classify"])
    assert text.startswith(f"cmk_{key.id}_")
    assert text not in path.read_text()
    assert text.rsplit("_", 1)[1] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert read_keys(path) == (key,)


def test_a_ring_finds_only_the_whole_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, text = create_key(path, "page", ["classify"])
    ring = KeyRing(path)
    assert ring.find(text) == key
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for other in (wrong, text + "0", text.upper(), f"cmk_{key.id}_", "", "\udcff"):
        assert ring.find(other) is None


def test_a_ring_follows_the_file_and_keeps_its_keys_if_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_AGAIN_S", 0.0)
    path = tmp_path / "keys.json"
    first, text = create_key(path, "one", ["classify"])
    ring = KeyRing(path)
    _, other = create_key(path, "two", ["admin"])
    assert ring.find(other) is not None
    path.write_text("{")
    assert ring.find(text) == first
    path.unlink()
    assert ring.find(text) == first


def test_what_cannot_be_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(InvalidKeys, match=r"no API keys at .*Make one with"):
        KeyRing(path)
    with pytest.raises(UsageError, match=r"unknown scope 'root'\. Use one or more of classify"):
        create_key(path, "x", ["root"])
    with pytest.raises(UsageError, match="the name of a key needs 1 to 80 characters"):
        create_key(path, " ", ["admin"])
    key, _ = create_key(path, "x", ["admin"])
    with pytest.raises(InvalidKeys, match=f"has no key 'nobody'; there is {key.id}"):
        revoke_key(path, "nobody")
    path.write_text('{"version": 9, "keys": []}')
    with pytest.raises(InvalidKeys, match="is of version 9, not 1"):
        read_keys(path)


@pytest.mark.slow
def test_each_scope_opens_its_own_addresses_and_a_revoked_key_none(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    texts = {scope: create_key(path, scope, [scope])[1] for scope in ("classify", "admin")}
    with start("--workers", "1", "--api-keys", str(path)) as server, server.client() as client:

        def status(path: str, key: str | None, **options: Any) -> int:
            headers = bearer(key) if key else {}
            response = client.request(
                "POST" if options else "GET", path, headers=headers, **options
            )
            return int(response.status_code)

        assert [status(p, None) for p in ("/healthz", "/v1/categories", "/v2")] == [200] * 3
        assert status("/v1/classify", None, json=PAPER) == 401
        assert status("/v1/classify", "cmk_0_1", json=PAPER) == 401
        assert status("/v1/classify", texts["admin"], json=PAPER) == 403
        assert status("/v1/classify", texts["classify"], json=PAPER) == 200
        response = client.post("/v1/classify", json=PAPER, headers={"X-API-Key": texts["classify"]})
        assert response.status_code == 200
        assert status("/v1/feedback", texts["classify"], json={}) == 403
        assert [status(p, texts["classify"]) for p in ("/metrics", "/v1/status")] == [403] * 2
        assert [status(p, texts["admin"]) for p in ("/metrics", "/v1/status")] == [200] * 2
        challenge = client.get("/v1/status").headers["www-authenticate"]
        assert challenge == 'Bearer realm="classmark"'
        revoke_key(path, texts["classify"].split("_")[1])
        end = time.monotonic() + 30
        while status("/v1/classify", texts["classify"], json=PAPER) != 401:
            assert time.monotonic() < end
        assert texts["admin"] not in server.stderr()


def test_without_its_file_of_keys_the_service_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "classmark", "serve", "--port", "0", "--api-keys"]
    result = subprocess.run(
        [*command, str(tmp_path / "none.json")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "there are no API keys at" in result.stderr


@pytest.mark.slow  # starts a service of its own
def test_a_client_above_its_rate_waits(start: Any) -> None:
    options = ("--rate-per-minute", "6", "--rate-burst", "3")
    with start("--workers", "2", *options) as server:
        statuses = []
        for _ in range(5):  # each over a connection of its own, so over either worker
            with server.client() as client:
                response = client.get("/v1/categories")
                statuses.append(response.status_code)
        assert statuses == [200, 200, 200, 429, 429]
        assert response.json()["kind"] == "rate_exceeded"
        assert 1 <= int(response.headers["retry-after"]) <= 10
        assert json.loads(response.content)["detail"].startswith("more than 6 requests a minute")
        with server.client() as client:
            assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2%eth0", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_a_rate_counts_for_an_address_or_its_ipv6_network(address: str, client: str) -> None:
    scope = {"headers": [], "client": (address, 1)}
    assert client_of(Exchange(scope, None, 1)) == client  # type: ignore[arg-type]
