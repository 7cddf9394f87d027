"""Counts add up: each record of each format is an answer or an error, whichever way it comes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from classmark import Classifier
from classmark.cli.app import app
from classmark.dataset.build.intake import read_sources
from classmark.dataset.config import DatasetConfig
from classmark.papers import read_papers
from classmark.records import Paper
from format_files import FormatFile, format_files

pytest.importorskip("pyarrow", reason="needs classmark[data]")

Counts = tuple[int, int]
Way = Callable[[Path, httpx.Client], Counts]

FILES = format_files()


def counts_of(documents: list[dict[str, Any]]) -> Counts:
    """Return how many documents are answers, and how many are errors."""
    n_errors = sum("error" in document for document in documents)
    return len(documents) - n_errors, n_errors


def command(*arguments: str | Path, stdin: bytes = b"") -> Counts:
    result = CliRunner().invoke(app, ["classify", *map(str, arguments), "--jsonl"], input=stdin)
    counts = counts_of([json.loads(line) for line in result.stdout.splitlines()])
    assert result.exit_code == (1 if counts[1] else 0), result.stderr
    return counts


def by_file(path: Path, _: httpx.Client) -> Counts:
    return command(path)


def by_standard_input(path: Path, _: httpx.Client) -> Counts:
    return command("-", stdin=path.read_bytes())


def by_upload(path: Path, client: httpx.Client) -> Counts:
    response = client.post("/v1/files", files={"file": (path.name, path.read_bytes())})
    return counts_of(response.json()["answers"])


def by_dataset(path: Path, _: httpx.Client) -> Counts:
    intake = read_sources([path], path.with_name("scratch"), DatasetConfig())
    return len(intake.frame), sum(intake.bad_records.values())


def by_python(path: Path, _: httpx.Client) -> Counts:
    records = list(read_papers(path))
    papers = [record for record in records if isinstance(record, Paper)]
    return len(Classifier().classify(papers)), len(records) - len(papers)


WAYS: dict[str, Way] = {
    "command line": by_file,
    "standard input": by_standard_input,
    "/v1/files": by_upload,
    "dataset build": by_dataset,
    "Python": by_python,
}
CASES = {
    f"{name}, {label}": (file, way)
    for name, file in FILES.items()
    for label, way in WAYS.items()
    if not (file.seeks and way is by_standard_input)
}


@pytest.mark.slow  # more than a hundred files
@pytest.mark.parametrize(("file", "way"), CASES.values(), ids=CASES)
def test_each_record_is_an_answer_or_an_error(
    tmp_path: Path, client: httpx.Client, file: FormatFile, way: Way
) -> None:
    path = tmp_path / file.name
    path.write_bytes(file.content)
    assert way(path, client) == (file.answers, file.errors)


@pytest.mark.slow  # starts worker processes
def test_each_record_is_an_answer_or_an_error_with_workers(tmp_path: Path) -> None:
    paths = []
    for number, file in enumerate(FILES.values()):
        paths.append(tmp_path / str(number) / file.name)
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(file.content)
    output = tmp_path / "out.jsonl"
    arguments = ["classify", *map(str, paths), "--workers", "1", "--output", str(output)]
    CliRunner().invoke(app, arguments)
    documents = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    files = FILES.values()
    wanted = (sum(file.answers for file in files), sum(file.errors for file in files))
    assert counts_of(documents) == wanted
