from __future__ import annotations

import csv
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.dataset import command as cli
from classmark.cli.dataset import needs as dataset_needs
from classmark.cli.progress import progress_bar
from classmark.dataset import load_manifest, read_split
from classmark.errors import (
    ContractViolation,
    InvalidConfig,
    MissingExtra,
    UnreadableSource,
    UsageError,
)

IDS = "test.txt"


def run(*arguments: str | Path) -> Result:
    """Run ``classmark dataset`` and let its errors through, as the top level does."""
    return CliRunner().invoke(
        cli.app, [str(argument) for argument in arguments], catch_exceptions=False
    )


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    run("sample", "--papers", "300", "--csv", path)
    return path


def build(papers: Path, *options: str | Path) -> Result:
    return run("build", papers, "--output", papers.with_name("out"), *options)


def test_sample_writes_a_folder_and_names_it_in_the_last_line(tmp_path: Path) -> None:
    result = run("sample", "--papers", "60", "--output", tmp_path / "d", "--periods", "2015-12-31")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(tmp_path / "d")
    assert "the papers are invented" in result.stdout
    assert load_manifest(tmp_path / "d").periods == ("until-2015", "from-2016")


def test_sample_csv_replaces_a_file_only_on_request(papers: Path) -> None:
    before = papers.read_bytes()
    with pytest.raises(UsageError, match=r"papers.csv already exists.*--overwrite"):
        run("sample", "--papers", "10", "--csv", papers)
    assert papers.read_bytes() == before
    assert run("sample", "--papers", "10", "--csv", papers, "--overwrite").exit_code == 0
    assert len(papers.read_bytes()) < len(before)


def test_sample_dump_writes_what_build_reads_and_names_it(tmp_path: Path) -> None:
    dump = tmp_path / "dump.jsonl.gz"
    assert run("sample", "--papers", "80", "--dump", dump).stdout == f"{dump}\n"
    with pytest.raises(UsageError, match=r"dump.jsonl.gz already exists.*--overwrite"):
        run("sample", "--papers", "10", "--dump", dump)
    assert build(dump, "--min-papers", "1").exit_code == 0
    assert load_manifest(tmp_path / "out").kept == 80


@pytest.mark.parametrize("options", [[], ["--output", "a", "--csv", "b"]])
def test_sample_wants_one_thing_to_write(options: list[str]) -> None:
    with pytest.raises(UsageError, match=r"give one of --output DIR, --csv FILE, --dump FILE and"):
        run("sample", *options)


@pytest.mark.parametrize(("option", "name"), [("--csv", "p.csv"), ("--dump", "p.jsonl")])
def test_sample_of_a_file_names_it_in_json_too(tmp_path: Path, option: str, name: str) -> None:
    file = tmp_path / name
    result = run("sample", "--papers", "10", option, file, "--json")
    assert json.loads(result.stdout) == {"path": str(file), "papers": 10}


