"""A service whose model has labels of one's own: they stand wherever arXiv's categories do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from waiting import until

from classmark.client import Answer, Client, Prediction
from own_labels import BRANES, RENAMED, own_label

STRINGS, LONG = RENAMED["hep-th"], RENAMED["gr-qc"]
pytestmark = pytest.mark.slow  # a server of its own


@pytest.fixture
def server(own_server: Any) -> Any:
    """Return the server of the model of own labels, in place of the shared one."""
    return own_server


def classify(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/v1/classify", json={**BRANES, **changes})


def test_categories_are_the_labels_of_the_model(client: httpx.Client) -> None:
    seen = client.get("/v1/categories").json()
    assert (seen["label_space"], seen["version"]) == ("free", "")
    codes = [category["code"] for category in seen["categories"]]
    assert set(RENAMED.values()) < set(codes)
    assert "hep-th" not in codes
    for category in seen["categories"]:
        assert category["name"] == category["code"]
        assert (category["archive"], category["group"], category["active"]) == ("", "", True)
    [model] = client.get("/v1/models").json()["models"]
    assert (model["label_space"], model["labels"]) == ("free", len(codes))


def test_answers_name_the_labels_and_have_no_levels(client: httpx.Client) -> None:
    answer = classify(client).json()
    assert answer["primary"] == answer["ranked"][0]["name"] == STRINGS
    assert answer["levels"] == {"archive": [], "group": []}


@pytest.mark.parametrize(
    ("written", "verdict"),
    [(STRINGS, "confirmed"), (STRINGS.upper(), "confirmed"), (LONG, "challenged")],
)
def test_the_label_of_the_author_is_judged(
    client: httpx.Client, written: str, verdict: str
) -> None:
    abstract = (
        f"{BRANES['abstract']} " * 8
    )  # of fewer words there is no set, and nothing is ruled out
    seen = classify(client, author_category=written, abstract=abstract).json()["author_category"]
    assert seen["verdict"] == verdict
    assert seen["code"] in (STRINGS, LONG)


@pytest.mark.parametrize("written", ["hep-th", "astro-ph", "strings", "OPS"])
def test_what_is_no_label_of_the_model_is_refused_in_its_words(
    client: httpx.Client, written: str
) -> None:
    response = classify(client, author_category=written)
    assert response.status_code == 422
    problem = response.json()
    assert problem["kind"] == "unknown_category"
    assert "arXiv" not in problem["detail"]
    assert f"{written!r}: the model own 1.0 has" in problem["detail"]


@pytest.mark.parametrize("label", [STRINGS, "組合せ論", "ops", "Ops", LONG])
def test_feedback_in_own_labels_is_in_the_journal(
    client: httpx.Client, server: Any, label: str
) -> None:
    with Client(server.url) as caller:
        [found] = caller.classify([{**BRANES, "author_category": label}])
        assert isinstance(found, Answer)
        caller.feedback(found.prediction_id, label)
        kept = until(lambda: with_feedback(caller, found.prediction_id))
        assert [said.category for said in kept.feedback] == [label]
        assert kept.document["author_category"] == label
        assert kept.primary == STRINGS
        assert label in {category.name for category in caller.categories()}
        assert caller.models()[0].label_space == "free"


def test_the_inference_protocol_gives_the_labels_whole(client: httpx.Client) -> None:
    tensors = [{"name": "title", "shape": [1], "datatype": "BYTES", "data": [BRANES["title"]]}]
    seen = client.post("/v2/models/own/infer", json={"inputs": tensors}).json()
    outputs = {output["name"]: output["data"] for output in seen["outputs"]}
    expected = classify(client, abstract="").json()
    assert outputs["code"] == [ranked["code"] for ranked in expected["ranked"]]
    assert json.loads(outputs["set"][0]) == expected["set"]


def test_the_document_speaks_of_the_model_and_its_examples_are_accepted(
    client: httpx.Client,
) -> None:
    document = client.get("/openapi.json").json()
    assert (
        f"the {len(document_labels(client))} labels of the model own@1.0"
        in (document["info"]["description"])
    )
    for path, status in (("/v1/classify", 200), ("/v1/feedback", 202)):
        [content] = document["paths"][path]["post"]["requestBody"]["content"].values()
        for example in content["examples"].values():
            assert client.post(path, json=example["value"]).status_code == status


def with_feedback(caller: Client, prediction_id: str) -> Prediction | None:
    kept = caller.prediction(prediction_id)
    return kept if kept is not None and kept.feedback else None


def document_labels(client: httpx.Client) -> list[str]:
    return [category["code"] for category in client.get("/v1/categories").json()["categories"]]


def test_metrics_and_headers_hold_no_label(client: httpx.Client) -> None:
    response = classify(client)
    assert response.headers["x-classmark-model"] == "own@1.0"
    metrics = client.get("/metrics").text
    assert 'outcome="accepted"' in metrics
    assert own_label("hep-th") not in metrics
