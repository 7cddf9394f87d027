"""A canary and a shadow: who is asked, what is compared, and how the rules end it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from registries import WHO, Versions, followed, metric
from test_service_faults import PAPER
from waiting import until

from classmark.bundle import find_bundle, load_bundle
from classmark.journal import read_predictions

pytestmark = pytest.mark.slow  # each starts a server of its own
CLIENTS = tuple(f"127.0.{i // 250}.{i % 250 + 1}" for i in range(500))
RULES = {"requests": 200, "minutes": 0.01, "agreement": 0.9, "false_rollback": 0.01}


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    made.promote(made.add("7.0"))
    return made


@pytest.fixture
def server(start: Any, versions: Versions) -> Iterator[Any]:
    with start("--workers", "2", "--registry", str(versions.path)) as started:
        yield started


def ask(server: Any, address: str, n: int = 1, **paper: Any) -> list[httpx.Response]:
    """Ask from an address of this machine; each is a client."""
    transport = httpx.HTTPTransport(local_address=address, verify=False)
    with httpx.Client(
        base_url=server.url, transport=transport, timeout=200, verify=False
    ) as client:
        responses = [client.post("/v1/classify", json={**PAPER, **paper}) for _ in range(n)]
    for response in responses:
        response.raise_for_status()
    return responses


def digests(server: Any, addresses: tuple[str, ...] = CLIENTS) -> dict[str, str]:
    """Return which bundle answers each client."""
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda address: ask(server, address)[0], addresses)
        return {
            address: one.json()["model"]["digest"]
            for address, one in zip(addresses, answers, strict=True)
        }


def test_a_canary_answers_its_share_of_the_clients_and_always_the_same(
    server: Any, versions: Versions
) -> None:
    first, candidate = versions.champion, versions.add("7.1")
    with server.client() as client:
        followed(client, versions.canary(candidate, 20))
        seen = digests(server)
        share = sum(digest == candidate for digest in seen.values()) / len(CLIENTS)
        assert set(seen.values()) == {first, candidate}
        assert 0.12 < share < 0.28
        assert digests(server) == seen
        address = next(a for a, digest in seen.items() if digest == candidate)
        headers = {one.headers["x-classmark-digest"] for one in ask(server, address, 5)}
        assert headers == {candidate}
        for name, digest in (("7.0", first), ("7.1", candidate)):
            ready = client.get(f"/v2/models/fast/versions/{name}/ready")
            assert ready.status_code == 200
            infer = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
            answer = client.post(f"/v2/models/fast/versions/{name}/infer", json=infer)
            assert answer.json()["model_version"] == name
            assert answer.headers["x-classmark-digest"] == digest
        assert set(client.get("/v2/models/fast").json()["versions"]) == {"7.0", "7.1"}
        assert client.get("/v2/models/fast/versions/6.0").status_code == 404
        listed = client.get("/v1/models").json()["models"]
        assert [(m["digest"], m["role"]) for m in listed] == [
            (first, "champion"),
            (candidate, "challenger"),
        ]
        followed(client, versions.registry.rollback(who=WHO, why="a test").sequence)
        assert set(digests(server, CLIENTS[:50]).values()) == {first}


def test_an_equal_candidate_is_promoted_by_the_rules_with_its_numbers(
    server: Any, versions: Versions
) -> None:
    candidate = versions.add("7.1")
    with server.client() as client:
        followed(client, versions.canary(candidate, 50, rules=RULES))
        until(lambda: digests(server, CLIENTS[:100]) and versions.champion == candidate)
        event = versions.registry.pointer().last_event
        assert event.action == "end_canary"
        assert event.who.startswith("classmark serve@")
        assert event.numbers["outcome"] == "promoted"
        assert event.numbers["agreement"] == 1
        assert event.numbers["requests"]["candidate"] >= 200
        followed(client, versions.registry.pointer().sequence)
        assert set(digests(server, CLIENTS[:50]).values()) == {candidate}


def test_a_candidate_that_disagrees_is_rolled_back_by_the_rules(
    server: Any, versions: Versions
) -> None:
    first, candidate = versions.champion, versions.add_turned("9.0")
    with server.client() as client:
        followed(client, versions.canary(candidate, 50, rules=RULES))
        until(lambda: digests(server, CLIENTS[:50]) and versions.registry.pointer().canary is None)
        event = versions.registry.pointer().last_event
        assert versions.champion == first
        assert event.numbers["outcome"] == "rolled_back"
        assert event.why == "agreement is out of bounds"
        assert event.numbers["agreement"] == 0
        lines = [line for line in server.logs() if line["event"] == "canary ended"]
        assert [line["outcome"] for line in lines] == ["rolled_back"]


def test_a_shadow_scores_a_share_and_the_journal_has_both(
    start: Any, versions: Versions, tmp_path: Path
) -> None:
    first, shadow = versions.champion, versions.add("7.1")
    journal = tmp_path / "journal.sqlite"
    options = ("--workers", "1", "--registry", str(versions.path), "--journal", str(journal))
    with start(*options) as server, server.client() as client:
        sequence = versions.registry.set_shadow(shadow, percent=100, who=WHO).sequence
        followed(client, sequence)
        answers = ask(server, CLIENTS[0], 30)
        assert {one.json()["model"]["digest"] for one in answers} == {first}
        count = 'classmark_compared_seconds_count{pair="shadow",side="compared"}'
        dropped = 'classmark_compared_dropped_total{pair="shadow"}'
        until(lambda: metric(client, count) + metric(client, dropped) == 30)
        n_compared = metric(client, count)
        assert n_compared > 0
    found = {p.event.prediction_id: p.event for p in read_predictions(journal)}
    assert {one.json()["prediction_id"] for one in answers} == set(found)
    compared = [event.compared for event in found.values() if event.compared]
    assert len(compared) == n_compared
    assert {one.model.digest for one in compared} == {shadow}
    assert {event.model.digest for event in found.values()} == {first}
    line = json.loads(json.dumps(next(iter(found.values())).to_dict()))
    assert line["compared"]["code"] == line["ranked"][0]["code"]


def test_a_canary_of_other_labels_must_be_allowed_and_its_answers_say_so(
    server: Any, versions: Versions
) -> None:
    from classmark.errors import LabelMismatch

    packaged = load_bundle(find_bundle("fast"))
    labels = ("a label of another space", *packaged.manifest.labels[1:])
    candidate = versions.add("9.0", labels=labels, label_space="free", taxonomy="")
    with pytest.raises(LabelMismatch):
        versions.canary(candidate, 50)
    with server.client() as client:
        followed(client, versions.canary(candidate, 50, allow_label_change=True))
        seen = {a: ask(server, a)[0].json() for a in CLIENTS[:20]}
        changes = {one["model"]["digest"]: one.get("label_change") for one in seen.values()}
        assert changes == {versions.champion: None, candidate: True}
