"""Feedback, stored predictions, and the service without a journal."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from classmark.service.recording import latex_share

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse $k$-graphs."}


def stored(client: httpx.Client, prediction_id: str) -> dict[str, Any]:
    """Return a prediction when it is written, which takes a moment."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        response = client.get(f"/v1/predictions/{prediction_id}")
        if response.status_code == 200 and response.json()["feedback"]:
            return dict(response.json())
    pytest.fail("the journal has not got it")


def test_a_prediction_is_stored_with_its_feedback_but_without_its_text(
    client: httpx.Client,
) -> None:
    answer = client.post(
        "/v1/classify", json={**PAPER, "id": "7", "author_category": "cs.DM", "top": 1}
    ).json()
    prediction_id = answer["prediction_id"]
    said = {"prediction_id": prediction_id, "category": "MATH.co", "comment": "graphs"}
    response = client.post("/v1/feedback", json=said)
    assert response.status_code == 202
    assert response.json() == {
        "prediction_id": prediction_id,
        "category": "math.CO",
        "accepted": True,
    }
    found = stored(client, prediction_id)
    assert found["model"] == answer["model"]
    assert (found["paper_id"], found["author_category"]) == ("7", "cs.DM")
    assert found["ranked"][0]["probability"] == answer["probability"]
    assert len(found["ranked"]) == 10
    assert (found["n_words"], found["source"], found["text"]) == (6, "classify", None)
    assert 0 < found["known_share"] <= 1
    assert 0 < found["latex_share"] < 0.1
    assert found["feedback"][0]["category"] == "math.CO"


@pytest.mark.slow  # starts a service of its own
def test_the_text_is_stored_where_the_operator_asked_for_it(start: Any) -> None:
    with start("--workers", "1", "--journal-text") as server, server.client() as client:
        prediction_id = client.post("/v1/classify", json=PAPER).json()["prediction_id"]
        client.post("/v1/feedback", json={"prediction_id": prediction_id, "category": "math.CO"})
        assert stored(client, prediction_id)["text"] == "\n".join(PAPER.values())
        assert PAPER["title"] not in server.stderr()


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"prediction_id": "short"}, "prediction_id: String should match"),
        ({"prediction_id": "8" * 26}, "prediction_id: String should match"),
        ({"category": "cs.XX"}, "unknown arXiv category"),
        ({"category": ""}, "category: String should have at least 1"),
        ({"comment": "x" * 501}, "comment: String should have at most 500"),
        ({"more": 1}, "more: Extra inputs"),
    ],
)
def test_feedback_that_cannot_be_joined_is_422(
    client: httpx.Client, change: dict[str, Any], detail: str
) -> None:
    said = {"prediction_id": "0" * 26, "category": "math.CO", **change}
    response = client.post("/v1/feedback", json=said)
    assert response.status_code == 422
    assert detail in response.json()["detail"]


def test_a_prediction_that_is_not_there_is_404_and_one_that_cannot_be_422(
    client: httpx.Client,
) -> None:
    response = client.get(f"/v1/predictions/{'0' * 26}")
    assert response.status_code == 404
    assert "the journal has no prediction" in response.json()["detail"]
    assert client.get("/v1/predictions/../../etc/passwd").status_code == 404
    assert client.get("/v1/predictions/x").status_code == 422


@pytest.mark.slow  # starts a service of its own
def test_without_a_journal_papers_are_classified_and_feedback_is_not_taken(start: Any) -> None:
    with start("--workers", "1", "--journal", "off") as server, server.client() as client:
        assert client.post("/v1/classify", json=PAPER).status_code == 200
        said = {"prediction_id": "0" * 26, "category": "math.CO"}
        response = client.post("/v1/feedback", json=said)
        assert (response.status_code, response.json()["kind"]) == (404, "journal_off")
        assert client.get("/v1/status").json()["journal"] is None


def test_the_share_of_latex_counts_commands_and_signs() -> None:
    assert latex_share("plain words") == 0
    assert latex_share(r"\alpha x") == pytest.approx(6 / 8)
    assert latex_share("$x^2$") == pytest.approx(3 / 5)
