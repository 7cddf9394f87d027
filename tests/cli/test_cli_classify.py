"""``classmark classify``: every input, every output, and calm in the face of bad ones."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import unmeasured_environment
from typer.testing import CliRunner, Result

from classmark.cli import progress as progress_module
from classmark.cli.app import app
from classmark.cli.classify import sources
from classmark.cli.output import spelled
from classmark.papers import FORMATS, RECIPE_VERSION

GRAPH_TEXT = "A graph paper\nWe colour a graph and its graph minor"
Make = Callable[..., Path]

# A process of its own, with the kernel for tests in place of the bundle's.
CHILD = """
import sys
sys.path.insert(0, {tests!r})
from conftest import WordScorer
from classmark.runtime import classifier
classifier.make_scorer = lambda bundle: WordScorer()
from classmark.__main__ import main
main()
"""


@pytest.fixture(autouse=True)
def model(make_bundle: Make, word_scorer: object) -> Path:
    """Install a default model that counts words."""
    return make_bundle("fast", "9.0", text_recipe=RECIPE_VERSION)


@pytest.fixture
def papers_csv(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    path.write_text(
        "id,title,abstract\n2401.00001,Learning,learning\n7,string,string graph\nx,other,words\n"
    )
    return path


@pytest.fixture
def bad_csv(tmp_path: Path) -> Path:
    path = tmp_path / "bad.csv"
    path.write_text("id,title,abstract\na,graph,graph\nb,,\nc,string,string\n")
    return path


def run(*arguments: str | Path, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["classify", *map(str, arguments)], input=stdin)


def test_a_text_is_answered_by_a_table() -> None:
    result = run(GRAPH_TEXT)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"math.CO  1.00  {'█' * 24}  Combinatorics"
    assert [line.split()[0] for line in lines[1:4]] == ["cs.LG", "hep-th", "stat.ML"]
    assert "90% set      none: too few words that the model knows" in lines
    assert "archives     math 1.00" in lines
    assert "model        fast 9.0" in lines


def test_a_long_text_has_its_set_in_the_table() -> None:
    assert "90% set      math.CO" in run("graph " * 40).stdout.splitlines()


def test_a_table_says_which_categories_are_rarely_right(
    make_bundle: Make, category_report: Callable[..., Any], tmp_path: Path
) -> None:
    measured = [category_report("math.CO", 4, 0), category_report("cs.LG", 4, 3)]
    make_bundle("fast", "9.2", text_recipe=RECIPE_VERSION, measured=measured)
    lines = run(GRAPH_TEXT).stdout.splitlines()
    assert lines[0].endswith("Combinatorics (rarely right)")
    assert lines[1].endswith("Machine Learning")
    path = tmp_path / "graph.csv"
    path.write_text("id,abstract\na,a graph and its graph minor\n")
    assert run(path).stdout.endswith("  Combinatorics (rarely right)\n")


def test_a_table_shows_cross_lists_and_explanation() -> None:
    result = run("graph string", "--explain", "--threshold", "0.3")
    assert "cross-lists  math.CO" in result.stdout
    assert "why hep-th and not math.CO (log-odds, exact_linear):" in result.stdout
    assert "    -3.00  graph\n    +3.00  string\n    +0.25  (bias)\n" in result.stdout


def test_a_file_gives_one_aligned_line_a_paper(papers_csv: Path) -> None:
    result = run(papers_csv)
    assert result.exit_code == 0
    assert result.stdout == (
        "2401.00001  cs.LG    1.00  Machine Learning\n"
        "7           hep-th   0.96  High Energy Physics - Theory\n"
        "x           abstain  0.35  below threshold 0.50 for cs.LG\n"
    )


def test_several_explained_papers_are_tables_with_their_ids(papers_csv: Path) -> None:
    blocks = run(papers_csv, "--explain").stdout.split("\n\n")
    assert [b.splitlines()[0] for b in blocks if b[0] in "27x"] == ["2401.00001", "7", "x"]
    assert "abstain: below threshold 0.50 for cs.LG" in run(papers_csv, "--explain").stdout


def test_an_out_of_scope_text_says_so(make_bundle: Make, manifest: Callable[..., Any]) -> None:
    from dataclasses import replace

    strict = replace(manifest().policy, scope_weights=(0.0, 1.0, 0.0), scope_threshold=0.1)
    make_bundle("fast", "9.1", text_recipe=RECIPE_VERSION, policy=strict)
    shown = run("a recipe of pancakes").stdout
    assert "abstain: out of scope: not like the papers" in shown
    assert "90% set      none: out of scope" in shown


def test_a_threshold_of_the_caller_is_the_one_that_is_named(papers_csv: Path) -> None:
    assert "below threshold 0.99 for hep-th" in run(papers_csv, "--threshold", "0.99").stdout


def test_json_lines_are_the_published_objects(papers_csv: Path) -> None:
    answers = [
        json.loads(line) for line in run(papers_csv, "--jsonl", "--top", "2").stdout.splitlines()
    ]
    assert [a["id"] for a in answers] == ["2401.00001", "7", "x"]
    assert [a["primary"] for a in answers] == ["cs.LG", "hep-th", None]
    assert all(len(a["ranked"]) == 2 for a in answers)
    assert set(answers[0]) == {
        "id", "primary", "reason", "probability", "ranked", "cross_lists", "set", "set_reason",
        "levels", "evidence", "model",
    }  # fmt: skip
    assert (answers[0]["set"], answers[0]["set_reason"]) == (None, "few_known_terms")
    assert [ranked["reliability"] for ranked in answers[0]["ranked"]] == [None, None]


def test_json_is_one_array_or_one_object_for_a_text(papers_csv: Path, tmp_path: Path) -> None:
    answers = json.loads(run(papers_csv, "--json").stdout)
    assert [a["id"] for a in answers] == ["2401.00001", "7", "x"]
    assert json.loads(run(GRAPH_TEXT, "--json").stdout)["primary"] == "math.CO"
    explained = json.loads(run(GRAPH_TEXT, "--json", "--explain").stdout)
    assert explained["explanation"][0]["term"] == "graph"


def test_json_of_no_records_is_an_empty_array(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text("id,title,abstract\n")
    assert run(path, "--json").stdout == "[]\n"
    assert run(path, "--jsonl").stdout == ""


def test_csv_has_a_column_for_each_rank(papers_csv: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(papers_csv, "--csv", "--top", "2").stdout)))
    assert list(rows[0]) == [
        *("id", "title", "primary", "name", "reason", "probability", "set", "cross_lists"),
        *("top1", "top1_name", "top1_probability", "top2", "top2_name", "top2_probability"),
    ]
    answer = json.loads(run(papers_csv, "--jsonl").stdout.splitlines()[1])
    first, second = answer["ranked"][:2]
    assert list(rows[1].values()) == [
        *("7", "string", "hep-th", first["name"], "accepted", f"{first['probability']:.6f}"),
        *("; ".join(answer["set"] or []), "; ".join(answer["cross_lists"])),
        *(first["code"], first["name"], f"{first['probability']:.6f}"),
        *(second["code"], second["name"], f"{second['probability']:.6f}"),
    ]
    assert (rows[2]["primary"], rows[2]["name"]) == ("", "")
    assert (rows[2]["title"], rows[2]["reason"]) == ("other", "below_threshold")


def test_the_title_of_a_row_is_one_line_and_runs_in_no_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    titles = ["=1+1\n graph", "graph " * 300]
    path.write_text("".join(json.dumps({"title": title}) + "\n" for title in titles))
    short, long = csv.DictReader(io.StringIO(run(path, "--csv").stdout))
    assert short["title"] == "'=1+1 graph"
    assert (len(long["title"]), long["title"][-1]) == (1000, "…")


def test_csv_in_a_file_begins_with_the_mark_that_excel_needs(
    papers_csv: Path, tmp_path: Path
) -> None:
    shown = run(papers_csv, "--csv").stdout
    assert not shown.startswith("\ufeff")
    for options, content in (([], f"\ufeff{shown}"), (["--raw-cells"], shown)):
        assert run(papers_csv, "--output", tmp_path / "new" / "o.csv", *options).exit_code == 0
        assert (tmp_path / "new" / "o.csv").read_text("utf-8") == content
    again = run(tmp_path / "new" / "o.csv", "--jsonl", "--columns", "abstract=top1").stdout
    assert json.loads(again.splitlines()[0])["id"] == "2401.00001"


def test_csv_for_people_runs_in_no_spreadsheet(tmp_path: Path) -> None:
    lines = [{"id": id, "abstract": "graph graph"} for id in ("=1+1", "-2", "a=1")]
    papers = tmp_path / "papers.jsonl"
    papers.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for options, ids in (
        (["--csv"], ["'=1+1", "'-2", "a=1"]),
        (["--csv", "--raw-cells"], ["=1+1", "-2", "a=1"]),
    ):
        shown = run(papers, *options).stdout
        assert [row["id"] for row in csv.DictReader(io.StringIO(shown))] == ids


def test_raw_cells_without_csv_are_a_usage_error(papers_csv: Path) -> None:
    result = run(papers_csv, "--raw-cells")
    assert result.exit_code == 2
    assert "--raw-cells is for CSV only. Use --csv with it." in result.stderr


def test_csv_has_no_more_ranks_than_labels(papers_csv: Path) -> None:
    header = run(papers_csv, "--csv", "--top", "99").stdout.splitlines()[0]
    assert header.endswith("top4,top4_name,top4_probability")


def test_standard_input_is_read_without_arguments_or_with_a_dash(papers_csv: Path) -> None:
    expected = run(papers_csv).stdout
    assert run(stdin=papers_csv.read_bytes()).stdout == expected
    assert run("-", stdin=papers_csv.read_bytes()).stdout == expected


def test_a_text_on_standard_input_is_answered_as_an_argument_is() -> None:
    assert run("-", stdin=GRAPH_TEXT).stdout == run(GRAPH_TEXT).stdout
    assert run("-", stdin='{"title": "graph", "abstract": "graph"}\n').stdout == (
        "1  math.CO  0.99  Combinatorics\n"
    )
    assert run("-", stdin="id,title,abstract\n").stdout == ""


def test_at_a_terminal_without_arguments_the_usage_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "read_arguments", lambda _: [])
    result = run()
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert result.stdout == ""


def test_texts_and_files_may_be_mixed_and_keep_their_order(papers_csv: Path) -> None:
    lines = run("graph graph", papers_csv, "string", "--jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [None, "2401.00001", "7", "x", None]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_is_read(
    papers_csv: Path, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    packed = tmp_path / "papers.csv.packed"
    packed.write_bytes(pack(papers_csv.read_bytes()))
    assert run(packed).stdout == run(papers_csv).stdout


def test_xml_gives_an_answer_or_an_error_for_each_record(tmp_path: Path) -> None:
    path = tmp_path / "harvest"
    path.write_text(
        '<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/"><ListRecords>\n<record><header>'
        "<identifier>oai:arXiv.org:2401.00001</identifier></header><metadata>"
        '<arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>2401.00001</id><title>graph graph</title>'
        '</arXiv></metadata></record>\n<record><header status="deleted"><identifier>oai:arXiv.org:'
        "2401.00002</identifier></header></record></ListRecords></OAI-PMH>"
    )
    result = run(path, "--jsonl")
    answer, error = map(json.loads, result.stdout.splitlines())
    assert (answer["id"], answer["primary"]) == ("2401.00001", "math.CO")
    assert (error["id"], error["error"]["kind"]) == ("2401.00002", "deleted")
    assert result.exit_code == 1
    assert error["error"]["message"].startswith("line 3: the record has been deleted")


def test_columns_and_format_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "tabelle.txt"
    path.write_text("Titel;Inhalt\ngraph;graph\n")
    result = run(path, "--columns", "title=Titel, abstract=Inhalt", "--format", "csv", "--jsonl")
    assert json.loads(result.stdout)["primary"] == "math.CO"


def test_the_columns_of_the_model_are_read(make_bundle: Make, tmp_path: Path) -> None:
    own = make_bundle("own", text_recipe=RECIPE_VERSION, columns={"title": "Titel", "id": "Nr"})
    path = tmp_path / "neu.csv"
    path.write_text("Nr;Titel;title\nseven;graph;string\n")
    (answer,) = run(path, "--model", own, "--jsonl").stdout.splitlines()
    assert (json.loads(answer)["id"], json.loads(answer)["primary"]) == ("seven", "math.CO")
    given = run(path, "--model", own, "--jsonl", "--columns", "title=title").stdout
    assert (json.loads(given)["id"], json.loads(given)["primary"]) == ("seven", "hep-th")
    path.write_text("Nummer;Name\nseven;graph\n")
    result = run(path, "--model", own)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {path} has no column 'Titel', 'abstract' or 'title'; columns seen: Nummer, Name. "
        "Name yours with --columns title=…,abstract=…\n"
    )


def test_a_record_of_unknown_keys_is_told_of_the_option(tmp_path: Path) -> None:
    path = tmp_path / "neu.jsonl"
    path.write_text('{"Titel": "graph"}\n')
    result = run(path)
    assert "keys seen: Titel. Name yours with --columns title=…,abstract=…" in result.stderr
    assert run(path, "--columns", '{"title": "Titel"}').exit_code == 0


@pytest.mark.parametrize("columns", ["title", "=x", "title=", "title=a,,"])
def test_columns_that_are_no_mapping_are_a_usage_error(papers_csv: Path, columns: str) -> None:
    result = run(papers_csv, "--columns", columns)
    assert result.exit_code == 2
    assert "is not FIELD=COLUMN. Write for example --columns title=" in result.stderr


@pytest.mark.parametrize(
    ("argument", "is_file"),
    [
        ("papers.csv", True),
        ("My Papers.JSONL", True),
        ("refs.bib", True),
        ("refs.ris", True),
        ("Table.XLSX", True),
        ("dir/papers", True),
        ("the file refs.ris", True),
        ("the file refs.pdf", False),
        ("e.g.", False),
        ("Node.js", False),
        ("TCP/IP networks", False),
        ("graph", False),
        ("On files\nthat end in .csv", False),
        ("We study robots.", False),
        ("", False),
    ],
)
def test_what_is_a_file_and_what_is_text(argument: str, is_file: bool) -> None:
    assert sources.is_file_argument(argument) is is_file


def test_a_path_with_white_space_is_a_file_if_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "my papers"
    assert not sources.is_file_argument(str(path))
    path.write_text("graph graph")
    assert sources.is_file_argument(str(path))


def test_what_exists_as_a_file_is_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("graph").write_text("learning learning learning")
    Path("string").mkdir()
    assert run("graph", "--jsonl").stdout.count("cs.LG") > 0
    assert json.loads(run("string", "--jsonl").stdout)["ranked"][0]["code"] == "hep-th"


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_tags_of_a_publisher_are_not_among_the_terms(tmp_path: Path, is_wrapped: bool) -> None:
    abstract = "<jats:title>Abstract</jats:title><jats:p>We colour a graph.</jats:p>"
    record = {"DOI": "10.99999/1", "title": ["A graph"], "abstract": abstract}
    path = tmp_path / "crossref"
    path.write_text(json.dumps({"status": "ok", "message": record} if is_wrapped else record))
    (line,) = run(path, "--jsonl", "--explain").stdout.splitlines()
    answer = json.loads(line)
    assert answer["id"] == "10.99999/1"
    assert "graph" in [term["term"] for term in answer["explanation"]]
    assert "jats" not in line


def test_the_help_names_every_format() -> None:
    text = re.sub(r"[\s│]+", " ", run("--help").stdout)
    assert f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}; auto" in text


def test_a_missing_file_is_one_line_before_any_work(tmp_path: Path, papers_csv: Path) -> None:
    result = run(papers_csv, "nowhere.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: no file 'nowhere.csv'. Check the path; if it is a text")


def test_a_bad_record_is_one_line_and_the_run_goes_on(bad_csv: Path) -> None:
    result = run(bad_csv)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["a", "c"]
    first, second = result.stderr.splitlines()
    assert first.startswith(f"error: {bad_csv}, record b: ")
    assert second == "1 of 3 records could not be read."


def test_a_bad_line_without_an_id_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"title,abstract\ncaf\xe9,graph\n")
    assert run(path).stderr.startswith(f"error: {path}: line 2: is not UTF-8: byte 0xe9 at")


@pytest.mark.slow  # reason: a line of 100 MB is written and read
def test_a_line_of_100_mb_is_one_bad_record(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        file.write('{"abstract": "' + "word " * 20_000_000 + '"}\n{"abstract": "graph"}\n')
    result = run(path)
    assert result.exit_code == 1
    assert "math.CO" in result.stdout
    assert result.stderr == (
        f"error: {path}: line 1: 100,000,017 bytes, more than the limit of 33,554,432; skipped\n"
        "1 of 2 records could not be read.\n"
    )


@pytest.mark.parametrize("option", ["--jsonl", "--json"])
def test_a_bad_record_has_its_place_in_json(bad_csv: Path, option: str) -> None:
    result = run(bad_csv, option)
    text = result.stdout
    objects = json.loads(text) if option == "--json" else [json.loads(t) for t in text.splitlines()]
    assert result.exit_code == 1
    assert [o["id"] for o in objects] == ["a", "b", "c"]
    assert set(objects[1]) == {"id", "error"}
    assert result.stderr == "1 of 3 records could not be read.\n"


def test_strict_stops_at_the_first_bad_record(bad_csv: Path) -> None:
    result = run(bad_csv, "--strict", "--jsonl")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {bad_csv}, record b: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_empty_text_is_a_bad_record() -> None:
    result = run(" ")
    assert result.exit_code == 1
    assert "error: text: title and abstract are both empty" in result.stderr


def test_output_is_written_whole(papers_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "answers.jsonl"
    result = run(papers_csv, "--jsonl", "--output", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert output.read_text(encoding="utf-8") == run(papers_csv, "--jsonl").stdout


def test_a_failed_run_leaves_the_older_output(bad_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.csv"
    output.write_text("good")
    assert run(bad_csv, "--strict", "--csv", "--output", output).exit_code == 1
    assert output.read_text() == "good"
    assert {path.name for path in tmp_path.iterdir()} == {"answers.csv", "bad.csv", "home"}


def test_output_that_is_in_the_way_is_one_line(papers_csv: Path, tmp_path: Path) -> None:
    result = run(papers_csv, "--output", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: cannot write {tmp_path}: it is a folder.")


@pytest.mark.parametrize("layout", ["csv", "jsonl", "json"])
def test_the_ending_of_the_output_chooses_the_format(
    papers_csv: Path, tmp_path: Path, layout: str
) -> None:
    output = tmp_path / f"answers.{layout.upper()}"
    assert run(papers_csv, "--output", output).exit_code == 0
    assert output.read_text("utf-8-sig") == run(papers_csv, f"--{layout}").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["o.xlsx"],
            "--output o.xlsx: .xlsx cannot be written. Use .csv, .jsonl, .ndjson, .json o",
        ),
        (["o.txt"], "--output o.txt: .txt cannot be written"),
        (["o.csv.gz", "--csv"], "--output o.csv.gz: .gz cannot be written"),
        (["o.csv", "--jsonl"], "--jsonl is not the format of --output o.csv, which ends in .csv."),
        (["o.json", "--jsonl"], "--jsonl is not the format of --output o.json, which ends in .jso"),
    ],
)
def test_an_output_that_would_not_be_what_it_is_called_is_refused(
    papers_csv: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(papers_csv.parent)
    before = set(papers_csv.parent.iterdir())
    result = run(papers_csv, "--output", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert set(papers_csv.parent.iterdir()) == before


def test_a_dash_as_output_is_standard_output(
    papers_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(papers_csv.parent)
    assert run(papers_csv, "--csv", "--output", "-").stdout == run(papers_csv, "--csv").stdout
    assert not Path("-").exists()


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes")
def test_a_named_pipe_may_have_any_ending_and_gets_no_mark(
    papers_csv: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    reader = os.open(tmp_path / "pipe.txt", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run(papers_csv, "--csv", "--output", tmp_path / "pipe.txt").exit_code == 0
        assert os.read(reader, 1 << 16).decode() == run(papers_csv, "--csv").stdout
    finally:
        os.close(reader)


@pytest.mark.skipif(os.name == "nt", reason="there are no device files")
def test_output_to_a_device_does_not_replace_the_device(papers_csv: Path) -> None:
    assert run(papers_csv, "--output", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "0"], "error: --top must be at least 1, got 0."),
        (["--threshold", "1.5"], "error: --threshold must be within 0..1, got 1.5."),
        (["--json", "--csv"], "error: --json and --csv exclude each other. Choose one."),
        (["--csv", "--explain"], "error: --explain does not work with --csv."),
        (["--format", "word"], "error: unknown format 'word'."),
    ],
)
def test_options_that_cannot_work_are_usage_errors(
    papers_csv: Path, options: list[str], message: str
) -> None:
    result = run(papers_csv, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_model_names_those_there_are() -> None:
    result = run("graph", "--model", "slow")
    assert result.exit_code == 1
    assert "no model 'slow'" in result.stderr
    assert "there is fast@9.0" in result.stderr


def test_a_damaged_model_is_refused(model: Path) -> None:
    (model / "CARD.md").write_text("# Tina\n")
    result = run("graph")
    assert result.exit_code == 1
    assert "CARD.md has changed since the bundle was written" in result.stderr


def test_a_record_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.jsonl"
    lines = [
        {"id": "\x1b[2Jx", "title": "graph", "abstract": "graph"},
        {"id": "\x1by", "title": ""},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    result = run(path)
    assert "\x1b" not in result.stdout + result.stderr
    assert "�[2Jx" in result.stdout


def test_many_papers_keep_their_order_over_batches(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"id": "{i}", "abstract": "graph"}}\n' for i in range(1203)))
    lines = run(path, "--jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(i) for i in range(1203)]


def test_progress_counts_on_stderr_only_if_somebody_looks(
    papers_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(progress_module.sys, "stderr", stderr)
    with progress_module.progress_bar("classifying") as progress:
        progress.advance(3)
    assert stderr.getvalue() == ""
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress_module.progress_bar("classifying") as progress:
        progress.advance(3)
    assert "classifying 3 papers" in stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_a_bar_is_spelled_in_what_the_terminal_can_show() -> None:
    assert spelled("█", "utf-8") == "█"
    assert spelled("█", "ascii") == "#"


@contextmanager
def start_child(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    code = CHILD.format(tests=str(Path(__file__).parent.parent))
    # Unbuffered output would hide what a buffer does when its pipe is closed.
    environment = {k: v for k, v in unmeasured_environment().items() if k != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", code, "classify", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment,
    ) as child:  # fmt: skip
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pipes close differently there")
@pytest.mark.parametrize("n_papers", [1, 3000])
def test_a_closed_pipe_ends_the_run_quietly(tmp_path: Path, n_papers: int) -> None:
    path = tmp_path / "papers.jsonl"
    path.write_text('{"abstract": "graph"}\n' * n_papers)
    with start_child(str(path), "--jsonl") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        # One short answer stays in a buffer that the interpreter flushes when it exits.
        assert n_papers == 1 or child.stdout.readline().startswith(b'{"id"')
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=200) == 141


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send")
def test_control_c_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with start_child("-", "--jsonl", "--output", str(tmp_path / "out" / "answers.jsonl")) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        # More than a pipe holds: once it is written, the child is at work.
        child.stdin.write(b'{"abstract": "graph"}\n' * 20_000)
        child.stdin.flush()
        child.send_signal(signal.SIGINT)
        assert child.stderr.read() == b"interrupted: nothing is left half-written.\n"
        assert child.wait(timeout=200) == 130
    assert list((tmp_path / "out").iterdir()) == []


OWN = ("Learning, general", "Strings; branes", "組合せ論", "statistics")


@pytest.fixture
def own(make_bundle: Make) -> Path:
    """Return a model of own labels that counts words."""
    return make_bundle("own", "1.0", text_recipe=RECIPE_VERSION, labels=OWN, label_space="free")


def test_own_labels_stand_once_and_lists_of_them_are_parted_clearly(own: Path) -> None:
    lines = run("string", "--model", own, "--threshold", "0.1").stdout.splitlines()
    assert lines[0].startswith("Strings; branes")
    assert lines[0].count("Strings; branes") == 1
    both = run("learning string " * 20, "--model", own, "--threshold", "0").stdout
    assert "90% set      Learning, general; Strings; branes" in both
    assert "cross-lists  Strings; branes" in both


def test_a_file_of_own_labels_is_judged_in_json(own: Path, tmp_path: Path) -> None:
    papers = tmp_path / "papers.csv"
    labels = ("strings; BRANES", '"Learning, general"', "math.CO", "")
    text = "string " * 40  # of fewer words there is no prediction set, and nothing is ruled out
    rows = "".join(f"string,{text},{label}\n" for label in labels)
    papers.write_text(f"title,abstract,categories\n{rows}", encoding="utf-8")
    seen = run(papers, "--model", own, "--jsonl", "--top", "1", "--check-category").stdout
    answers = [json.loads(line) for line in seen.splitlines()]
    found = [answer.get("author_category", {}).get("verdict") for answer in answers]
    assert found == ["confirmed", "challenged", "unknown", None]
    assert answers[1]["author_category"]["code"] == "Learning, general"
    assert [len(answer["ranked"]) for answer in answers] == [1] * 4


def test_the_archive_that_a_record_comes_with_is_judged(tmp_path: Path) -> None:
    papers = tmp_path / "papers.jsonl"
    codes = ("math", "physics", "stat")
    lines = [{"title": "graph", "abstract": "graph " * 40, "category_code": code} for code in codes]
    papers.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    answers = json.loads(run(papers, "--json", "--check-category").stdout)
    assert [a["author_category"]["verdict"] for a in answers] == [
        *("confirmed", "challenged", "challenged")
    ]
    assert [a["author_category"]["rank"] for a in answers] == [1, None, 4]


@pytest.mark.parametrize("options", [(), ("--csv",), ("--output", "o.jsonl", "--workers", "1")])
def test_the_category_of_a_record_is_judged_in_json_by_one_process(
    papers_csv: Path, options: tuple[str, ...]
) -> None:
    result = run(papers_csv, "--check-category", *options)
    assert result.exit_code == 2
    assert "--check-category" in result.stderr
