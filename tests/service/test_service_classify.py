"""``POST /v1/classify``: the answer of Python, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from classmark import Classifier

PAPER = {
    "title": "Spectral gaps of random regular graphs",
    "abstract": "We bound the second eigenvalue of the adjacency matrix of random graphs.",
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def without_id(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "prediction_id"}


def test_one_paper_gets_the_answer_of_python_and_a_prediction_id(
    client: httpx.Client, classifier: Classifier
) -> None:
    answer = client.post("/v1/classify", json={**PAPER, "id": "a"}).json()
    assert without_id(answer) == classifier.classify({**PAPER, "id": "a"}).to_dict()
    assert len(answer["prediction_id"]) == 26


def test_top_threshold_and_explain_stand_beside_the_paper(
    client: httpx.Client, classifier: Classifier
) -> None:
    options = {"top": 2, "threshold": 0.999, "explain": True}
    answer = client.post("/v1/classify", json={**PAPER, **options}).json()
    assert without_id(answer) == classifier.classify(PAPER, **options).to_dict()
    assert answer["primary"] is None


def test_a_batch_is_answered_in_order_with_a_bad_paper_in_its_place(
    client: httpx.Client, classifier: Classifier
) -> None:
    papers = [{**PAPER, "id": "a"}, {"id": "b", "title": " "}, {"text": "Graphs\nWe draw them."}]
    answer = client.post("/v1/classify", json={"papers": papers, "top": 3}).json()
    first, second, third = answer["answers"]
    assert without_id(first) == classifier.classify({**PAPER, "id": "a"}, top=3).to_dict()
    assert second["id"] == "b"
    assert second["error"]["kind"] == "invalid_paper"
    assert "title and abstract are both empty" in second["error"]["message"]
    assert without_id(third) == classifier.classify("Graphs\nWe draw them.", top=3).to_dict()
    assert answer["model"] == first["model"]
