"""By which names a service may be asked, and from which pages."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from classmark.errors import InvalidConfig
from classmark.service.problems import Problem
from classmark.service.requests.admission import Hosts
from classmark.service.requests.exchange import Exchange
from classmark.service.settings import make_settings

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}


def refusal(hosts: Hosts, method: str = "POST", **headers: str) -> str | None:
    """Return the kind of problem that a request meets, None if it is let in."""
    fields = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    scope = {"headers": fields, "client": None, "method": method}
    try:
        hosts.check(Exchange(scope, None, 1))  # type: ignore[arg-type]
    except Problem as problem:
        return problem.kind
    return None


OWN_HOSTS = [
    *("localhost", "LocalHost:8000", "localhost.", "127.0.0.1:8000", "127.8.9.1", "[::1]", ""),
    *("[2001:DB8::1]:8000", "192.0.2.7", "0.0.0.0:8000", socket.gethostname()),
]
FOREIGN_HOSTS = [
    *("elsewhere.example", "elsewhere.example:8000", "localhost.example", "127.0.0.1.x.y", "."),
    *("localhost@elsewhere.example", "localhost:80:80", "localhost:", "::1", "[::1", "[x]", "*"),
    *("127.1", "0x7f000001", "localhost/", "localhost\t", "local\xe9", "[127.0.0.1]"),
    "localhost" + "." * 300,
]


@pytest.mark.parametrize("host", OWN_HOSTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_without_keys_answers_to_its_own_names(host: str, method: str) -> None:
    assert refusal(Hosts(make_settings()), method, host=host) is None


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_without_keys_answers_to_no_foreign_name(host: str, method: str) -> None:
    assert refusal(Hosts(make_settings()), method, host=host) == "host_not_allowed"


def test_the_name_listened_on_is_a_name_of_the_service() -> None:
    assert (
        refusal(Hosts(make_settings(host="Papers.Example.org")), host="papers.example.org") is None
    )


def test_listed_names_are_the_names_beside_addresses() -> None:
    hosts = Hosts(make_settings(allowed_hosts="Papers.example.org, other"))
    for host in ("papers.example.org", "PAPERS.example.org:443", "other", "192.0.2.7"):
        assert refusal(hosts, host=host) is None
    for host in ("localhost", "x.papers.example.org", "elsewhere.example"):
        assert refusal(hosts, host=host) == "host_not_allowed"
    assert refusal(Hosts(make_settings(allowed_hosts="*")), host="elsewhere.example") is None


def test_with_keys_names_are_checked_only_if_they_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    page = {"sec_fetch_site": "cross-site", "origin": "https://elsewhere.example"}
    keyed = Hosts(make_settings(api_keys=path))
    assert refusal(keyed, host="elsewhere.example", **page) is None
    listed = Hosts(make_settings(api_keys=path, allowed_hosts="papers"))
    assert refusal(listed, host="elsewhere.example") == "host_not_allowed"


@pytest.mark.parametrize("text", ["http://x", "x:80", "a b", "x/", "-x", "[::1", "::1", "*.x", "ü"])
def test_what_is_not_a_host_cannot_be_listed(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"--allowed-hosts .*cannot be .*is not a host\. Give"):
        make_settings(allowed_hosts=f"localhost, {text}")


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://behind.a.proxy"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "same-site", "origin": "http://localhost:8000"}, False),
        ({"sec_fetch_site": "Same-Origin, cross-site"}, False),
        ({"sec_fetch_site": ""}, False),
        ({"origin": "http://localhost:8000"}, True),
        ({"origin": "HTTP://LOCALHOST:8000"}, True),
        ({"origin": "http://localhost:3000"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "http://elsewhere.example"}, False),
        ({"origin": "http://localhost:8000@elsewhere.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://[broken"}, False),
    ],
)
def test_only_pages_of_the_service_may_send_requests(
    headers: dict[str, str], is_let_in: bool
) -> None:
    hosts = Hosts(make_settings())
    for method in ("POST", "PUT", "DELETE", "NONSENSE"):
        kind = refusal(hosts, method, host="localhost:8000", **headers)
        assert kind == (None if is_let_in else "cross_site")
    for method in ("GET", "HEAD", "OPTIONS"):
        assert refusal(hosts, method, host="localhost:8000", **headers) is None


def test_pages_of_listed_hosts_may_send_requests_but_not_those_of_every_host() -> None:
    page = {"sec_fetch_site": "cross-site", "origin": "https://app.example.org"}
    listed = Hosts(make_settings(allowed_hosts="localhost,app.example.org"))
    assert refusal(listed, host="localhost", **page) is None
    assert refusal(Hosts(make_settings(allowed_hosts="*")), host="x", **page) == "cross_site"


def test_a_refused_name_or_page_is_a_problem_that_names_the_setting(client: httpx.Client) -> None:
    setting = "--allowed-hosts (or CLASSMARK_SERVE_ALLOWED_HOSTS)"
    response = client.get("/metrics", headers={"Host": "elsewhere.example"})
    assert (response.status_code, response.json()["kind"]) == (421, "host_not_allowed")
    assert "'elsewhere.example'" in response.json()["detail"]
    assert setting in response.json()["detail"]
    form = {"files": {"file": b"Graphs\nWe draw."}}
    page = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    response = client.post("/v1/files", headers=page, **form)
    assert (response.status_code, response.json()["kind"]) == (403, "cross_site")
    assert "'https://elsewhere.example'" in response.json()["detail"]
    assert setting in response.json()["detail"]
    assert client.post("/v1/files", **form).status_code == 200
    response = client.post("/v1/classify", json=PAPER, headers={"Host": "elsewhere.example"})
    assert response.status_code == 421


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_a_load_balancer_asks_for_health_by_any_name(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"Host": "backend-7.internal"}).status_code == 200