def test_sample_divides_no_file_into_periods(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--periods divides a dataset. Give it with --output"):
        run("sample", "--csv", tmp_path / "p.csv", "--periods", "2015-12-31")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--rate", "5"), ("--newest", "3"), ("--api-key", "k")])
def test_sample_sends_nothing_without_an_address(tmp_path: Path, words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=r"are for --send only. Give it, or leave them out."):
        run("sample", "--csv", tmp_path / "p.csv", *words)
    assert not list(tmp_path.iterdir())


def test_sample_refuses_a_key_that_cannot_be_sent() -> None:
    with pytest.raises(UsageError, match=r"--api-key: api_key has characters that a key cannot"):
        run("sample", "--send", "http://127.0.0.1:1", "--papers", "10", "--api-key", "cmk x")


def test_build_prints_what_was_read_dropped_and_kept_and_the_folder_last(papers: Path) -> None:
    with papers.open("a", encoding="utf-8") as file:
        file.write("x,T,,cs.LG,soon,soon,,,words,1\n")
    result = build(papers, "--min-papers", "2")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["read", "301"] in lines
    assert ["dropped:", "bad_date", "1"] in lines
    assert ["kept", "300"] in lines
    assert lines[-1] == [str(papers.with_name("out"))]


def test_build_json_is_one_object_with_the_summary(papers: Path) -> None:
    summary = json.loads(build(papers, "--min-papers", "2", "--json").stdout)
    manifest = load_manifest(papers.with_name("out"))
    assert summary["path"] == str(papers.with_name("out"))
    assert summary["digest"] == manifest.digest
    assert summary["read"] == summary["kept"] + sum(summary["dropped"].values())
    assert summary["splits"] == {name: split.papers for name, split in manifest.splits.items()}
    assert summary["generated"] is True


def test_every_option_of_build_reaches_the_manifest(papers: Path) -> None:
    ids = papers.with_name(IDS)
    ids.write_text(papers.read_text(encoding="utf-8").splitlines()[1].split(",")[0] + "\n")
    result = build(
        papers,
        *("--labels", "free", "--split", "ids", "--test-ids", ids, "--min-papers", "3"),
        *("--small", "keep", "--periods", "2010-12-31, 2015-12-31", "--seed", "11"),
        *("--columns", "abstract=summary,title=title", "--format", "csv", "--strict"),
    )
    assert result.exit_code == 0
    config = load_manifest(papers.with_name("out")).config
    assert {name: value for name, value in config.items() if name != "notes"} == {
        "labels": "free",
        "split": "ids",
        "test_share": 0.1,
        "valid_share": 0.1,
        "train_until": None,
        "valid_until": None,
        "test_ids": IDS,
        "valid_ids": None,
        "min_papers": 3,
        "small": "keep",
        "periods": ["2010-12-31", "2015-12-31"],
        "seed": 11,
        "columns": {"abstract": "summary", "title": "title"},
        "format": "csv",
        "strict": True,
    }


def test_build_cuts_the_timeline(papers: Path) -> None:
    dates = ("--train-until", "2018-12-31", "--valid-until", "2020-12-31")
    build(papers, "--split", "time", *dates, "--min-papers", "2")
    splits = load_manifest(papers.with_name("out")).splits
    assert all(split.papers for split in splits.values())


def test_build_takes_shares(papers: Path) -> None:
    found = build(papers, "--test-share", "0.5", "--valid-share", "0", "--min-papers", "2")
    assert found.stderr == ""
    splits = load_manifest(papers.with_name("out")).splits
    assert splits["valid"].papers == 0
    assert abs(splits["test"].papers - 150) <= 28


def test_strict_build_ends_at_the_first_bad_record(papers: Path) -> None:
    with papers.open("a", encoding="utf-8") as file:
        file.write("x,T,,cs.LG,soon,soon,,,words,1\n")
    with pytest.raises(ContractViolation, match=r"papers.csv, .*'soon'"):
        build(papers, "--strict")
    assert not papers.with_name("out").exists()


@pytest.mark.parametrize("mapping", ["abstract", "=Text", "abstract="])
def test_a_mapping_of_columns_must_be_pairs(papers: Path, mapping: str) -> None:
    with pytest.raises(UsageError, match=r"is not FIELD=COLUMN"):
        build(papers, "--columns", mapping)


def test_options_are_checked_before_sources_are_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"leave no paper for training"):
        build(tmp_path / "absent.csv", "--test-share", "0.9", "--valid-share", "0.5")
    with pytest.raises(UnreadableSource, match=r"absent.csv"):
        build(tmp_path / "absent.csv")


def test_a_missing_package_is_named_with_its_remedy(
    papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        dataset_needs, "find_spec", lambda name: None if name == "polars" else object()
    )
    with pytest.raises(MissingExtra, match=r"building datasets.*pip install 'classmark\[data\]'"):
        build(papers)


def test_progress_is_shown_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def show() -> tuple[str, str]:
        with progress_bar() as progress:
            progress.step("reading papers.csv")
            progress.advance(12_000)
            progress.step("cleaning")
            progress.note("half of it")
        return tuple(capsys.readouterr())

    assert show() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    out, err = show()
    assert (out, "cleaning half of it" in err) == ("", True)


