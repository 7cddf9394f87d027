"""The kept corpus of hostile files and bodies, replayed: an answer or a reason for each.

What ever broke a reader or the service gets a small file in ``tests/corpus`` (CONTRIBUTING.md); its
name says what it is, the part before the first ``-`` of a file which reader it is for.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from classmark.errors import ClassmarkError
from classmark.papers import FORMATS, read_papers
from classmark.records import BadRecord, Paper

pytest.importorskip("pyarrow", reason="needs classmark[data]")

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted((CORPUS / "files").iterdir())
BODIES = sorted((CORPUS / "bodies").iterdir())
PACKINGS = {"gzip", "bzip2", "xz", "zip"}
MOST_BYTES = 20_000
GOOD = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}

EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
EACH_BODY = pytest.mark.parametrize("path", BODIES, ids=lambda path: path.name)


def check_answer(response: httpx.Response) -> None:
    """Check that an answer is one, or a refusal that says why and shows nothing of the machine."""
    assert response.status_code < 500, response.text[:300]
    assert "Traceback" not in response.text
    assert "root:" not in response.text
    if response.is_error:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"]


def test_the_corpus_has_small_files_for_every_reader_and_packing() -> None:
    assert {path.name.partition("-")[0] for path in FILES} == set(FORMATS) | PACKINGS
    assert len(BODIES) > 30
    assert not [path.name for path in (*FILES, *BODIES) if path.stat().st_size > MOST_BYTES]


@pytest.mark.timeout(120)  # a file must not keep a reader busy without end
@EACH_FILE
def test_a_file_of_the_corpus_gives_papers_errors_or_a_refusal(path: Path) -> None:
    records, refusal = [], None
    try:
        records += read_papers(path)
    except ClassmarkError as error:
        refusal = str(error)
    assert all(isinstance(record, Paper | BadRecord) for record in records)
    assert refusal is None or path.name in refusal


@pytest.mark.slow  # starts a service
@EACH_FILE
def test_a_file_of_the_corpus_leaves_the_service_answering(
    client: httpx.Client, path: Path
) -> None:
    check_answer(client.post("/v1/files", files={"file": (path.name, path.read_bytes())}))
    assert client.post("/v1/classify", json=GOOD).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/v1/classify", "/v1/feedback", "/v2/models/fast/infer"])
@EACH_BODY
def test_a_body_of_the_corpus_leaves_the_service_answering(
    client: httpx.Client, path: Path, route: str
) -> None:
    json = {"Content-Type": "application/json"}
    check_answer(client.post(route, content=path.read_bytes(), headers=json))
    assert client.post("/v1/classify", json=GOOD).status_code == 200
