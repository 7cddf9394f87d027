"""The table of formats: each row has an invented file, and each file is read as the row says."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from classmark.cli.app import app
from classmark.papers import FORMATS, detect_format, read_papers, read_stream
from classmark.records import Paper
from format_files import FormatFile, format_files

pytest.importorskip("pyarrow", reason="needs classmark[data]")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "classify-a-file.md"
PACKED = (".gz", ".bz2", ".xz", ".zip")
FILES = format_files()
EACH = pytest.mark.parametrize("file", FILES.values(), ids=FILES)


def rows() -> dict[str, str]:
    """Return the rows of the table: what ``--format`` is by the name of the format."""
    text = PAGE.read_text("utf-8").partition("| format | `--format` |")[2]
    lines = text.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3]] for line in lines]
    return {name: option.strip("`") for name, option in cells}


def test_each_row_has_a_file_and_each_file_a_row() -> None:
    assert list(rows()) == list(FILES)


def test_each_row_names_the_format_of_its_file_and_each_format_has_a_row() -> None:
    named = {name: option for name, option in rows().items() if option}
    unnamed = [FILES[name].name for name in FILES.keys() - named.keys()]
    assert all(name.endswith(PACKED) for name in unnamed)
    assert named == {name: FILES[name].format for name in named}
    assert set(named.values()) == set(FORMATS)


@EACH
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path: Path, file: FormatFile) -> None:
    named, nameless = tmp_path / file.name, tmp_path / "nameless"
    for path in (named, nameless):
        path.write_bytes(file.content)
        assert detect_format(path) == file.format
    records = list(read_papers(named))
    assert records == list(read_papers(nameless))
    assert records == list(read_papers(named, format=file.format))
    if not file.seeks:
        assert records == list(read_stream(io.BytesIO(file.content)))
    papers = [record for record in records if isinstance(record, Paper)]
    assert (len(papers), len(records) - len(papers)) == (file.answers, file.errors)
    assert all(paper.title for paper in papers)


@EACH
def test_a_file_is_classified_by_the_command_line(tmp_path: Path, file: FormatFile) -> None:
    path = tmp_path / file.name
    path.write_bytes(file.content)
    result = CliRunner().invoke(app, ["classify", str(path), "--jsonl"])
    assert result.exit_code == (1 if file.errors else 0)
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    errors = [document for document in documents if "error" in document]
    assert (len(documents) - len(errors), len(errors)) == (file.answers, file.errors)
    for error in errors:
        assert re.match(r"(line|item|row) \d+", error["error"]["message"])
