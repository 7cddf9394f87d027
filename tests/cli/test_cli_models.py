"""``classmark models``: what is there, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.bundle import find as find_module
from classmark.bundle import read_digest
from classmark.cli.app import app
from spoilt_bundles import rewrite

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_home: Path) -> None:
    monkeypatch.setattr(find_module, "_WHEEL_FOLDER", tmp_path / "no-wheel")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def test_list_stars_the_default_and_aligns(make_bundle: Make) -> None:
    folders = [make_bundle(*spec) for spec in (("fast", "1.0"), ("fast", "1.10"), ("mine", "2.0"))]
    digests = [read_digest(folder)[:8] for folder in folders]
    assert run("list").stdout == (
        f"* fast@1.10  {digests[1]}  user\n"
        f"  fast@1.0   {digests[0]}  user\n"
        f"  mine@2.0   {digests[2]}  user\n"
    )


def test_list_as_json_has_path_and_digest(make_bundle: Make) -> None:
    folder = make_bundle("fast", "1.0")
    (model,) = json.loads(run("list", "--json").stdout)
    assert model == {
        "name": "fast",
        "version": "1.0",
        "default": True,
        "place": "user",
        "path": str(folder),
        "digest": read_digest(folder),
    }


def test_list_without_models_says_so() -> None:
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no model is installed.\n"
    assert json.loads(run("list", "--json").stdout) == []


def test_list_names_a_damaged_model_and_goes_on(make_bundle: Make) -> None:
    (make_bundle("fast", "1.0") / "bundle.json").write_text("{")
    make_bundle("mine", "1.0")
    lines = run("list").stdout.splitlines()
    assert lines[0] == "* fast@1.0  damaged   user"
    assert lines[1].startswith("  mine@1.0  ")


def test_show_tells_facts_metrics_and_that_files_are_unchanged(make_bundle: Make) -> None:
    seen = {"provenance": {"period": "1986-2017"}, "columns": {"title": "Titel"}}
    folder = make_bundle("mine", "1.0", metrics={"main": {"top1": 0.63}}, **seen)
    facts = dict(line.split("  ", 1) for line in run("show", "mine").stdout.splitlines())
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["model"] == "mine 1.0 (linear)"
    assert facts["digest"] == read_digest(folder)
    assert facts["files"] == "unchanged, 0.0 MB"
    assert facts["labels"] == "4 (arxiv)"
    assert facts["metrics.main.top1"] == "0.63"
    assert facts["provenance.period"] == "1986-2017"
    assert facts["columns.title"] == "Titel"


def test_show_names_the_categories_that_are_rarely_right(
    make_bundle: Make, category_report: Callable[..., object]
) -> None:
    measured = [category_report("cs.LG", 4, 3), category_report("math.CO", 0, 0)]
    make_bundle("mine", "1.0", measured=measured)
    lines = [line.split() for line in run("show", "mine").stdout.splitlines()]
    assert ["rarely", "right", "math.CO"] in lines
    assert json.loads(run("show", "mine", "--json").stdout)["rarely_right"] == ["math.CO"]


def test_show_names_a_changed_file_and_fails(make_bundle: Make) -> None:
    folder = make_bundle("mine", "1.0")
    (folder / "CARD.md").write_text("# Tinx\n")
    result = run("show", "mine")
    assert result.exit_code == 1
    assert "CARD.md has changed since the bundle was written" in result.stdout
    facts = json.loads(run("show", "mine", "--json").stdout)
    assert (facts["verified"], facts["name"]) == (False, "mine")
    assert "CARD.md has changed" in facts["problem"]


def test_show_obeys_nothing_that_a_model_says_of_itself(make_bundle: Make) -> None:
    hostile = "\x1b]0;pwned\x07\x1b[2J\u202ekcab\nfiles  unchanged"
    make_bundle("mine", "1.0", metrics={hostile: {hostile: hostile}}, provenance={"x": hostile})
    result = run("show", "mine")
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.splitlines())
    assert len([line for line in result.stdout.splitlines() if line.startswith("files ")]) == 1
    assert json.loads(run("show", "mine", "--json").stdout)["provenance"] == {"x": hostile}


def test_list_obeys_nothing_that_a_manifest_states(make_bundle: Make) -> None:
    path = make_bundle("mine", "1.0") / "bundle.json"
    value = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**value, "digest": "\x1b[2Jaa"}), "utf-8")
    assert run("list").stdout == "  mine@1.0  damaged   user\n"


def test_show_names_an_array_that_is_none_although_its_digest_is_right(make_bundle: Make) -> None:
    rewrite(make_bundle("mine", "1.0"), files={"arrays/weights.npy": b"no array"})
    result = run("show", "mine")
    assert result.exit_code == 1
    assert "weights.npy: it is not an array" in result.stdout


def test_path_prints_the_folder_and_nothing_else(make_bundle: Make) -> None:
    folder = make_bundle("fast", "1.0")
    assert run("path").stdout == f"{folder}\n"
    assert json.loads(run("path", "fast@1.0", "--json").stdout) == {"path": str(folder)}


@pytest.mark.parametrize("verb", ["show", "path"])
def test_an_unknown_model_is_one_line(make_bundle: Make, verb: str) -> None:
    make_bundle("mine", "1.0")
    result = run(verb, "yours")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no model 'yours'" in result.stderr
    assert "there is mine@1.0." in result.stderr


def test_show_names_labels_of_ones_own(make_bundle: Make) -> None:
    labels = tuple(f"Label {i:02d}, own" for i in range(22))
    make_bundle("own", "1.0", labels=labels, label_space="free", taxonomy="")
    [line] = [line for line in run("show", "own").stdout.splitlines() if line.startswith("labels")]
    assert "22 (free): Label 00, own; Label 01, own; " in line
    assert line.endswith("Label 19, own and 2 more")
    assert json.loads(run("show", "own", "--json").stdout)["categories"] == list(labels)
