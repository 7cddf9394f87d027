"""The Open Inference Protocol under ``/v2``."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from classmark import Classifier

TITLES = ["Graph colouring", "Dualities of branes"]
ABSTRACTS = ["We colour sparse graphs.", "We study branes in string theory. " * 5]


def tensor(name: str, data: list[str], **changes: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data, **changes}


def test_metadata_and_health(client: httpx.Client) -> None:
    assert client.get("/v2").json()["name"] == "classmark"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    model = client.get("/v2/models/fast").json()
    (version,) = model["versions"]
    assert model["platform"] == "classmark_linear"
    assert model == client.get(f"/v2/models/fast/versions/{version}").json()
    ready = client.get(f"/v2/models/fast/versions/{version}/ready").json()
    assert ready == {"name": "fast", "ready": True}


def test_infer_gives_the_answers_of_python_as_tensors(client: httpx.Client) -> None:
    request = {
        "id": "42",
        "parameters": {"top": 3, "threshold": 0.9},
        "inputs": [tensor("title", TITLES), tensor("abstract", ABSTRACTS, shape=[2, 1])],
    }
    answer = client.post("/v2/models/fast/infer", json=request).json()
    papers = [{"title": t, "abstract": a} for t, a in zip(TITLES, ABSTRACTS, strict=True)]
    wanted = Classifier().classify(papers, top=3, threshold=0.9)
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert (answer["id"], answer["model_name"]) == ("42", "fast")
    assert outputs["code"]["shape"] == [2, 3]
    assert outputs["code"]["data"] == [r.code for a in wanted for r in a.ranked]
    assert outputs["probability"]["data"] == [r.probability for a in wanted for r in a.ranked]
    assert outputs["primary"]["data"] == [a.primary or "" for a in wanted]
    published = [a.to_dict() for a in wanted]
    assert [json.loads(text) for text in outputs["set"]["data"]] == [a["set"] for a in published]
    assert outputs["set_reason"]["data"] == ["few_known_terms", ""]
    reliability = [ranked["reliability"] for a in published for ranked in a["ranked"]]
    assert [json.loads(text) for text in outputs["reliability"]["data"]] == reliability
    assert outputs["reliability"]["shape"] == [2, 3]


def test_infer_takes_one_text_and_gives_only_what_is_asked_for(client: httpx.Client) -> None:
    request = {"inputs": [tensor("text", ["Graphs\nWe draw."])], "outputs": [{"name": "code"}]}
    answer = client.post("/v2/models/fast/infer", json=request).json()
    assert "id" not in answer
    (only,) = answer["outputs"]
    assert only["data"] == [r.code for r in Classifier().classify("Graphs\nWe draw.").ranked]


@pytest.mark.parametrize(
    ("request_body", "detail"),
    [
        ({"inputs": []}, "inputs: List should have at least 1"),
        ({"inputs": [tensor("body", ["x"])]}, "'body' is not one of title, abstract, text"),
        ({"inputs": [tensor("text", ["x"]), tensor("title", ["x"])]}, "replaces title"),
        ({"inputs": [tensor("title", ["x"], shape=[2])]}, "has shape [2] but 1 elements"),
        ({"inputs": [tensor("title", ["x"]), tensor("abstract", ["x", "y"])]}, "different numbers"),
        ({"inputs": [tensor("title", ["x", " "])]}, "paper 1: title and abstract are both empty"),
        ({"inputs": [tensor("title", ["x"], datatype="FP32")]}, "datatype: Input should be"),
        (
            {"inputs": [tensor("title", ["x"])], "outputs": [{"name": "no"}]},
            "'no' is not one of code",
        ),
        ({"inputs": [tensor("title", ["x"])] * 2}, "is there twice; send it once"),
        ({"inputs": [tensor("title", ["x"], shape=[True])]}, "shape.0: Input should be"),
        ({"inputs": [tensor("title", ["x"])], "parameters": {"top": True}}, "top: Input should be"),
    ],
)
def test_tensors_that_are_no_papers_are_422(
    client: httpx.Client, request_body: Any, detail: str
) -> None:
    response = client.post("/v2/models/fast/infer", json=request_body)
    assert response.status_code == 422, response.text
    assert detail in response.json()["detail"]


@pytest.mark.parametrize("place", ["other", "fast/versions/9.9", "..%2Ffast"])
def test_no_model_but_the_loaded_one_can_be_named(client: httpx.Client, place: str) -> None:
    for end in ("", "/ready"):
        response = client.get(f"/v2/models/{place}{end}")
        assert (response.status_code, response.json()["kind"]) == (404, "not_found")


@pytest.mark.parametrize("data", [b'"data": ["y"], "data": ["z"]', b'"d\\u0061ta": ["0"]'])
def test_a_tensor_has_one_plain_data(client: httpx.Client, data: bytes) -> None:
    body = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", %s}]}' % data
    headers = {"content-type": "application/json"}
    response = client.post("/v2/models/fast/infer", content=body, headers=headers)
    assert response.status_code == 422
    assert "do not have one plain 'data' each" in response.json()["detail"]


def test_an_output_is_wanted_once(client: httpx.Client) -> None:
    request = {"inputs": [tensor("text", ["x"])], "outputs": [{"name": "code"}] * 2}
    response = client.post("/v2/models/fast/infer", json=request)
    assert response.status_code == 422
    assert "outputs: 'code' is there twice; send it once." in response.json()["detail"]


def test_an_invalid_element_and_a_text_too_long_are_named(client: httpx.Client) -> None:
    request = {"inputs": [tensor("title", ["x"]), tensor("abstract", ["x"] * 99 + [1])]}  # type: ignore[list-item]
    response = client.post("/v2/models/fast/infer", json=request)
    assert response.json()["errors"][0]["field"] == "inputs.1.data.99"
    request = {"inputs": [tensor("text", ["x" * 2_000_000])]}
    response = client.post("/v2/models/fast/infer", json=request)
    assert (response.status_code, response.json()["kind"]) == (413, "text_too_long")
