"""Who is let in, over real sockets: addresses, trailers, clients and rates, wrong keys, a proxy."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from addresses import BODY, PAPER, PROTECTED, hostile_targets, opened, raw_status
from proxy import proxied

from classmark.client import Client
from classmark.service.keys import SCOPES, create_key
from classmark.service.requests.exchange import Exchange

ROOT = Path(__file__).parents[2]


@pytest.mark.slow  # starts a service of its own
def test_no_target_on_the_wire_gets_past_the_rule(start: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = {scope: create_key(path, scope, [scope])[1] for scope in SCOPES}
    options = ("--workers", "1", "--api-keys", str(path))
    with start(*options, CLASSMARK_SERVE_REFUSED_KEYS_PER_MINUTE="0") as server:
        for method, address, scope in (PROTECTED[0], PROTECTED[-1]):
            right = f"X-API-Key: {keys[scope]}\r\n"
            assert raw_status(server.url, method, address.encode(), right) == 200
            for headers in ("", f"X-API-Key: {keys['feedback']}\r\n"):
                for target in hostile_targets(address):
                    status = raw_status(server.url, method, target, headers)
                    assert status == 0 or 400 <= status < 500, (target, headers)


@pytest.mark.slow  # starts a service of its own
def test_what_stands_after_the_body_is_no_header(start: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, text = create_key(path, "one", ["classify"])
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    trailers = f"X-API-Key: {text}\r\nAuthorization: Bearer {text}\r\nX-Request-ID: mine\r\n\r\n"
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\nTrailer: X-API-Key\r\n"
    )
    with start("--workers", "1", "--api-keys", str(path)) as server:
        for key, status in (("", 401), (f"X-API-Key: {text}\r\n", 200)):
            with opened(server.url) as connection:
                # Twice over one connection: the next request has a header again.
                for closing in ("", "Connection: close\r\n"):
                    request = f"{head}{key}{closing}\r\n".encode() + chunks + trailers.encode()
                    connection.sendall(request)
                answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
            assert re.findall(r"HTTP/1\.1 (\d+)", answer) == [str(status)] * 2
            assert "x-request-id: mine" not in answer


@pytest.mark.slow  # starts a service of its own
def test_ipv4_clients_of_an_ipv6_socket_are_counted_apart_and_choose_no_address(start: Any) -> None:
    def status(port: int, source: str, forwarded: str) -> int:
        request = f"GET /v1/models HTTP/1.0\r\nX-Forwarded-For: {forwarded}\r\n\r\n"
        place = ("127.0.0.1", port)
        with socket.create_connection(place, 60, source_address=(source, 0)) as connection:
            connection.sendall(request.encode())
            return int(b"".join(iter(lambda: connection.recv(65_536), b"")).split()[1])

    options = ("--host", "::", "--rate-per-minute", "0.05", "--rate-burst", "1")
    with start("--workers", "1", *options, "--trusted-proxies", "127.0.0.9") as server:
        port = int(server.url.rpartition(":")[2])
        # Not a proxy: what it says of others does not matter.
        assert [status(port, "127.0.0.1", f"192.0.2.{n}") for n in range(3)] == [200, 429, 429]
        assert [status(port, "127.0.0.2", f"192.0.2.{n}") for n in range(3)] == [200, 429, 429]
        clients = ("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.2", "2001:db8::1", "2001:db8::2")
        clients += ("unknown", "_hidden", "_hidden2", "x" * 300)
        assert [status(port, "127.0.0.9", client) for client in clients] == [
            *(200, 200, 429, 200, 429),
            *(200, 429, 429, 429),
        ]
        clients_logged = {line.get("client") for line in server.logs()}
    assert not any("ffff" in client for client in clients_logged if client is not None)


@pytest.mark.slow  # starts a service of its own
def test_wrong_keys_are_limited_and_counted_over_all_workers_and_valid_ones_go_on(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    keys = {scope: create_key(path, scope, [scope])[1] for scope in ("classify", "admin")}
    limit = {"CLASSMARK_SERVE_REFUSED_KEYS_PER_MINUTE": "0.05"}
    with start("--workers", "2", "--api-keys", str(path), **limit) as server:

        def ask(key: str | None, **options: Any) -> httpx.Response:
            headers = {} if key is None else {"X-API-Key": key}
            with server.client() as client:  # a connection of its own, so to either worker
                return client.post("/v1/classify", json=PAPER, headers=headers)

        assert ask("cmk_wrong").status_code == 401
        for wrong in ("cmk_wrong", None, "cmk_other", None):
            response = ask(wrong)
            assert (response.status_code, response.json()["kind"]) == (429, "rate_exceeded")
            assert 60 < int(response.headers["retry-after"]) <= 1200
            assert "0.05 requests without a valid API key a minute" in response.json()["detail"]
            assert ask(keys["classify"]).status_code == 200
            assert ask(keys["admin"]).status_code == 403
        with server.client(headers={"X-API-Key": keys["admin"]}) as client:
            assert client.get("/healthz").status_code == 200
            metric = "classmark_keys_refused_total"
            counts = {"key_unknown": 1, "rate_exceeded": 4, "scope_missing": 4}
            expected = {f'{metric}{{reason="{reason}"}} {n}.0' for reason, n in counts.items()}
            until = time.monotonic() + 60
            # The other worker publishes every quarter of a second.
            while not expected <= set(client.get("/metrics").text.splitlines()):
                assert time.monotonic() < until


@pytest.mark.slow  # starts a service of its own
def test_a_damaged_file_of_keys_closes_the_service_until_it_is_good_again(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    _, text = create_key(path, "one", ["classify"])
    good = path.read_bytes()
    with start("--workers", "1", "--api-keys", str(path)) as server, server.client() as client:

        def ask_until(status: int) -> httpx.Response:
            until = time.monotonic() + 60
            while True:
                response = client.post("/v1/classify", json=PAPER, headers={"X-API-Key": text})
                if response.status_code == status:
                    return response
                assert time.monotonic() < until, response.text

        ask_until(200)
        path.write_bytes(good[:50])
        response = ask_until(503)
        assert response.json()["kind"] == "keys_unreadable"
        assert str(path) not in response.text
        assert client.post("/v1/classify", json=PAPER).status_code == 401
        assert client.get("/readyz").status_code == 200
        path.write_bytes(good)
        ask_until(200)
        events = [line["event"] for line in server.logs()]
        assert events.count("API keys unreadable: no key is accepted") == 1
        assert events.count("API keys readable again") == 1


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
        ("fe80::1%a/../b", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:C000:207%eth0", "192.0.2.7"),
        ("no:address", "without an address"),
        ("192.0.2.7.example.org", "without an address"),
        ("192.0.2.07", "without an address"),
        ("unknown", "without an address"),
        ("", "without an address"),
    ],
)
def test_a_rate_counts_for_an_address_or_its_ipv6_network(address: str, client: str) -> None:
    scope = {"headers": [], "client": (address, 1)}
    assert Exchange(scope, None, 1).holder == client  # type: ignore[arg-type]


# --- behind the documented proxy ----------------------------------------------------------------


@contextmanager
def documented_nginx(url: str, *, under_a_path: bool = False) -> Iterator[str]:
    """Run nginx with the configuration of the page about production; yields its socket."""
    if shutil.which("nginx") is None:
        reason = "there is no nginx. Run: make system-deps"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    page = (ROOT / "docs/how-to/serve-in-production.md").read_text("utf-8")
    servers, locations = re.findall(r"^```nginx\n(.*?)^```", page, re.M | re.S)
    if under_a_path:
        servers, n_replaced = re.subn(
            r"    location / \{.*?\n    \}\n", locations, servers, flags=re.S
        )
        assert n_replaced == 1
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket must be short
        place, errors = f"{folder}/nginx.sock", Path(folder, "errors.txt")
        for before, after in (
            ("127.0.0.1:8000", url.removeprefix("http://")),
            ("listen 443 ssl", f"listen unix:{place}"),
        ):
            assert before in servers
            servers = servers.replace(before, after)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        user = "user root;" if os.geteuid() == 0 else ""
        Path(folder, "nginx.conf").write_text(
            f"{user} daemon off; pid {folder}/pid; error_log {errors}; events {{ }}\n"
            f"http {{ access_log off; {folders}\n{servers}\n}}\n"
        )
        process = subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf", "-p", folder])
        try:
            until = time.monotonic() + 60
            while not accepts(place):
                assert process.poll() is None, errors.read_text()
                assert time.monotonic() < until
            yield place
        finally:
            process.terminate()
            process.wait()


def accepts(place: str) -> bool:
    """Tell whether somebody listens."""
    try:
        opened(place).close()
    except OSError:
        return False
    return True


@pytest.mark.slow  # starts a service and a proxy
def test_the_documented_proxy_answers_and_shows_no_counters(start: Any) -> None:
    options = ("--workers", "1", "--allowed-hosts", "papers.example.org")
    with start(*options) as server, documented_nginx(server.url) as place:
        host = "Host: papers.example.org\r\n"
        page = f"{host}Origin: https://papers.example.org\r\nSec-Fetch-Site: same-origin\r\n"
        assert raw_status(place, "POST", b"/v1/classify", page) == 200
        assert raw_status(place, "GET", b"/healthz", host) == 200
        assert raw_status(place, "POST", b"/v1/classify", "Host: foreign.example\r\n") == 421
        for target in [b"/metrics", *hostile_targets("/metrics")]:
            status = raw_status(place, "GET", target, host)
            assert status in (0, 400, 403, 404), target


@pytest.mark.slow  # starts a service and a proxy
def test_the_documented_proxy_offers_the_service_under_a_path(start: Any) -> None:
    options = ("--workers", "1", "--allowed-hosts", "papers.example.org")
    with (
        start(*options) as server,
        documented_nginx(server.url, under_a_path=True) as place,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=place),
            base_url="http://papers.example.org/tools/classmark/",
        ) as client,
    ):
        page = client.get("")
        for address in re.findall(r'(?:href|src)="([^"#][^"]*)"', page.text):
            assert client.get(page.url.join(address)).status_code == 200, address
        document = client.get("openapi.json")
        [listed] = document.json()["servers"]
        own = document.url.join(listed["url"])
        assert own == page.url
        assert client.post(own.join("v1/classify"), json=PAPER).status_code == 200
        redirect = client.get("http://papers.example.org/tools/classmark")
        assert redirect.status_code == 301
        assert redirect.headers["location"].endswith("/tools/classmark/")
        assert client.get("metrics").status_code == 403


@pytest.mark.slow  # through the service of the session
def test_the_python_client_asks_under_a_path(server: Any) -> None:
    with proxied(server.url, "/tools/classmark") as url, Client(url) as client:
        assert client.classify(PAPER).ranked[0].code == "cs.DS"
        assert client.status().workers