def test_importing_the_verb_loads_no_data_package() -> None:
    code = (
        "import sys, classmark.cli.dataset.command; "
        "sys.exit(bool({'polars', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert done.returncode == 0


def write_table(path: Path, rows: list[tuple[str, ...]]) -> Path:
    """Write a table of own papers, each with an abstract over two lines."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "abstract", "category_code"])
        for number, (label, *more) in enumerate(rows):
            abstract = f"This is what paper {number}\nis about." if not more else more[0]
            writer.writerow([f"p{number}", f"Paper {number}", abstract, label])
    return path


GOOD = [("cs.LG",), ("math.CO",)] * 45


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "options", "reason", "example", "advice"),
    [
        (("cs.XX",), (), "unknown_category", "papers.csv:182.*category_code 'cs.XX'", "--labels"),
        (("",), (), "no_category", "papers.csv:182.*title 'Paper 90'", "--columns category_code="),
        (("astro-ph",), (), "retired_category", "papers.csv:182.*'astro-ph'", "No present"),
        (("hep-th",), (), "small_category", "papers.csv:182.*'hep-th'", "--min-papers"),
        (("cs.LG", " "), (), "empty_abstract", "papers.csv:182.*'Paper 90'", "--columns abstract="),
        (("x" * 300,), ("--labels", "free"), "long_category", "papers.csv:182", "column of the"),
    ],
)
def test_build_warns_where_many_rows_are_dropped_for_one_reason(
    tmp_path: Path,
    bad: tuple[str, ...],
    options: tuple[str, ...],
    reason: str,
    example: str,
    advice: str,
) -> None:
    papers = write_table(tmp_path / "papers.csv", [*GOOD, *[bad] * 10])
    result = build(papers, "--json", "--min-papers", "20", *options)
    [warning] = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert re.search(rf"10 of 100 rows .*{reason}.*{example}.*{advice}", warning), warning
    [seen] = json.loads(result.stdout)["notes"]["large_drops"]
    assert (seen["reason"], seen["rows"], seen["share"]) == (reason, 10, 0.1)
    assert load_manifest(tmp_path / "out").config["notes"]["large_drops"] == [seen]


def test_build_warns_of_records_that_cannot_be_read_and_of_duplicates(tmp_path: Path) -> None:
    papers = write_table(tmp_path / "papers.csv", [*GOOD, *[("cs.LG", "The same again.")] * 9])
    with papers.open("a", encoding="utf-8") as file:
        file.write("a,b\n" * 11)
    warnings = build(papers).stderr
    assert (
        "11 of 110 rows were dropped (wrong_field_count), e.g. papers.csv, line 191: " in warnings
    )
    assert "8 of 110 rows were dropped (duplicate_text), e.g. papers.csv:183, with" in warnings


def test_a_build_of_two_files_names_the_right_one(tmp_path: Path) -> None:
    first = write_table(tmp_path / "first.csv", GOOD)
    second = write_table(tmp_path / "second.csv", [("cs.XX",)] * 10)
    second.write_text(second.read_text("utf-8").replace("paper ", "essay "), encoding="utf-8")
    result = run("build", first, second, "--output", tmp_path / "out")
    assert "e.g. second.csv:2, with the category_code 'cs.XX'" in result.stderr


def test_build_says_nothing_where_few_rows_are_dropped(tmp_path: Path) -> None:
    papers = write_table(tmp_path / "papers.csv", [*GOOD, *[("cs.XX",)] * 4])
    assert build(papers).stderr == ""


def test_held_out_splits_that_rounding_leaves_empty_are_a_warning(tmp_path: Path) -> None:
    papers = write_table(tmp_path / "papers.csv", [("cs.LG",)] * 4 + [("math.NT",)] * 4)
    warnings = build(papers, "--min-papers", "1", "--test-share", "0.2").stderr.splitlines()
    assert warnings == [
        "warning: the valid split is empty: 0.1 of each category and period is less than half a "
        "paper. Add papers, or give `dataset build` a larger --valid-share."
    ]


OWN_LABELS = ["Machine learning, general", "組合せ論", "[draft] Strings; branes"]


@pytest.mark.slow
@pytest.mark.parametrize("column", ["category_code", "categories"])
def test_own_labels_of_a_table_stay_whole(tmp_path: Path, column: str) -> None:
    papers = write_table(tmp_path / "papers.csv", [(label,) for label in OWN_LABELS * 30])
    table = papers.read_text("utf-8").replace("category_code", column, 1)
    papers.write_text(table, encoding="utf-8")
    assert build(papers, "--labels", "free").exit_code == 0
    assert list(load_manifest(tmp_path / "out").labels) == sorted(OWN_LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("as_text", [None, json.dumps, repr])
def test_own_labels_in_a_list_stay_whole_and_the_first_is_the_papers(
    tmp_path: Path, as_text: Any
) -> None:
    pairs = [[one, other] for one, other in itertools.permutations(OWN_LABELS, 2)] * 15
    lines = [
        {
            "title": f"Paper {number}",
            "abstract": f"This is what paper {number} is about.",
            "categories": as_text(pair) if as_text else pair,
        }
        for number, pair in enumerate(pairs)
    ]
    papers = tmp_path / "papers.jsonl"
    papers.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    assert build(papers, "--labels", "free").exit_code == 0
    manifest = load_manifest(tmp_path / "out")
    assert list(manifest.labels) == sorted(OWN_LABELS)
    split = read_split(tmp_path / "out", "train", manifest)
    assert split.listed_count.tolist() == [2] * len(split)
    assert len(split.listed_indices) == 2 * len(split)
