"""The OpenAPI document: complete, with examples that work, and obeyed under random requests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

PROBLEM = {"$ref": "#/components/schemas/ProblemOut"}


GOLDEN = Path(__file__).parents[1] / "golden" / "openapi.json"
"""Written again by this test where CLASSMARK_WRITE_GOLDEN is set; look at the difference then."""


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_the_committed_one(document: dict[str, Any]) -> None:
    if os.environ.get("CLASSMARK_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    expected = json.loads(GOLDEN.read_text("utf-8"))
    assert document["paths"] == expected["paths"]
    assert document == expected


def test_every_operation_is_described_and_names_its_problems(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) >= 17
    for method, path, operation in found:
        assert operation["summary"], f"{method} {path}"
        assert operation["description"], f"{method} {path}"
        problem = operation["responses"]["default"]["content"]["application/problem+json"]
        assert problem["schema"] == PROBLEM
    assert len({operation["operationId"] for _, _, operation in found}) == len(found)


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    assert references(document) <= known


def test_every_example_of_a_json_body_is_accepted(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    n_examples = 0
    version = client.get("/v2/models/fast").json()["versions"][0]
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        examples = content.get("application/json", {}).get("examples", {})
        address = path.replace("{model}", "fast").replace("{version}", version)
        if path.startswith("/v1/registry"):
            continue  # this service has none; see test_service_registry.py
        for example in examples.values():
            response = client.request(method, address, json=example["value"])
            assert response.status_code in (200, 202), f"{method} {path}: {response.text}"
            n_examples += 1
    assert n_examples >= 5


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            assert body["examples"], f"{method} {path}"


def asker(cases: Any, url: str, note: Callable[[int], None]) -> Callable[[], None]:
    """Return a function that sends random requests and fails on a server error."""
    from schemathesis.checks import not_a_server_error

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: Any) -> None:
        response = case.call(base_url=url)
        case.validate_response(response, checks=[not_a_server_error])
        note(response.status_code)

    return ask


@pytest.mark.slow
def test_random_requests_after_the_document_meet_no_server_error(server: Any) -> None:
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    statuses: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        seen = statuses.setdefault(operation.label, set())
        ask = asker(operation.as_strategy(), server.url, seen.add)
        ask()
    assert len(statuses) >= 17
    assert {200, 422} <= statuses["POST /v1/classify"]
    # Whether a random model has the right name depends on what else hypothesis has seen.
    assert 422 in statuses["POST /v2/models/{model}/infer"]
    assert {202, 422} <= statuses["POST /v1/feedback"]
