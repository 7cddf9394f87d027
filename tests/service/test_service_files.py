"""``POST /v1/files``: every format of papers, and forms that are none."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from classmark import Classifier
from classmark.bundle import find_bundle, load_bundle, write_bundle

CSV = b"id,title,abstract\n1,Graph colouring,We colour sparse graphs.\n2,Branes,\n3,,\n"
ATOM = (
    b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>1</id><title>Graph colouring</title>'
    b"<summary>We colour sparse graphs.</summary></entry></feed>"
)
LINE = {"id": "1", "title": "Graph colouring", "abstract": "We colour sparse graphs."}
BIBTEX = b"@article{1, title={Graph colouring}, abstract={We colour sparse graphs.}}"


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("papers.csv", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("papers.csv", CSV, "csv"),
        ("papers.tsv", CSV.replace(b",", b"\t"), "tsv"),
        ("papers.csv.gz", gzip.compress(CSV, mtime=0), "csv"),
        ("papers.csv.bz2", bz2.compress(CSV), "csv"),
        ("papers.csv.xz", lzma.compress(CSV), "csv"),
        ("papers.zip", zipped(CSV), "csv"),
        ("papers.xml", ATOM, "xml"),
        ("papers.xml.gz", gzip.compress(ATOM, mtime=0), "xml"),
        ("papers.jsonl", json.dumps(LINE).encode() + b"\n", "jsonl"),
        ("papers.json", json.dumps([LINE], indent=1).encode(), "json"),
        ("papers.bib", BIBTEX, "bibtex"),
        ("paper.txt", b"Graph colouring\nWe colour sparse graphs.", "text"),
    ],
)
def test_the_papers_of_a_file_are_answered_in_order(
    client: httpx.Client, name: str, content: bytes, format: str
) -> None:
    answer = client.post("/v1/files", files={"file": (name, content)}, data={"top": "2"}).json()
    assert answer["format"] == format
    beside = ("prediction_id", "id", "title")
    first = {k: v for k, v in answer["answers"][0].items() if k not in beside}
    wanted = Classifier().classify(LINE, top=2).to_dict()
    del wanted["id"]
    assert first == wanted
    assert answer["answers"][0]["title"] == "Graph colouring"
    if format in ("csv", "tsv"):
        assert [a["id"] for a in answer["answers"]] == ["1", "2", "3"]
        assert "error" in answer["answers"][2]


def test_a_workbook_is_read(client: httpx.Client) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs classmark[xlsx]")
    book = openpyxl.Workbook()
    book.active.append(["Title", "Abstract Note"])
    book.active.append([LINE["title"], LINE["abstract"]])
    book.active.append([None, " "])
    buffer = io.BytesIO()
    book.save(buffer)
    response = client.post("/v1/files", files={"file": ("a.xlsx", buffer.getvalue())}).json()
    assert response["format"] == "xlsx"
    answer, error = response["answers"]
    assert answer["ranked"] == Classifier().classify(LINE).to_dict()["ranked"]
    assert error["error"]["message"] == "row 3: title and abstract are empty"


def test_the_other_fields_of_the_form_are_options(client: httpx.Client) -> None:
    data = {"top": "1", "threshold": "1", "explain": "true"}
    answer = client.post("/v1/files", files={"file": ("a.bib", BIBTEX)}, data=data).json()
    (only,) = answer["answers"]
    assert (len(only["ranked"]), only["primary"]) == (1, None)
    assert only["explanation_method"] == "exact_linear"


OWN = "Nr;Überschrift;Zusammenfassung\n7;Graph colouring;We colour sparse graphs.\n".encode()
LARGE = OWN + b"8;Graph;" + b"x " * 40_000 + b"\n"
"""Too large for a thread: a process reads it."""


@pytest.mark.slow
@pytest.mark.parametrize("content", [OWN, LARGE, gzip.compress(OWN, mtime=0)])
@pytest.mark.parametrize(
    "columns",
    [
        "id=Nr,title=Überschrift, abstract=zusammenfassung",
        json.dumps({"id": "Nr", "title": "Überschrift", "abstract": "Zusammenfassung"}),
    ],
)
def test_columns_of_other_names_are_a_field_of_the_form(
    client: httpx.Client, content: bytes, columns: str
) -> None:
    files = {"file": ("neu", content)}  # nothing but the columns tells that it is a table
    answer = client.post("/v1/files", files=files, data={"columns": columns, "top": "1"}).json()
    first = answer["answers"][0]
    assert (answer["format"], first["id"], first["title"]) == ("csv", "7", "Graph colouring")
    wanted = Classifier().classify(LINE, top=1)
    assert (first["primary"], first["probability"]) == (wanted.primary, wanted.probability)


@pytest.mark.parametrize("content", [OWN, LARGE])
@pytest.mark.parametrize(
    ("columns", "detail"),
    [
        ("", "has no column 'title' or 'abstract'; columns seen: Nr, Überschrift, Zusammenf"),
        ("title=Titel", "has no column 'Titel' for title; columns seen: Nr, Überschrift, Zus"),
    ],
)
def test_unknown_columns_are_told_to_people_and_programs(
    client: httpx.Client, content: bytes, columns: str, detail: str
) -> None:
    files = {"file": ("neu.csv", content)}
    response = client.post("/v1/files", files=files, data={"columns": columns})
    problem = response.json()
    assert (response.status_code, problem["kind"]) == (422, "wrong_columns")
    assert problem["columns_seen"] == ["Nr", "Überschrift", "Zusammenfassung"]
    assert problem["detail"].startswith(f"the file {detail}")
    assert problem["detail"].endswith("Name yours in the form field columns: title=…,abstract=…")


@pytest.mark.parametrize("more", [b"", b'{"title": "' + b"x " * 40_000 + b'"}\n'])
def test_unknown_keys_of_a_record_are_told_to_people_and_programs(
    client: httpx.Client, more: bytes
) -> None:
    content = b'{"Titel": "Graph", "Nr": 7}\n' + more
    answers = client.post("/v1/files", files={"file": content}).json()["answers"]
    error = answers[0]["error"]
    assert (error["kind"], error["columns_seen"]) == ("missing_field", ["Titel", "Nr"])
    assert "--" not in error["message"]
    assert error["message"].endswith("form field columns: title=…,abstract=…")


@pytest.mark.slow
def test_the_columns_of_the_model_are_read(start: Any, tmp_path: Path) -> None:
    columns = {"id": "Nr", "title": "Überschrift", "abstract": "Zusammenfassung"}
    bundle = load_bundle(find_bundle(None))
    manifest = replace(bundle.manifest, name="own", version="1.0", columns=columns)
    write_bundle(tmp_path / "own-1.0", manifest, bundle.arrays, {"CARD.md": "# Own\n"})
    own = tmp_path / "own-1.0"
    with start("--model", str(own), "--workers", "1") as server, server.client() as client:
        answers = [
            client.post("/v1/files", files={"file": ("neu", content)}).json()["answers"][0]
            for content in (OWN, LARGE, OWN.replace("Überschrift".encode(), b"title"))
        ]
        given = client.post("/v1/files", files={"file": OWN}, data={"columns": "title=Nr"})
    assert [(a["id"], a["title"]) for a in answers] == [("7", "Graph colouring")] * 3
    assert given.json()["answers"][0]["title"] == "7"


@pytest.mark.parametrize(
    ("request_options", "status", "detail"),
    [
        ({"json": {}}, 415, "Send multipart/form-data"),
        ({"files": {"other": b"x"}}, 422, "file: is missing"),
        ({"files": {"file": b"%PDF-1.7 x"}}, 422, "the file is a PDF file, not papers"),
        ({"files": {"file": b" "}}, 422, "the file is empty"),
        (
            {"files": {"file": ("a.gz", gzip.compress(CSV, mtime=0)[:20])}},
            422,
            "is damaged or cut short",
        ),
        (
            {"files": {"file": CSV}, "data": {"top": "0"}},
            422,
            "top: Input should be greater than or equal to 1",
        ),
        (
            {"files": {"file": CSV}, "data": {"threshold": "nan"}},
            422,
            "threshold: Input should be a finite number",
        ),
        (
            {"files": {"file": CSV}, "data": {"explain": "maybe"}},
            422,
            "explain: Input should be a valid boolean",
        ),
        (
            {"files": {"file": CSV}, "data": {"path": "/etc"}},
            422,
            "path: Extra inputs are not permitted",
        ),
        (
            {"files": {"file": CSV}, "data": {"columns": "titel"}},
            422,
            "columns: 'titel' is not FIELD=COLUMN. Write for example title=Headline,abstract=Text.",
        ),
        (
            {"files": {"file": CSV}, "data": {"columns": "titel=A"}},
            422,
            "columns: names the field 'titel', which papers do not have. Fields: id, title",
        ),
        ({"files": {"file": CSV}, "data": {"columns": '{"title": 1}'}}, 422, "columns: 'title' mu"),
        ({"files": [("other", CSV)] * 30}, 400, "the form has more than 20 parts"),
        ({"files": [("file", CSV)] * 2}, 422, "file: occurs twice"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "the form cannot be read",
        ),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            400,
            "the form cannot be read",
        ),
    ],
)
def test_what_is_no_file_of_papers_is_a_problem(
    client: httpx.Client, request_options: Any, status: int, detail: str
) -> None:
    response = client.post("/v1/files", **request_options)
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert detail in response.json()["detail"]


def test_a_file_of_too_many_papers_is_413(client: httpx.Client) -> None:
    content = gzip.compress(b"title,abstract\n" + b"a,b\n" * 200_000)
    response = client.post("/v1/files", files={"file": ("a.csv.gz", content)})
    assert (response.status_code, response.json()["kind"]) == (413, "too_many_papers")


LINE_ENDS = gzip.compress(b"\n" * (1 << 20)) * 256
"""256 MiB in a file of some 270 KB."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.csv.gz", b"title,abstract\n"),
        ("a.csv.gz", b'title,abstract\n"'),
        ("a.jsonl.gz", b"{}\n"),
    ],
)
def test_a_bomb_of_line_ends_ends_with_the_deadline(
    client: httpx.Client, name: str, start: bytes
) -> None:
    content = gzip.compress(start, mtime=0) + LINE_ENDS
    response = client.post(
        "/v1/files", files={"file": (name, content)}, headers={"X-Classmark-Deadline-Ms": "100"}
    )
    assert (response.status_code, response.json()["kind"]) == (504, "deadline_exceeded")
    # The next file is read as soon as the thread has noticed, too.
    assert client.post("/v1/files", files={"file": CSV}).status_code == 200


@pytest.mark.slow
def test_a_file_of_endless_bibtex_entries_is_refused_before_it_is_parsed(
    client: httpx.Client,
) -> None:
    content = gzip.compress(b"@a{" * (2 << 20))
    response = client.post("/v1/files", files={"file": ("a.bib.gz", content)})
    assert (response.status_code, response.json()["kind"]) == (413, "too_many_papers")


def test_what_is_compressed_twice_is_refused(client: httpx.Client) -> None:
    content = gzip.compress(gzip.compress(CSV), mtime=0)
    response = client.post("/v1/files", files={"file": ("a.csv.gz", content)})
    assert (response.status_code, response.json()["kind"]) == (422, "unreadable_source")
