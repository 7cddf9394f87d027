from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from classmark.errors import UnreadableSource
from classmark.papers import detect_format, read_papers, read_stream
from classmark.records import Paper

TAR = tarfile.TarInfo("papers.csv").tobuf() + b"title,abstract\nA,B\n" * 5000
"""So long that its NUL bytes are few."""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("title,abstract\nA,B\n", "csv"),
        ("id;title;summary\n1;A;B\n", "csv"),
        ("id|title|summary\n1|A|B\n", "csv"),
        ("\ufefftitle\tabstract\r\nA\tB\r\n", "tsv"),
        ('"id","Title","Abstract"\n1,A,B\n', "csv"),
        ('{"title": "A"}\n{"title": "B"}\n', "jsonl"),
        ('{"title": "A"}', "jsonl"),
        ('{"title": "A"\n{"title": "B"}\n', "jsonl"),
        ('{\n "title": "A"\n}', "json"),
        ('[{"title": "A"}]', "json"),
        ("[\n]", "json"),
        ("\n @article{a, title={A}}", "bibtex"),
        ("% comment\n@misc(a, title={A})", "bibtex"),
        ("A title\nAn abstract.", "text"),
        ("Title, and more\nBody.", "text"),
        ("Abstract\nWe study a title, abstractly.", "text"),
        ("[1] is a reference, {x} a set, @home a place.", "text"),
        ('"', "text"),
    ],
)
def test_the_content_decides_whatever_the_name(tmp_path: Path, content: str, format: str) -> None:
    assert detect_format(write(tmp_path / "paper", content)) == format
    assert detect_format(write(tmp_path / "paper.txt", content)) == format


@pytest.mark.parametrize(
    "content",
    [
        "title,abstract\nA,B\n",
        '{"title": "A", "abstract": "B"}\n',
        '[{"title": "A", "abstract": "B"}]',
        "@misc{1, title = {A}, abstract = {B}}\n",
        "TY  - JOUR\nTI  - A\nAB  - B\nID  - 1\nER  - \n",
        "<feed><entry><title>A</title><summary>B</summary></entry></feed>",
        "A\nB\n",
    ],
)
@pytest.mark.parametrize("n_marks", [1, 2, 3])
def test_marks_before_a_file_change_nothing(content: str, n_marks: int) -> None:
    (paper,) = read_stream(io.BytesIO(("\ufeff" * n_marks + content).encode()))
    assert isinstance(paper, Paper)
    assert (paper.title, paper.abstract) == ("A", "B")


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "tsv"),
        ("a.jsonl", "jsonl"),
        ("a.json", "json"),
        ("a.bib", "bibtex"),
        ("a.parquet", "parquet"),
        ("a.txt", "text"),
        ("a", "text"),
    ],
)
def test_the_name_helps_where_the_content_says_nothing(
    tmp_path: Path, name: str, format: str
) -> None:
    assert detect_format(write(tmp_path / name, "nothing that is known")) == format


def test_the_name_tells_json_lines_from_a_json_array(tmp_path: Path) -> None:
    assert detect_format(write(tmp_path / "a.jsonl", '["x"]\n')) == "jsonl"
    assert detect_format(write(tmp_path / "b.jsonl", '{"title":\n')) == "jsonl"


def test_mapped_columns_make_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "paper", "Titel;Text\nA;B\n")
    assert detect_format(path) == "text"
    assert detect_format(path, {"title": "Titel", "abstract": "text"}) == "csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty\. Give a file with papers"),
        (b" \n\t\n", r"is empty"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 x",
            r"is an Office file of the old kind \(\.xls, \.doc\)",
        ),
        (TAR, r"is a tar archive, which is not read\. Unpack it and give its files"),
        (b"Rar!\x1a\x07\x01", r"is a RAR archive, not papers"),
        (b"%PDF-1.4 x", r"is a PDF file, not papers\. Give its title and abstract as plain"),
        (b"\x89PNG\r\n\x1a\n", r"is an image, not papers"),
        (bytes(range(256)), r"is binary"),
        (
            b"<?xml version='1.0'?><x/>",
            r"is XML with the root <x> and without records that are read\. Give Atom, RSS",
        ),
        (b"\n <!DOCTYPE html>", r"is a web page \(HTML\), which is not read\. Give the title"),
    ],
)
def test_what_holds_no_papers_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "paper.csv", content)
    with pytest.raises(UnreadableSource, match=r"paper\.csv " + message):
        detect_format(path)


def test_text_is_one_paper(tmp_path: Path) -> None:
    path = write(tmp_path / "paper.txt", "\ufeffA title\n\nAn abstract,\nin two lines.\n")
    assert list(read_papers(path)) == [
        Paper(title="A title", abstract="An abstract,\nin two lines.")
    ]
    assert list(read_stream(io.BytesIO(b"An abstract."))) == [Paper(abstract="An abstract.")]


def test_empty_text_is_unreadable() -> None:
    with pytest.raises(UnreadableSource, match=r"standard input holds no text\. Give a title"):
        list(read_stream(io.BytesIO(b"  \n"), format="text"))


def test_text_in_latin_1_is_unreadable_with_the_remedy() -> None:
    with pytest.raises(
        UnreadableSource, match=r"not UTF-8: byte 0xe9 at 3\. Convert it, e\.g\. with"
    ):
        list(read_stream(io.BytesIO("café".encode("latin-1"))))


DETECT = """
import sys
import tarfile
from pathlib import Path
from classmark.papers import detect_format

print(detect_format(Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"%a\n" + b" %a\n" * 5000 + b"x", "text"),
        (b"%a\n" + b" " * 60_000 + b"x", "text"),
        (b"%a\n" + b" %a\n" * 5000 + b"@article{a,", "bibtex"),
    ],
)
def test_comments_are_passed_over_in_time_linear_in_their_length(
    tmp_path: Path, content: bytes, format: str
) -> None:
    # In a process of its own, since nothing else ends a pattern that is tried in 2**5000 ways.
    command = [sys.executable, "-c", DETECT, str(write(tmp_path / "paper", content))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == format
