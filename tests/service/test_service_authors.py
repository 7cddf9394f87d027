"""Authors as evidence at every door of the service, with a model that knows some."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from waiting import until

from authored_models import BRANES, KNOWN
from classmark import Classifier, Paper
from classmark.client import Answer, Client, ServiceProblem, TextAlone
from classmark.client.papers import batches
from classmark.records import BadRecord
from classmark.service import make_settings
from classmark.service.answering.answerer import Answerer, AnswerOptions, Question
from classmark.service.answering.batching import Batcher, BatchLimits
from classmark.service.http.classify import is_short
from classmark.service.metrics import Metrics
from classmark.service.requests.schemas import ClassifyRequest

NAME = "Ada Sieve"
SIGNED = {**BRANES, "authors": [NAME, "Nobody Else"]}
TEXT, ALL = ("title", "abstract"), ("title", "abstract", "authors")
INFER = "/v2/models/authored/infer"


@pytest.fixture(scope="module")
def server(authored_server: Any) -> Any:
    """Return the server of the model with authors, in place of the shared one."""
    return authored_server


@pytest.fixture(scope="module")
def classifier(authored_model: Path) -> Classifier:
    return Classifier(authored_model)


def classify(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def tensor(name: str, *data: str) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}


def test_an_answer_says_that_authors_changed_it_and_what_the_text_alone_says(
    client: httpx.Client, classifier: Classifier
) -> None:
    signed, alone = classify(client, **SIGNED), classify(client, **BRANES)
    assert signed["evidence"] == list(ALL)
    assert signed["ranked"] == classifier.classify(SIGNED).to_dict()["ranked"]
    assert signed["ranked"][0]["code"] == KNOWN[NAME]
    top = alone["ranked"][0]
    assert signed["text_alone"] == {"code": top["code"], "probability": top["probability"]}
    assert alone["evidence"] == list(TEXT)
    assert "text_alone" not in alone


@pytest.mark.parametrize("explain", [False, True])  # in the event loop, and in a thread
def test_false_in_place_of_the_names_answers_from_the_text_alone(
    client: httpx.Client, *, explain: bool
) -> None:
    off = classify(client, **BRANES, authors=False, explain=explain)
    alone = classify(client, **BRANES, explain=explain)
    ids = {"prediction_id": None}
    assert {**off, **ids} == {**alone, **ids}


def test_a_batch_leaves_the_authors_of_all_papers_out_or_of_one(client: httpx.Client) -> None:
    papers = [SIGNED, {**BRANES, "authors": False}, {**BRANES, "authors": NAME}]
    for switch, evidence in (
        ({}, [ALL, TEXT, ALL]),
        ({"authors": True}, [ALL, TEXT, ALL]),
        ({"authors": False}, [TEXT] * 3),
    ):
        answers = classify(client, papers=papers, **switch)["answers"]
        assert [tuple(answer["evidence"]) for answer in answers] == evidence


@pytest.mark.parametrize(("switch", "evidence"), [({}, ALL), ({"authors": "false"}, TEXT)])
@pytest.mark.parametrize("n_papers", [1, 400])  # read in a thread, and in a process
def test_a_file_brings_its_authors_and_a_form_leaves_them_out(
    client: httpx.Client, switch: dict[str, str], evidence: tuple[str, ...], n_papers: int
) -> None:
    files = {"file": ("papers.jsonl", (json.dumps(SIGNED) + "\n") * n_papers)}
    answers = client.post("/v1/files", files=files, data=switch).json()["answers"]
    assert {tuple(answer["evidence"]) for answer in answers} == {evidence}
    assert len(answers) == n_papers


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**BRANES, "authors": 5}, "authors"),
        ({**BRANES, "authors": 0}, "authors"),
        ({**BRANES, "authors": True}, "authors"),
        ({**BRANES, "authors": [["Sieve", "Ada"]]}, "authors"),
        ({**BRANES, "authors": [{"orcid": "0"}]}, "authors"),
        ({**BRANES, "authors": {"name": "A"}}, "authors"),
        ({**BRANES, "authors": [1] * 9_000}, "authors"),
        ({"papers": [{**BRANES, "authors": True}]}, "papers.0.authors"),
        ({"papers": [BRANES, {**BRANES, "authors": ["A", None]}]}, "papers.1.authors"),
    ],
)
def test_what_is_neither_names_nor_false_is_refused_in_one_error(
    client: httpx.Client, body: dict[str, Any], field: str
) -> None:
    response = client.post("/v1/classify", json=body)
    assert (response.status_code, response.json()["kind"]) == (422, "invalid_request")
    [error] = response.json()["errors"]
    assert error["field"] == field
    assert "should be names" in error["message"]
    assert "or false, to leave the authors out" in error["message"]


@pytest.mark.parametrize("names", [NAME, [NAME], []])
def test_names_beside_papers_are_refused(client: httpx.Client, names: Any) -> None:
    response = client.post("/v1/classify", json={"papers": [BRANES], "authors": names})
    assert response.status_code == 422
    assert "authors: cannot be sent beside papers" in response.json()["detail"]


def test_a_form_takes_no_names(client: httpx.Client) -> None:
    files = {"file": ("papers.jsonl", json.dumps(SIGNED))}
    response = client.post("/v1/files", files=files, data={"authors": NAME})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "authors"


@pytest.mark.parametrize(
    "authors", ["a" * 1_000_000, "Sieve, " * 40_000, ["x" * 10_000] * 21], ids=["a", "b", "c"]
)
def test_authors_longer_than_a_text_may_be_are_413_and_cost_a_batch_one_place(
    client: httpx.Client, authors: Any
) -> None:
    response = client.post("/v1/classify", json={**BRANES, "authors": authors})
    assert (response.status_code, response.json()["kind"]) == (413, "text_too_long")
    assert "Send their names only" in response.json()["detail"]
    bad, good = classify(client, papers=[{**BRANES, "authors": authors}, SIGNED])["answers"]
    assert bad["error"]["kind"] == "text_too_long"
    assert tuple(good["evidence"]) == ALL


def test_a_collaboration_of_thousands_is_answered_alone_and_in_a_batch(
    client: httpx.Client,
) -> None:
    several = [NAME, *(f"Nobody {chr(97 + i % 26)}x" for i in range(5_000))]
    objects = [{"name": name, "orcid": "0000"} for name in several]
    assert classify(client, **BRANES, authors=several)["evidence"] == list(ALL)
    papers = [{**BRANES, "authors": names} for names in (several, objects)] * 5
    answers = classify(client, papers=papers)["answers"]
    assert {tuple(answer["evidence"]) for answer in answers} == {ALL}


def test_a_thousand_papers_of_a_dozen_authors_are_one_batch(client: httpx.Client) -> None:
    names = [NAME, *(f"Nobody {letter}" for letter in "abcdefghijk")]
    answers = classify(client, papers=[{**BRANES, "authors": names}] * 1_000, top=1)["answers"]
    assert {tuple(answer["evidence"]) for answer in answers} == {ALL}


def test_more_names_than_anybody_lists_are_refused(client: httpx.Client) -> None:
    papers = [{**BRANES, "authors": ["A"] * 10_001}]
    response = client.post("/v1/classify", json={"papers": papers})
    assert response.status_code == 422
    assert "more than 10000 entries" in response.json()["detail"]


def test_the_names_of_a_paper_count_as_work() -> None:
    def short(authors: Any) -> bool:
        return is_short(ClassifyRequest(abstract="We study branes. " * 90, authors=authors))

    assert short(None)
    assert short(False)
    assert short(["Ada Sieve"] * 20)
    assert short("Ada Sieve and " * 20)
    assert not short(["Ada Sieve"] * 200)
    assert not short([{"name": "Ada Sieve"}] * 200)
    assert not short("Ada Sieve and " * 200)
    assert not short([""] * 5_000)


def test_the_model_says_that_it_knows_authors(client: httpx.Client) -> None:
    assert client.get("/v1/models").json()["models"][0]["authors"] is True


def test_no_name_is_stored(server: Any, client: httpx.Client) -> None:
    answer = classify(client, **BRANES, authors=["Secretsurname Q."])
    address = f"/v1/predictions/{answer['prediction_id']}"
    until(lambda: client.get(address).status_code == 200)
    assert "Secretsurname" not in client.get(address).text
    files = [path for path in server.home.rglob("*") if path.is_file()]
    assert any(answer["prediction_id"].encode() in path.read_bytes() for path in files)
    assert not any(b"Secretsurname" in path.read_bytes() for path in files)
    assert "Secretsurname" not in server.stderr()


class TestTheOpenInferenceProtocol:
    def infer(self, client: httpx.Client, **request: Any) -> dict[str, list[Any]]:
        response = client.post(INFER, json=request)
        assert response.status_code == 200, response.text
        return {output["name"]: output["data"] for output in response.json()["outputs"]}

    def test_authors_are_a_tensor_of_one_text_a_paper(
        self, client: httpx.Client, classifier: Classifier
    ) -> None:
        inputs = [
            tensor("title", *[BRANES["title"]] * 2),
            tensor("abstract", *[BRANES["abstract"]] * 2),
            tensor("authors", "Sieve, Ada and Nobody Else", ""),
        ]
        found = self.infer(client, inputs=inputs, parameters={"top": 1})
        wanted = classifier.classify([SIGNED, BRANES])
        assert found["code"] == [answer.ranked[0].code for answer in wanted]
        assert list(map(json.loads, found["evidence"])) == [list(ALL), list(TEXT)]
        first, second = map(json.loads, found["text_alone"])
        assert first == wanted[0].to_dict()["text_alone"]
        assert second is None

    def test_they_stand_beside_a_text_too_and_can_be_left_out(self, client: httpx.Client) -> None:
        inputs = [tensor("text", "\n".join(BRANES.values())), tensor("authors", NAME)]
        for switch, evidence in (({}, ALL), ({"authors": True}, ALL), ({"authors": False}, TEXT)):
            outputs = [{"name": "evidence"}]
            found = self.infer(client, inputs=inputs, parameters=switch, outputs=outputs)
            assert found == {"evidence": [json.dumps(evidence, separators=(",", ":"))]}

    def test_the_metadata_names_them(self, client: httpx.Client) -> None:
        model = client.get("/v2/models/authored").json()
        assert {"name": "authors", "datatype": "BYTES", "shape": [-1]} in model["inputs"]
        assert {"evidence", "text_alone"} <= {output["name"] for output in model["outputs"]}

    @pytest.mark.parametrize(
        ("request_body", "status", "detail"),
        [
            ({"inputs": [tensor("authors", NAME)]}, 422, "title and abstract are both empty"),
            ({"inputs": [tensor("text", "x"), tensor("authors")]}, 422, "different numbers"),
            ({"inputs": [tensor("text", "x"), tensor("authors", "x" * 300_000)]}, 413, "paper 0: "),
            (
                {"inputs": [tensor("text", "x")], "parameters": {"authors": NAME}},
                *(422, "parameters.authors: Input should be a valid boolean"),
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, client: httpx.Client, request_body: Any, status: int, detail: str
    ) -> None:
        response = client.post(INFER, json=request_body)
        assert response.status_code == status
        assert detail in response.json()["detail"]


class TestTheClient:
    @pytest.fixture
    def caller(self, server: Any) -> Iterator[Client]:
        with Client(server.url) as opened:
            yield opened

    def test_it_reads_what_the_answer_is_based_on(self, caller: Client) -> None:
        found = caller.classify(SIGNED)
        alone = caller.classify(SIGNED, authors=False)
        top = alone.ranked[0]
        assert (found.evidence, alone.evidence) == (ALL, TEXT)
        assert found.text_alone == TextAlone(top.code, top.probability)
        assert alone.text_alone is None
        assert caller.models()[0].authors

    def test_many_papers_and_files_leave_authors_out(self, caller: Client) -> None:
        content = json.dumps(SIGNED).encode()
        for answers in (
            caller.classify([Paper(**BRANES, authors=(NAME,)), SIGNED], authors=False),
            caller.classify_file(content, name="papers.jsonl", authors=False).answers,
        ):
            assert {a.evidence for a in answers if isinstance(a, Answer)} == {TEXT}
        [kept] = caller.classify_file(content, name="papers.jsonl", authors=True).answers
        assert isinstance(kept, Answer)
        assert kept.evidence == ALL

    def test_similar_papers_of_a_file_are_asked_for(self, caller: Client) -> None:
        with pytest.raises(ServiceProblem, match="no index of papers"):
            caller.classify_file(json.dumps(SIGNED).encode(), similar=2)

    def test_long_lists_of_authors_make_smaller_parts(self) -> None:
        names = [f"Ada Sieve {i}" for i in range(5_000)]
        parts = list(batches([{"title": "x", "authors": names}] * 60, 500))
        assert len(parts) > 1
        assert sum(map(len, parts)) == 60


class TestManyRequestsAtOnce:
    """Requests with and without authors meet in one batch."""

    def test_papers_scored_in_one_go_keep_their_own_switch(self, classifier: Classifier) -> None:
        answerer = Answerer(classifier, make_settings(journal="off"), Metrics())
        question = Question(Paper(**BRANES, authors=(NAME,)))
        bad = BadRecord(id=None, kind="invalid_paper", message="no text")
        answers = answerer.answer_together(
            [
                ([question, bad], AnswerOptions(authors=False)),
                ([question], AnswerOptions()),
            ]
        )
        assert [[getattr(a, "evidence", None) for a in part] for part in answers] == [
            [TEXT, None],
            [ALL],
        ]

    @pytest.mark.parametrize("explain", [False, True])
    def test_the_queue_of_a_deep_model_keeps_them_apart(
        self, classifier: Classifier, *, explain: bool
    ) -> None:
        limits = BatchLimits(batch_tokens=2_000, queue_papers=100, wait_s=0.05)
        batcher = Batcher(classifier, limits, Metrics())
        batcher.start([Paper(**BRANES)])
        settings = make_settings(journal="off")
        answerer = Answerer(classifier, settings, Metrics(), batcher=batcher)
        question = Question(Paper(**BRANES, authors=(NAME,)))

        def evidence(number: int) -> tuple[str, ...]:
            options = AnswerOptions(authors=number % 2 == 0, explain=explain)
            return answerer.answer(question, options).evidence

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(evidence, range(16)))
        batcher.close()
        assert found == [ALL, TEXT] * 8
