"""``classmark.client`` against the really started server, and against its OpenAPI document."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import fields

from classmark import Classifier, Paper, records
from classmark.client import (
    Answer,
    AsyncClient,
    AuthorCategory,
    BadRecord,
    Category,
    Client,
    ClientConfig,
    Evidence,
    FileAnswers,
    Latency,
    Level,
    Levels,
    ModelDetails,
    ModelRef,
    Prediction,
    Ranked,
    RecordError,
    Reliability,
    Requests,
    ServiceProblem,
    Similar,
    Status,
    TextAlone,
    protocol,
)
from classmark.client.papers import batches, paper_body

EXAMPLES = Path(__file__).parents[2] / "examples"
TITLE = "Spectral gaps of random regular graphs"
ABSTRACT = "We bound the second eigenvalue of random $d$-regular graphs."
PAPER = {"title": TITLE, "abstract": ABSTRACT}

# Schema of the document -> what the client reads it as.
SCHEMAS = {
    "AnswerOut": Answer,
    "AuthorCategoryOut": AuthorCategory,
    "BadRecordOut": BadRecord,
    "CategoryOut": Category,
    "EvidenceOut": Evidence,
    "FilesOut": FileAnswers,
    "LatencyOut": Latency,
    "LevelOut": Level,
    "LevelsOut": Levels,
    "ModelDetailsOut": ModelDetails,
    "ModelOut": ModelRef,
    "RankedOut": Ranked,
    "RecordErrorOut": RecordError,
    "ReliabilityOut": Reliability,
    "RequestCountsOut": Requests,
    "SimilarOut": Similar,
    "StatusOut": Status,
    "TextAloneOut": TextAlone,
}


@pytest.fixture
def caller(server: Any) -> Iterator[Client]:
    """Return the client that users have, for the shared server."""
    with Client(server.url) as opened:
        yield opened


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    """Return the OpenAPI document."""
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_one_paper_is_answered_as_in_python(caller: Client) -> None:
    found = caller.classify({**PAPER, "id": "a", "author_category": "math.CO"}, top=3, explain=True)
    expected = Classifier().classify(PAPER, top=3)
    assert (found.id, found.primary, found.reason) == ("a", expected.primary, expected.reason)
    assert [ranked.code for ranked in found.ranked] == [r.code for r in expected.ranked]
    assert found.probability == pytest.approx(expected.probability, abs=1e-6)
    assert (found.set, found.set_reason) == (expected.set, expected.set_reason)
    worth = [ranked.reliability for ranked in found.ranked]
    assert worth == [Reliability(r.precision, r.papers) for r in measured_of(expected)]
    assert found.author_category is not None
    assert found.author_category.code == "math.CO"
    assert found.explanation
    assert found.model.name == "fast"


def measured_of(answer: Any) -> list[Any]:
    """Return what Python says each ranked category is worth; all of them were measured."""
    found = [ranked.reliability for ranked in answer.ranked]
    assert None not in found
    return found


def test_texts_papers_and_mappings_mean_the_same(caller: Client) -> None:
    several = [f"{TITLE}\n{ABSTRACT}", Paper(title=TITLE, abstract=ABSTRACT), PAPER, {"title": " "}]
    *good, bad = caller.classify(several)
    assert len({item.ranked for item in good if isinstance(item, Answer)}) == 1
    assert isinstance(bad, BadRecord)
    assert bad.error.kind == "invalid_paper"


def test_a_list_longer_than_the_service_takes_is_answered_in_order(caller: Client) -> None:
    papers = [{"id": str(number), **PAPER} for number in range(1_203)]
    assert [item.id for item in caller.classify(papers, top=1)] == [p["id"] for p in papers]


def test_a_paper_larger_than_a_body_may_be_costs_its_place_alone(caller: Client) -> None:
    huge = {"id": 7, "abstract": "graph " * 1_500_000}
    first, refused, last = caller.classify([PAPER, huge, PAPER])
    assert isinstance(refused, BadRecord)
    assert (refused.id, refused.error.kind) == ("7", "body_too_large")
    assert "Send less in one request" in refused.error.message
    assert isinstance(first, Answer)
    assert isinstance(last, Answer)


@pytest.mark.parametrize("name", ["papers.bib", "papers.csv", "papers.jsonl"])
def test_a_file_is_answered_by_path_and_by_content(caller: Client, name: str) -> None:
    by_path = caller.classify_file(EXAMPLES / name, top=2)
    by_content = caller.classify_file((EXAMPLES / name).read_bytes(), name=name, explain=True)
    by_name = caller.classify_file(str(EXAMPLES / name))
    assert by_path.format == by_content.format == by_name.format
    assert len(by_path.answers) == len(by_content.answers) > 0
    assert all(len(a.ranked) == 2 for a in by_path.answers if isinstance(a, Answer))


def test_columns_of_a_file_are_named_and_unknown_ones_are_told(caller: Client) -> None:
    content = b"Titel, kurz;Text\nGraphs;We colour graphs\n".replace(
        b"Titel, kurz", b'"Titel, kurz"'
    )
    columns = {"title": "Titel, kurz", "abstract": "Text"}
    found = caller.classify_file(content, name="neu.csv", columns=columns)
    assert [a.title for a in found.answers if isinstance(a, Answer)] == ["Graphs"]
    with pytest.raises(ServiceProblem) as caught:
        caller.classify_file(content, name="neu.csv")
    assert (caught.value.kind, caught.value.columns_seen) == (
        "wrong_columns",
        tuple(columns.values()),
    )
    (bad,) = caller.classify_file(b'{"Titel": "Graphs"}\n').answers
    assert isinstance(bad, BadRecord)
    assert bad.error.columns_seen == ("Titel",)


def test_feedback_is_found_with_its_prediction(caller: Client) -> None:
    found = caller.classify(PAPER)
    caller.feedback(found.prediction_id, "math.PR", "random matrices")
    kept = caller.prediction(found.prediction_id)
    assert kept is not None
    assert (kept.primary, kept.model) == (found.primary, found.model)
    assert [(said.category, said.comment) for said in kept.feedback] == [
        ("math.PR", "random matrices")
    ]
    assert kept.document["n_chars"] == len(TITLE) + len(ABSTRACT)
    assert caller.prediction("0" * 26) is None
    assert caller.prediction("../status") is None
    with pytest.raises(ServiceProblem, match=r"\?x' is not one; send the prediction_id"):
        caller.prediction(f"{found.prediction_id}?x")


def test_the_same_call_sent_again_is_one_prediction(caller: Client) -> None:
    call = protocol.one_call(PAPER, {})
    first, second = caller._send(call), caller._send(call)
    assert first.prediction_id == second.prediction_id
    assert first.prediction_id != caller.classify(PAPER).prediction_id


def test_refusals_carry_the_kind(caller: Client) -> None:
    with pytest.raises(ServiceProblem, match="422 unknown_category") as caught:
        caller.feedback("0" * 26, "cs.XX")
    assert caught.value.request_id
    with pytest.raises(ServiceProblem, match="422 invalid_request") as caught:
        caller.classify({"titel": "x"})
    assert caught.value.errors
    with pytest.raises(ServiceProblem, match="422 invalid_paper"):
        caller.classify(" ")


def test_what_there_is_and_how_it_does(caller: Client) -> None:
    caller.wait_until_ready()
    caller.classify(PAPER)
    assert {"cs.LG", "math.CO"} <= {category.code for category in caller.categories()}
    (model,) = caller.models()
    assert {"econ.EM", "econ.GN", "econ.TH"} <= set(model.rarely_right)
    assert (model.name, model.labels) == ("fast", len(Classifier().labels))
    status = caller.status()
    assert status.requests.total >= 1
    assert status.journal is not None


def test_the_asynchronous_client_answers_the_same(server: Any) -> None:
    async def run() -> tuple[Any, ...]:
        async with AsyncClient(server.url, ClientConfig(deadline_s=20)) as client:
            await client.wait_until_ready()
            one, many = await asyncio.gather(client.classify(PAPER), client.classify([PAPER] * 3))
            of_file = await client.classify_file(EXAMPLES / "papers.bib")
            await client.feedback(one.prediction_id, "math.CO")
            kept = await client.prediction(one.prediction_id)
            rest = await client.categories(), await client.models(), await client.status()
            return one, many, of_file, kept, rest

    one, many, of_file, kept, rest = asyncio.run(run())
    assert [item.ranked for item in many] == [one.ranked] * 3
    assert of_file.answers
    assert [said.category for said in kept.feedback] == ["math.CO"]
    assert all(rest)


@pytest.mark.slow
def test_a_killed_worker_is_not_noticed_through_the_client(start: Any) -> None:
    failures: list[Exception] = []
    answered: list[str] = []
    enough = threading.Event()

    def ask(url: str) -> None:
        with Client(url) as client:
            while not enough.is_set():
                try:
                    answered.append(client.classify(PAPER).prediction_id)
                except Exception as error:
                    failures.append(error)

    with start("--workers", "2") as server:
        threads = [threading.Thread(target=ask, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            before, victim = len(answered), server.workers()[0]
            os.kill(victim, signal.SIGKILL)
            while not failures and (
                len(answered) < before + 400
                or victim in server.workers()
                or "classmark_workers 2.0" not in httpx.get(f"{server.url}/metrics").text
            ):
                enough.wait(0.01)
        enough.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(set(answered)) == len(answered)


def test_every_path_of_the_client_is_in_the_document(document: dict[str, Any]) -> None:
    used = {
        ("/v1/classify", "post"),
        ("/v1/files", "post"),
        ("/v1/feedback", "post"),
        ("/v1/categories", "get"),
        ("/v1/models", "get"),
        ("/v1/predictions/{prediction_id}", "get"),
        ("/v1/status", "get"),
        ("/readyz", "get"),
    }
    offered = {(path, method) for path, item in document["paths"].items() for method in item}
    assert used <= offered
    sources = Path(protocol.__file__).read_text("utf-8")
    sources += (Path(protocol.__file__).parent / "synchronous.py").read_text("utf-8")
    for path, _ in used:
        assert f'"{path.partition("{")[0]}' in sources


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_that_the_client_reads_is_in_the_document(
    document: dict[str, Any], name: str
) -> None:
    offered = set(document["components"]["schemas"][name]["properties"])
    assert {field.name for field in fields(SCHEMAS[name])} <= offered


def test_the_fields_of_a_prediction_are_in_the_document(document: dict[str, Any]) -> None:
    offered = set(document["components"]["schemas"]["PredictionOut"]["properties"])
    assert {field.name for field in fields(Prediction)} - {"document"} <= offered


def test_missing_values_are_left_out_and_a_missing_paper_costs_its_place(server: Any) -> None:
    nan, na = float("nan"), type("NAType", (), {})()
    papers: list[Any] = [
        {**PAPER, "abstract": nan, "id": na},
        nan,
        Paper(title=TITLE, abstract=nan),  # type: ignore[arg-type]
        None,
        {"title": na, "abstract": nan},
    ]
    with Client(server.url) as client:
        results = client.classify(papers)
        assert results[0].ranked == results[2].ranked == client.classify({"title": TITLE}).ranked
    for result in (results[1], results[3], results[4]):
        assert isinstance(result, BadRecord)
        assert result.error.kind == "invalid_paper"


def test_a_paper_is_sent_with_the_authors_that_it_has() -> None:
    paper = Paper(title="T", authors=("Ada Sieve", "Bo Graph"))
    assert paper_body(paper)["authors"] == ["Ada Sieve", "Bo Graph"]
    assert "authors" not in paper_body(Paper(title="T"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "None is not a paper. Give a text, a mapping"),
        (5, "5 is not a paper"),
        (b"graph", "b'graph' is not a paper"),
        (Path("papers.csv"), r"Path\('papers.csv'\) is not a paper"),
        ([TITLE, 5], "item 1: 5 is not a paper"),
        ([[TITLE]], r"item 0: \['Spectral"),
        ([TITLE, records.BadRecord(id="3", kind="wrong_type", message="line 3")], "item 1: BadRec"),
    ],
)
def test_what_is_not_a_paper_is_refused_by_its_place(wrong: Any, message: str) -> None:
    with Client() as client, pytest.raises(TypeError, match=message):
        client.classify(wrong)


def test_rows_of_tables_are_papers_and_a_whole_table_is_not() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"abstract": [ABSTRACT, ABSTRACT], "title": [TITLE, None]})
    both = [{"title": TITLE, "abstract": ABSTRACT}, {"abstract": ABSTRACT}]
    assert list(batches(table.itertuples(), 9)) == [both]
    assert paper_body(table.iloc[1]) == both[1]
    with Client() as client, pytest.raises(TypeError, match="of a table its rows"):
        client.classify(table)
