"""What is refused, how it is said, and what a request may ask for beside its papers."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}
JSON = {"content-type": "application/json"}


def problem(response: httpx.Response) -> dict[str, Any]:
    """Return the problem that a response is, with what every problem must have checked."""
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"urn:classmark:problem:{document['kind']}"
    assert document["status"] == response.status_code
    assert document["instance"] == response.headers["x-request-id"]
    assert response.headers["x-classmark-model"].startswith("fast@")
    return document


@pytest.mark.parametrize(
    ("body", "status", "kind", "detail"),
    [
        (b"{", 400, "malformed_json", "EOF while parsing"),
        (b"", 400, "malformed_json", "EOF while parsing"),
        (b'{"title": "\\ud800"}', 400, "malformed_json", "hex escape"),
        (b'{"title": "\xff"}', 400, "malformed_json", "unicode"),
        (b"[" * 100_000, 400, "malformed_json", "recursion limit"),
        (b"[]", 422, "invalid_request", "should be an object"),
        (b"{}", 422, "invalid_paper", "title and abstract are both empty"),
        (b'{"titel": "x"}', 422, "invalid_request", "titel: Extra inputs are not permitted"),
        (b'{"title": "x", "id": true}', 422, "invalid_request", "^id: Input should be a string of"),
        (b'{"papers": [{"id": 1.5}]}', 422, "invalid_request", r"^papers\.0\.id: .*64-bit integer"),
        (b'{"title": 5}', 422, "invalid_request", "title: Input should be a valid string"),
        (b'{"title": "x", "top": 0}', 422, "invalid_request", "top: .*greater than or equal to 1"),
        (b'{"title": "x", "top": true}', 422, "invalid_request", "top: .*valid integer"),
        (b'{"title": "x", "top": "3"}', 422, "invalid_request", "top: .*valid integer"),
        (b'{"title": "x", "similar": false}', 422, "invalid_request", "similar: .*valid integer"),
        (b'{"title": "x", "explain": 1}', 422, "invalid_request", "explain: .*valid boolean"),
        (b'{"title": "x", "threshold": true}', 422, "invalid_request", "threshold: .*valid number"),
        (b'{"title": "x", "threshold": 2}', 422, "invalid_request", "threshold: .*equal to 1"),
        (b'{"title": "x", "threshold": NaN}', 422, "invalid_request", "finite number"),
        (b'{"text": "x", "title": "y"}', 422, "invalid_request", "send one or the other"),
        (b'{"papers": []}', 422, "invalid_request", "papers: List should have at least 1"),
        (b'{"papers": [{"title": "x"}], "id": "1"}', 422, "invalid_request", "beside papers"),
        (b'{"title": "x", "author_category": "cs.XX"}', 422, "unknown_category", "nearest are"),
    ],
)
def test_a_wrong_body_is_a_problem(
    client: httpx.Client, body: bytes, status: int, kind: str, detail: str
) -> None:
    response = client.post("/v1/classify", content=body, headers=JSON)
    document = problem(response)
    assert (response.status_code, document["kind"]) == (status, kind)
    assert re.search(detail, document["detail"]), document["detail"]


def test_errors_name_the_fields_and_never_repeat_the_text(client: httpx.Client) -> None:
    body = {"papers": [{"title": "secret words", "top": 3}, {"abstract": ["secret words"]}]}
    document = problem(client.post("/v1/classify", json=body))
    fields = [error["field"] for error in document["errors"]]
    assert fields == ["papers.0.top", "papers.1.abstract"]
    assert "secret" not in json.dumps(document)


def test_another_content_type_is_415(client: httpx.Client) -> None:
    response = client.post("/v1/classify", content=b"{}", headers={"content-type": "text/plain"})
    assert problem(response)["kind"] == "unsupported_media_type"
    assert "'text/plain'. Send application/json" in response.json()["detail"]


def test_unknown_addresses_and_methods_are_problems(client: httpx.Client) -> None:
    assert problem(client.get("/v1/nothing"))["kind"] == "not_found"
    response = client.get("/v1/classify")
    assert problem(response)["kind"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


@pytest.mark.slow  # starts a service of its own
def test_sizes_beyond_the_limits_are_413(start: Any) -> None:
    options = ("--max-body-bytes", "2000", "--max-text-chars", "100", "--max-papers", "2")
    with start("--workers", "1", *options) as server, server.client() as client:
        chunks = (b" " * 1000 for _ in range(5))
        for response, kind in (
            (client.post("/v1/classify", content=b" " * 2001, headers=JSON), "body_too_large"),
            (client.post("/v1/classify", content=chunks, headers=JSON), "body_too_large"),
            (client.post("/v1/classify", json={"title": "x" * 101}), "text_too_long"),
            (client.post("/v1/classify", json={"papers": [PAPER] * 3}), "too_many_papers"),
        ):
            assert (response.status_code, problem(response)["kind"]) == (413, kind)
        batch = client.post("/v1/classify", json={"papers": [PAPER, {"title": "x" * 101}]}).json()
        assert batch["answers"][1]["error"]["kind"] == "text_too_long"


def test_a_request_id_that_is_not_plain_is_replaced(client: httpx.Client) -> None:
    for given in ("spaces in it", "x" * 129, '"quoted"'):
        headers = client.get("/healthz", headers={"X-Request-ID": given}).headers
        assert len(headers["x-request-id"]) == 24


def test_a_deadline_that_has_passed_is_504(client: httpx.Client) -> None:
    papers = [{"abstract": f"{i} word " * 400} for i in range(900)]
    response = client.post(
        "/v1/classify", json={"papers": papers}, headers={"X-Classmark-Deadline-Ms": "1"}
    )
    assert response.status_code == 504
    assert problem(response)["kind"] == "deadline_exceeded"
    assert "within 1 ms" in response.json()["detail"]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "1000000000"])
def test_a_deadline_that_is_no_time_is_refused(client: httpx.Client, value: str) -> None:
    headers = {"X-Classmark-Deadline-Ms": value}
    refused = problem(client.post("/v1/classify", json=PAPER, headers=headers))
    assert refused["status"] == 400
    assert f"number of milliseconds from 1 to 999,999,999, got '{value}'" in refused["detail"]


@pytest.mark.parametrize(
    "authors",
    ["Sieve, Ada; Graph, Bo", ["Ada Sieve", {"name": "Bo Graph", "orcid": "0"}], [], None],
)
def test_authors_are_taken_with_one_paper_and_with_many(
    client: httpx.Client, authors: object
) -> None:
    paper = {**PAPER, "authors": authors}
    answer = client.post("/v1/classify", json=paper).json()
    assert answer["ranked"] == client.post("/v1/classify", json=PAPER).json()["ranked"]
    batch = client.post("/v1/classify", json={"papers": [paper]}).json()
    assert batch["answers"][0]["ranked"] == answer["ranked"]


@pytest.mark.parametrize("authors", [5, [5], [["Sieve", "Ada"]], [{"orcid": "0"}], {"name": "A"}])
def test_authors_that_are_no_names_are_refused_by_field(
    client: httpx.Client, authors: object
) -> None:
    reply = client.post("/v1/classify", json={**PAPER, "authors": authors})
    assert problem(reply)["status"] == 422
    assert "authors" in reply.text


def test_the_authors_category_is_confirmed_or_challenged(client: httpx.Client) -> None:
    paper = {"title": "Dualities of branes", "abstract": "We study branes in string theory. " * 5}
    for author, verdict in (("hep-th", "confirmed"), ("cs.CL", "challenged")):
        answer = client.post("/v1/classify", json={**paper, "author_category": author}).json()
        assert answer["author_category"]["code"] == author
        assert answer["author_category"]["verdict"] == verdict
        assert len(answer["ranked"]) == 5
    assert answer["author_category"]["rank"] > 1


@pytest.mark.parametrize(
    ("author", "verdict"), [("astro-ph", "confirmed"), ("Physics", "challenged")]
)
def test_a_whole_archive_of_the_author_is_judged_by_its_probability(
    client: httpx.Client, author: str, verdict: str
) -> None:
    abstract = (
        "We measure the star formation rate of dwarf galaxies with archival photometry. Their "
        "stellar mass follows from the spectral energy distribution, the gas mass from the line of "
        "neutral hydrogen, and both together say how long their star formation can go on."
    )
    paper = {"title": "Star formation in dwarf galaxies", "abstract": abstract}
    answer = client.post("/v1/classify", json={**paper, "author_category": author}).json()
    seen = answer["author_category"]
    assert (seen["code"], seen["verdict"]) == (author.lower(), verdict)
    sums = {level["code"]: level["probability"] for level in answer["levels"]["archive"]}
    assert seen["probability"] == pytest.approx(sums[author.lower()])
    assert seen["rank"] == 1 + list(sums).index(author.lower())


def test_a_plausible_category_of_the_author_is_in_the_set(client: httpx.Client) -> None:
    paper = {"title": PAPER["title"], "abstract": "We colour sparse graphs. " * 8}
    answer = client.post("/v1/classify", json={**paper, "threshold": 0}).json()
    second = answer["set"][1]
    answer = client.post("/v1/classify", json={**paper, "author_category": second}).json()
    assert answer["author_category"]["verdict"] == "plausible"
    assert answer["author_category"]["rank"] == 2


def test_an_answer_without_a_set_challenges_no_author(client: httpx.Client) -> None:
    answer = client.post("/v1/classify", json={**PAPER, "author_category": "hep-ex"}).json()
    assert (answer["set"], answer["set_reason"]) == (None, "few_known_terms")
    assert answer["author_category"]["verdict"] == "plausible"
    assert answer["author_category"]["rank"] > 5


def test_a_repeated_idempotency_key_gives_the_same_prediction(client: httpx.Client) -> None:
    def prediction_ids(key: str, body: Any) -> list[str]:
        answer = client.post("/v1/classify", json=body, headers={"Idempotency-Key": key}).json()
        return [a["prediction_id"] for a in answer.get("answers", [answer])]

    assert prediction_ids("a", PAPER) == prediction_ids("a", PAPER)
    assert prediction_ids("a", PAPER) != prediction_ids("b", PAPER)
    first, second = prediction_ids("a", {"papers": [PAPER, PAPER]})
    assert first != second
    assert [first, second] == prediction_ids("a", {"papers": [PAPER, PAPER]})


def test_no_endpoint_lets_another_origin_in(client: httpx.Client) -> None:
    response = client.get("/v1/categories", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"


def test_head_is_answered_like_get_without_a_body(client: httpx.Client) -> None:
    head = client.head("/healthz")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63) + 1])
def test_a_number_may_be_an_id(client: httpx.Client, number: int) -> None:
    response = client.post("/v1/classify", json={**PAPER, "id": number})
    assert response.json()["id"] == str(number)


@pytest.mark.parametrize("digits", ["9" * 19, "1" * 4000, "-" + "1" * 4000])
@pytest.mark.parametrize(
    "form", ['{"title": "x", "id": %s}', '{"papers": [{"title": "x", "id": %s}]}']
)
def test_an_id_of_too_many_digits_is_422(client: httpx.Client, form: str, digits: str) -> None:
    response = client.post("/v1/classify", content=form % digits, headers=JSON)
    assert problem(response)["kind"] == "invalid_request"
    assert response.status_code == 422
    assert len(response.content) < 1000


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_is_bounded(client: httpx.Client, key: str) -> None:
    response = client.post("/v1/classify", json=PAPER, headers={"Idempotency-Key": key})
    assert problem(response)["kind"] == "bad_request"
    assert f"Idempotency-Key must have 1 to 255 characters, got {len(key)}" in response.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", b'{"title": "x", "\\ud800": 1}'),
        ("/v1/classify", b'{"papers": [{"title": "x"}, {"title": "x", "\\ud800": 1}]}'),
        ("/v1/feedback", b'{"\\ud800": 1}'),
        ("/v2/models/fast/infer", b'{"inputs": [], "\\ud800": 1}'),
        ("/v2/models/fast/infer", b'{"inputs": [{"\\udfff": [1]}]}'),
    ],
)
def test_half_a_surrogate_in_a_key_is_malformed(
    client: httpx.Client, path: str, body: bytes
) -> None:
    response = client.post(path, content=body, headers=JSON)
    assert problem(response)["kind"] == "malformed_json"


def test_half_a_surrogate_in_a_key_of_a_file_costs_its_record(client: httpx.Client) -> None:
    lines = b'{"\\ud800": 1}\n{"\\ud800": 1, "title": "Graph colouring"}\n'
    response = client.post("/v1/files", files={"file": ("papers.jsonl", lines)})
    assert response.status_code == 200
    bad, good = response.json()["answers"]
    assert bad["error"]["kind"] == "missing_field"
    assert good["ranked"]


def test_a_text_too_long_to_be_parsed_costs_its_record(client: httpx.Client) -> None:
    papers = [{"id": "1", **PAPER}, {"id": "2", "title": "x" * 2_000_000}, {"id": "3", **PAPER}]
    answers = client.post("/v1/classify", json={"papers": papers}).json()["answers"]
    assert [answer["id"] for answer in answers] == ["1", None, "3"]
    assert answers[1]["error"]["kind"] == "text_too_long"


def test_papers_are_there_once(client: httpx.Client) -> None:
    body = b'{"papers": [{"title": "x"}], "papers": [%s]}' % b", ".join([b'{"title": "y"}'] * 500)
    response = client.post("/v1/classify", content=body, headers=JSON)
    assert problem(response)["detail"].startswith("papers: occurs twice")


def test_a_long_query_and_its_parameters_are_not_looked_at(client: httpx.Client) -> None:
    assert client.get("/v1/categories?" + "a&" * 10_000).status_code == 200
