"""Similar papers of an index, over HTTP and for the client."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from classmark import Classifier, Index
from classmark.client import Client, ServiceProblem
from classmark.neighbours import (
    Entry,
    EvidenceWeights,
    SideWeights,
    build_index,
    set_evidence,
)

TEXTS = {
    "colour": "We colour sparse graphs with few colours and bound their chromatic number.",
    "galaxies": "We measure the stellar mass of dwarf galaxies and their dark matter halos.",
    "<b>spins</b>": "We simulate spin chains and their magnetisation.",
}
PAPER = {"text": "We colour planar graphs and bound the chromatic number."}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    classifier = Classifier()
    entries = [Entry(name, 2020, ("math.CO",), f"Title of {name}") for name in TEXTS]
    path = tmp_path_factory.mktemp("similar") / "index"
    build_index(path, [(entries, classifier.vectors(list(TEXTS.values())))], classifier.model)
    return Index.open(path)


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., Any], index: Index) -> Iterator[Any]:
    options = ("--workers", "1", "--index", str(index.path))
    with start_shared(*options) as started:
        yield started


def found_in_python(index: Index, n: int) -> list[dict[str, Any]]:
    return [paper.to_dict() for paper in index.similar(Classifier().vectors(PAPER["text"]), n)[0]]


def test_similar_papers_stand_beside_the_answer_and_only_when_asked_for(
    client: httpx.Client, index: Index
) -> None:
    answer = client.post("/v1/classify", json={**PAPER, "similar": 2}).json()
    assert answer["similar"] == found_in_python(index, 2)
    assert answer["similar"][0]["title"] == "Title of colour"
    assert "similar" not in client.post("/v1/classify", json=PAPER).json()


def test_a_batch_and_a_file_get_them_too(client: httpx.Client, index: Index) -> None:
    body = {"papers": [PAPER, {"title": " "}], "similar": 1}
    good, bad = client.post("/v1/classify", json=body).json()["answers"]
    assert good["similar"] == found_in_python(index, 1)
    assert "error" in bad
    files = {"file": ("papers.jsonl", f'{{"abstract": "{PAPER["text"]}"}}\n')}
    [of_file] = client.post("/v1/files", files=files, data={"similar": "1"}).json()["answers"]
    assert of_file["similar"] == found_in_python(index, 1)


def test_the_client_asks_for_them(server: Any, index: Index) -> None:
    with Client(server.url) as client:
        answer = client.classify(PAPER, similar=2)
        assert [paper.to_dict() for paper in answer.similar or ()] == found_in_python(index, 2)
        file = client.classify_file(PAPER["text"].encode(), similar=1)
        assert [paper.to_dict() for paper in file.answers[0].similar or ()] == found_in_python(
            index, 1
        )
        assert client.models()[0].similar == 100


@pytest.mark.parametrize("n", [-1, 101, "many"])
def test_a_number_out_of_range_is_refused(client: httpx.Client, n: Any) -> None:
    reply = client.post("/v1/classify", json={**PAPER, "similar": n})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "similar"


def test_a_calibrated_index_is_evidence_for_every_answer(
    start_shared: Callable[..., Any], index: Index, tmp_path: Path
) -> None:
    shutil.copytree(index.path, tmp_path / "index")
    weights = EvidenceWeights(1.1, SideWeights((0.8, 0.5, 0.2, 0.0)))
    set_evidence(tmp_path / "index", weights, Classifier().model)
    expected = Classifier(index=tmp_path / "index").classify(PAPER["text"]).to_dict()
    assert expected["evidence"] == ["abstract", "neighbours"]
    with start_shared("--workers", "1", "--index", str(tmp_path / "index")) as started:
        answer = httpx.post(f"{started.url}/v1/classify", json=PAPER).json()
        papers = {"papers": [PAPER, PAPER]}
        answers = httpx.post(f"{started.url}/v1/classify", json=papers).json()["answers"]
    for found in (answer, *answers):
        assert {name: found[name] for name in expected} == expected


def test_an_index_of_another_model_stops_the_service_before_it_listens(tmp_path: Path) -> None:
    model = Classifier().model
    other = type(model)(model.name, "0.1", "0" * 64)
    vectors = np.ones((1, 128), dtype=np.float32)
    build_index(tmp_path / "index", [([Entry("a")], vectors)], other)
    command = [sys.executable, "-m", "classmark", "serve", "--port", "0"]
    done = subprocess.run(
        [*command, "--index", str(tmp_path / "index")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "build the index again" in done.stderr


class TestWithoutAnIndex:
    @pytest.fixture
    def server(self, start: Callable[..., Any]) -> Iterator[Any]:
        with start("--workers", "1") as started:
            yield started

    def test_it_is_refused_with_what_to_do(self, client: httpx.Client, server: Any) -> None:
        reply = client.post("/v1/classify", json={**PAPER, "similar": 1})
        assert (reply.status_code, reply.json()["kind"]) == (422, "invalid_request")
        assert "serve --index" in reply.json()["detail"]
        batch = client.post("/v1/classify", json={"papers": [PAPER], "similar": 1})
        assert batch.status_code == 422
        with Client(server.url) as own, pytest.raises(ServiceProblem, match="no index of papers"):
            own.classify(PAPER, similar=1)
