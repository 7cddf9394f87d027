"""``classmark index`` and ``classmark similar``: real processes, real files."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classmark import Classifier, Index

LIBRARY = """@article{colour, title = {Colouring sparse graphs}, year = 2019,
  abstract = {We colour sparse graphs with few colours and bound their chromatic number.}}
@article{galaxies, title = {Dwarf galaxies}, year = 2021,
  abstract = {We measure the stellar mass of dwarf galaxies and their dark matter halos.}}
"""
TEXT = "We colour planar graphs and bound the chromatic number."


def run(*arguments: Any, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "classmark", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of papers and beside it an index of it."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "library.bib").write_text(LIBRARY)
    done = run("index", "build", folder / "library.bib", "--output", folder / "index")
    assert done.stdout == "2 added; the index has 2 papers.\n"
    return folder


@pytest.fixture
def own(library: Path, tmp_path: Path) -> Path:
    """Return an index that the test may change."""
    run("index", "build", library / "library.bib", "--output", tmp_path / "own")
    return tmp_path / "own"


def test_similar_papers_are_lines_for_people_with_the_titles_of_the_users_own_file(
    library: Path,
) -> None:
    [line] = run("similar", TEXT, "--index", library / "index").stdout.splitlines()
    similarity, name, year, *title = line.split()
    assert (name, year, title) == ("colour", "2019", ["Colouring", "sparse", "graphs"])
    assert 0.3 < float(similarity) <= 1


def test_json_lines_are_what_python_finds(library: Path) -> None:
    [line] = run("similar", TEXT, "--index", library / "index", "--jsonl").stdout.splitlines()
    classifier = Classifier()
    index = Index.open(library / "index", model=classifier.model)
    found = [paper.to_dict() for paper in index.similar(classifier.vectors(TEXT), 5)[0]]
    assert json.loads(line) == {"id": None, "similar": found}
    [whole] = json.loads(run("similar", TEXT, "--index", library / "index", "--json").stdout)
    assert whole == json.loads(line)


def test_every_paper_of_a_file_gets_its_own_and_a_bad_one_an_error(
    library: Path, tmp_path: Path
) -> None:
    papers = [{"id": "a", "abstract": TEXT}, {"id": "b"}, {"id": "c", "title": "Dwarf galaxies"}]
    file = tmp_path / "papers.jsonl"
    file.write_text("".join(json.dumps(paper) + "\n" for paper in papers))
    options = ("--index", library / "index", "--top", "1")
    done = run("similar", file, *options, "--jsonl", code=1)
    a, b, c = map(json.loads, done.stdout.splitlines())
    assert [a["similar"][0]["id"], c["similar"][0]["id"]] == ["colour", "galaxies"]
    assert b["error"]["kind"] == "missing_field"
    assert "1 of 3 records could not be read." in done.stderr
    lines = run("similar", file, *options, code=1).stdout.splitlines()
    assert [lines[0], lines[3]] == ["a", "c"]


def test_a_text_without_known_words_says_that_nothing_is_similar(library: Path) -> None:
    done = run("similar", "Qqqq zzzz xxxx.", "--index", library / "index")
    assert (
        done.stdout
        == "no similar paper. The text has nothing in common with the index that the model knows.\n"
    )


def test_papers_are_added_replaced_and_removed(own: Path, tmp_path: Path) -> None:
    with (tmp_path / "more.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "abstract", "category_code", "categories", "published_date"])
        rows.writerow(
            ["new", "Quarks", "We study quarks.", "hep-ph", "hep-ph nucl-th", "2020-02-03"]
        )
        rows.writerow(["colour", "Graphs", "We draw graphs.", "math.CO", "math.CO", "2018-01-01"])
    assert run("index", "add", own, tmp_path / "more.csv").stdout == (
        "1 added, 1 replaced; the index has 3 papers.\n"
    )
    index = Index.open(own)
    [row] = [i for i in range(3) if index.id_of(i) == "new"]
    assert index.categories_of(row) == ("hep-ph", "nucl-th")
    assert (int(index.years[row]), index.title_of(row)) == (2020, "Quarks")
    removed = json.loads(run("index", "remove", own, "new", "colour", "--json").stdout)
    assert removed == {"added": 0, "replaced": 0, "removed": 2, "papers": 1}
    done = run("index", "remove", own, "new", code=1)
    assert "no paper 'new'. Nothing was removed." in done.stderr


def test_papers_without_an_id_in_several_files_do_not_replace_each_other(tmp_path: Path) -> None:
    titles = {"a.csv": ("Sparse graphs", "Dwarf galaxies"), "b.csv": ("Quarks", "Lattices")}
    for name, (first, second) in titles.items():
        (tmp_path / name).write_text(f"id,title,abstract\n,{first},x\n,{second},x\nown,Own,x\n")
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(f"Galaxies\nWe measure galaxies, volume {name}.\n")
    files = [tmp_path / name for name in ("a.csv", "b.csv", "one.txt")]
    done = run("index", "build", *files, "--output", tmp_path / "index")
    assert done.stdout == "6 added, 1 replaced; the index has 6 papers.\n"
    done = run("index", "add", tmp_path / "index", tmp_path / "two.txt")
    assert done.stdout == "1 added; the index has 7 papers.\n"
    index = Index.open(tmp_path / "index")
    found = {index.id_of(row): index.title_of(row) for row in range(7)}
    lines = {f"{n}:{line}": t[line - 2] for n, t in titles.items() for line in (2, 3)}
    assert found == {**lines, "own": "Own", "one.txt": "Galaxies", "two.txt": "Galaxies"}


def test_papers_of_pages_in_several_files_do_not_replace_each_other(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    page = {
        "results": [{"title": "Sparse graphs"}, {"title": "Quarks"}, {"id": "2:9", "title": "Q"}]
    }
    for file in files:
        file.write_text(f"{json.dumps(page)}\n" * 2)
    done = run("index", "build", *files, "--output", tmp_path / "index")
    assert done.stdout == "9 added, 3 replaced; the index has 9 papers.\n"
    assert "year" not in run("index", "info", tmp_path / "index").stdout  # none has a date


def test_info_says_what_is_in_an_index(library: Path) -> None:
    facts = json.loads(run("index", "info", library / "index", "--json").stdout)
    assert facts["papers"] == 2
    assert (facts["first_year"], facts["last_year"]) == (2019, 2021)
    assert facts["titles"] is True
    assert facts["model"]["name"] == "fast"
    said = run("index", "info", library / "index").stdout
    assert re.search(r"^first year +2019$", said, re.MULTILINE)
    lines = said.splitlines()
    assert lines[0].split() == ["papers", "2"]


def test_a_dataset_is_indexed_without_titles_and_with_its_categories(tmp_path: Path) -> None:
    run("dataset", "sample", "--papers", 300, "--output", tmp_path / "sample")
    run("index", "build", tmp_path / "sample", "--output", tmp_path / "index", "--bits", 4)
    index = Index.open(tmp_path / "index")
    assert len(index) == 300
    assert not index.manifest.has_titles
    assert index.manifest.bits == 4
    assert all(index.categories_of(row) for row in range(300))
    found = run("similar", TEXT, "--index", tmp_path / "index", "--top", 3).stdout
    assert found.count("math.CO") == 3
    clash = run("index", "build", tmp_path / "sample", "--output", tmp_path / "sample", code=1)
    assert "sample" in clash.stderr


def test_an_index_that_is_there_is_replaced_only_if_asked_for(own: Path, library: Path) -> None:
    again = ("index", "build", library / "library.bib", "--output", own)
    assert "error:" in run(*again, code=1).stderr
    run(*again, "--overwrite")


@pytest.mark.parametrize("output", [".", "..", "{}"])
def test_overwrite_replaces_no_folder_of_other_things(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    (tmp_path / "here").mkdir()
    kept = tmp_path / "here" / "thesis.tex"
    kept.write_text("kept")
    monkeypatch.chdir(kept.parent)
    place = output.format(kept.parent)
    words = ("index", "build", library / "library.bib", "--output", place, "--overwrite")
    assert f"{place} holds other things: it has no index.json" in run(*words, code=1).stderr
    assert kept.read_text() == "kept"


def test_an_index_is_built_in_the_folder_one_is_in(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("index", "build", library / "library.bib", "--output", ".")
    assert len(Index.open(tmp_path / "here")) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_records_that_cannot_be_read_are_reported_and_the_others_indexed(tmp_path: Path) -> None:
    lines = [{"id": "a", "title": "Graphs"}, {"id": "b"}]
    (tmp_path / "papers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    build = ("index", "build", tmp_path / "papers.jsonl", "--output", tmp_path / "index")
    done = run(*build, code=1)
    assert "1 of 2 records could not be read." in done.stderr
    assert done.stdout == "1 added; the index has 1 paper.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("similar", TEXT, "--index", "{folder}"), 1, "is not an index"),
        (("similar", TEXT, "--index", "{index}", "--top", "0"), 2, "--top must be within 1..100"),
        (("similar", TEXT, "--index", "{index}", "--json", "--jsonl"), 2, "exclude each other"),
        (("index", "build", "nowhere.bib", "--output", "{folder}/new"), 1, "no file 'nowhere.bib'"),
        (("index", "build", "{folder}", "--output", "{folder}-new"), 1, "is not a dataset folder"),
        (("index", "build", "x.bib", "--output", "{folder}/n", "--bits", "3"), 2, "--bits must be"),
    ],
)
def test_what_cannot_work_says_why(
    library: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    named = [one.format(folder=library, index=library / "index") for one in arguments]
    done = run(*named, code=code)
    assert text in done.stderr


def test_an_index_of_a_model_that_is_not_installed_says_so(own: Path) -> None:
    manifest = json.loads((own / "index.json").read_text())
    manifest["model"]["version"] = "77.0"
    (own / "index.json").write_text(json.dumps(manifest))
    assert "fast@77.0" in run("similar", TEXT, "--index", own, code=1).stderr
    manifest["model"] = {**manifest["model"], "version": "1.1", "digest": "0" * 64}
    (own / "index.json").write_text(json.dumps(manifest))
    done = run("similar", TEXT, "--index", own, "--model", "fast", code=1)
    assert "build the index again" in done.stderr


@pytest.mark.slow  # several processes
def test_every_command_of_the_page_prints_what_it_shows() -> None:
    root = Path(__file__).parents[2]
    page = root / "docs" / "how-to" / "find-similar-papers.md"
    command = [sys.executable, str(root / "docs" / "tutorial_run.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
