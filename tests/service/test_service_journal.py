"""Feedback, stored predictions, and the service without a journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from classmark import Classifier, Paper, __version__
from classmark.errors import ClassmarkError
from classmark.journal import find_prediction
from classmark.runtime.features import latex_share, read_features
from classmark.service import Service, ServiceSettings, create_app
from classmark.service.keys import create_key
from classmark.service.problems import problem_of

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


def test_the_journal_keeps_the_scores_that_the_monitor_compares(
    client: httpx.Client, server: Any
) -> None:
    prediction_id = client.post("/v1/classify", json=PAPER).json()["prediction_id"]
    client.post("/v1/feedback", json={"prediction_id": prediction_id, "category": "math.CO"})
    shown = stored(client, prediction_id)
    assert not {"features", "client", "service_version"} & set(shown)
    kept = find_prediction(server.home / "journal" / "journal.sqlite", prediction_id)
    assert kept is not None
    classifier = Classifier()
    expected = classifier.score([Paper(**PAPER)]).scores[0]
    scores, english, foreign, has_abstract = read_features(
        kept.event.features or b"", len(classifier.labels)
    )
    assert np.allclose(scores, expected, rtol=1e-3, atol=1e-3)
    assert (round(english * 6), foreign, has_abstract) == (1, 0, True)
    assert (kept.event.client, kept.event.service_version) == ("", __version__)


@pytest.mark.slow  # starts a service of its own
def test_the_journal_keeps_which_key_asked(start: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key, text = create_key(keys, "library", ("classify", "feedback", "admin"))
    with start("--workers", "1", "--api-keys", str(keys)) as server, server.client() as client:
        client.headers["Authorization"] = f"Bearer {text}"
        prediction_id = client.post("/v1/classify", json=PAPER).json()["prediction_id"]
        client.post("/v1/feedback", json={"prediction_id": prediction_id, "category": "math.CO"})
        assert "client" not in stored(client, prediction_id)["feedback"][0]
        kept = find_prediction(server.home / "journal" / "journal.sqlite", prediction_id)
        assert kept is not None
        assert (kept.event.client, kept.feedback[0].client) == (key.id, key.id)


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


@pytest.mark.slow  # starts a service of its own
def test_a_damaged_journal_is_503_without_its_path_and_a_line_of_the_log(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "kept" / "journal.sqlite"
    with start("--workers", "1", "--journal", str(path)) as server, server.client() as client:
        prediction_id = client.post("/v1/classify", json=PAPER).json()["prediction_id"]
        client.post("/v1/feedback", json={"prediction_id": prediction_id, "category": "math.CO"})
        stored(client, prediction_id)
        for file in path.parent.iterdir():
            file.unlink()
        path.write_bytes(b"damaged" * 1_000)
        response = client.get(f"/v1/predictions/{prediction_id}")
        assert (response.status_code, response.json()["kind"]) == (503, "journal_unavailable")
        assert response.headers["retry-after"] == "1"
        assert str(tmp_path) not in response.text
        assert client.post("/v1/classify", json=PAPER).status_code == 200
        (line,) = [entry for entry in server.logs() if entry["event"] == "request failed"]
        assert (line["kind"], line["level"]) == ("invalid_journal", "error")
        assert line["request_id"] == response.json()["instance"]
        assert str(path) in line["problem"]
        end = time.monotonic() + 30
        while not client.get("/v1/status").json()["journal"]["failing"]:
            assert time.monotonic() < end, "the journal has not noticed"
        (line,) = [e for e in server.logs() if e["event"] == "journal cannot be written"]
        assert "it is damaged or not an SQLite file" in line["problem"]


@pytest.mark.slow  # starts a service of its own
def test_a_journal_that_cannot_be_written_is_a_line_of_the_log_at_the_start(
    start: Any, tmp_path: Path
) -> None:
    with start("--workers", "1", "--journal", str(tmp_path)) as server, server.client() as client:
        end = time.monotonic() + 30
        while not (found := [e for e in server.logs() if e["event"].startswith("journal")]):
            assert time.monotonic() < end, "nothing is said"
        assert found[0]["event"] == "journal cannot be written"
        assert found[0]["problem"].startswith(f"journal {tmp_path}: it cannot be opened.")
        assert client.post("/v1/classify", json=PAPER).status_code == 200


@pytest.mark.parametrize(
    ("failing", "kind"), [(True, "journal_unavailable"), (False, "overloaded")]
)
def test_feedback_that_the_journal_cannot_take_is_503(
    tmp_path: Path, failing: bool, kind: str
) -> None:
    service = Service(ServiceSettings(journal=str(tmp_path / "journal.sqlite")))
    assert service.journal is not None
    service.journal.close(5)
    service.journal._failing = failing
    transport = httpx.ASGITransport(app=create_app(service))

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            said = {"prediction_id": "0" * 26, "category": "math.CO"}
            return await client.post("/v1/feedback", json=said)

    response = asyncio.run(send())
    service.close()
    assert (response.status_code, response.json()["kind"]) == (503, kind)
    assert response.headers["retry-after"] == "1"


def every_error(base: type[ClassmarkError] = ClassmarkError) -> Iterator[type[ClassmarkError]]:
    yield base
    for error in base.__subclasses__():
        yield from every_error(error)


REQUESTS_FAULT = {
    **dict.fromkeys(("UsageError", "UnknownCategory", "UnreadableSource", "WrongColumns"), 422),
    **{"InvalidPaper": 422, "InvalidEvent": 422, "TextTooLong": 413},
}
NOT_NOW = {"Overloaded": 503, "NotReady": 503, "DeadlineExceeded": 504}
"""What the service itself says of its load; no file or path is in it."""


@pytest.mark.parametrize("kind", sorted(set(every_error()), key=lambda kind: kind.__name__))
def test_only_a_fault_of_the_request_is_4xx_and_shown(kind: type[ClassmarkError]) -> None:
    error = kind.__new__(kind)
    error.args = ("cannot write /var/lib/secret: the disk is full.",)
    problem = problem_of(error)
    if kind.__name__ in REQUESTS_FAULT:
        assert (problem.status, problem.detail) == (REQUESTS_FAULT[kind.__name__], str(error))
    elif kind.__name__ in NOT_NOW:
        assert (problem.status, problem.detail) == (NOT_NOW[kind.__name__], str(error))
    else:
        assert problem.status in (500, 503)
        assert "secret" not in problem.detail


def test_the_share_of_latex_counts_commands_and_signs() -> None:
    assert latex_share("plain words") == 0
    assert latex_share(r"\alpha x") == pytest.approx(6 / 8)
    assert latex_share("$x^2$") == pytest.approx(3 / 5)
