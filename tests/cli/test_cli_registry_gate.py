from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from classmark.bundle import find_bundle, load_bundle, read_digest, write_bundle
from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset
from classmark.records import GateReport, GoldenAnswers
from classmark.registry import Registry

pytestmark = pytest.mark.slow  # scores a dataset in each test

WHO = "tester@here"
EASY: dict[str, Any] = {
    "format_version": 1,
    "measurement": {"draws": 50},
    "metrics": {"minimum": {"top_1": 0.1}, "most_fall": {"top_1": 0.5}},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    sample_dataset(folder, SampleConfig(papers=600, categories=24), command="a test")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that answers as the packaged one, but is less sure."""
    fast = load_bundle(find_bundle("fast"))
    policy = replace(fast.manifest.policy, temperature=fast.manifest.policy.temperature * 1.3)
    manifest = replace(fast.manifest, name="other", version="1.0", policy=policy)
    folder = tmp_path_factory.mktemp("models") / "other-1.0"
    write_bundle(folder, manifest, fast.arrays, {"CARD.md": "# other 1.0\n"})
    return folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "home"))


def rules_of(folder: Path, **groups: Any) -> Path:
    file = folder / "rules.yaml"
    file.write_text(json.dumps({**EASY, **groups}))
    return file


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["registry", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_a_candidate_that_passes_is_exit_code_0_and_the_report_is_written(
    dataset: Path, other: Path, tmp_path: Path
) -> None:
    output, page = tmp_path / "report.json", tmp_path / "page.html"
    words = ("gate", other, "--against", "fast", "--dataset", dataset)
    code, out, err = run(*words, "--rules", rules_of(tmp_path), "--output", output, "--html", page)
    assert (code, out.splitlines()[-1]) == (0, "passed: all 2 checks hold")
    report = GateReport.from_dict(json.loads(output.read_text()))
    assert report.candidate.digest == read_digest(other)
    assert report.command == (
        f"classmark registry gate {other} --dataset {dataset} --against fast "
        f"--rules {tmp_path / 'rules.yaml'}"
    )
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert f"report written to {output}" in err
    assert "scoring with other-1.0" in err


def test_a_refusal_is_exit_code_3_and_names_each_line_with_how_far(
    dataset: Path, other: Path, tmp_path: Path
) -> None:
    strict = {"minimum": {"top_1": 1.0}, "maximum": {"ece": 0.0}}
    rules = rules_of(tmp_path, metrics=strict)
    code, out, err = run("gate", other, "--against", "fast", "--dataset", dataset, "--rules", rules)
    assert code == 3
    assert "metrics: top_1 is 0." in out
    assert "at least 1, short by 0." in out
    assert "at most 0, over by 0." in out
    assert "error: other 1.0 may not be promoted: refused: 2 of 2 checks fail" in err
    code, out, _ = run(
        "gate", other, "--against", "fast", "--dataset", dataset, "--rules", rules, "--json"
    )
    report = GateReport.from_dict(json.loads(out))
    assert (code, report.passed, len(report.failed)) == (3, False, 2)


def test_a_registry_gates_by_name_keeps_the_report_and_then_promotes(
    dataset: Path, other: Path, tmp_path: Path
) -> None:
    registry = Registry.create(tmp_path / "registry", who=WHO)
    champion = registry.add(find_bundle("fast"), who=WHO)
    registry.promote(champion, who=WHO, force=True, why="the first one")
    candidate = registry.add(other, who=WHO)
    at = ("--registry", tmp_path / "registry")
    assert run("promote", "other@1.0", *at)[0] == 1
    words = ("gate", "other@1.0", "--dataset", dataset, *at, "--rules")
    code, out, err = run(*words, rules_of(tmp_path))
    assert code == 0
    assert f"champion   fast {registry.pointer().bundles[champion].version}" in out
    kept = err.split("report kept in the registry: ")[1].split()[0]
    content = (tmp_path / "registry" / "reports" / f"{kept}.json").read_text("utf-8")
    assert GateReport.from_dict(json.loads(content)).candidate.digest == candidate
    assert run(*words, rules_of(tmp_path, metrics={"minimum": {"top_1": 1.0}}))[0] == 3
    assert run("promote", "other@1.0", *at)[0] == 1, "a later failure counts"
    assert run(*words, rules_of(tmp_path))[0] == 0
    code, out, _ = run("promote", "other@1.0", *at)
    assert code == 0
    assert registry.pointer().channels.champion == candidate
    code, _, err = run("gate", candidate, "--dataset", dataset, *at)
    assert code == 2
    assert "is the champion" in err


def test_a_registry_without_a_champion_compares_with_nobody(
    dataset: Path, other: Path, tmp_path: Path
) -> None:
    registry = Registry.create(tmp_path / "registry", who=WHO)
    registry.add(other, who=WHO)
    code, out, _ = run(
        *("gate", "other@1.0", "--dataset", dataset, "--rules", rules_of(tmp_path)),
        *("--registry", tmp_path / "registry"),
    )
    assert code == 0
    assert "champion   none" in out


def test_without_a_registry_the_champion_must_be_named(dataset: Path, other: Path) -> None:
    code, _, err = run("gate", other, "--dataset", dataset)
    assert code == 2
    assert "--against champion needs a registry" in err
    code, _, err = run("gate", other, "--dataset", dataset, "--registry", "none")
    assert code == 1
    assert "none" in err


def test_names_that_neither_registry_nor_this_machine_has_are_an_error(
    dataset: Path, tmp_path: Path
) -> None:
    Registry.create(tmp_path / "registry", who=WHO)
    at = ("--registry", tmp_path / "registry")
    code, _, err = run("gate", "nobody", "--dataset", dataset, *at)
    assert code == 1
    assert "the registry has no bundle 'nobody'" in err
    assert "no model 'nobody'" in err


def test_rules_and_outputs_that_cannot_work_are_refused_before_the_work(
    dataset: Path, other: Path, tmp_path: Path
) -> None:
    words = ("gate", other, "--against", "fast", "--dataset", dataset)
    code, _, err = run(*words, "--rules", rules_of(tmp_path, metrics={"minimum": {"top1": 1}}))
    assert code == 1
    assert "metrics.minimum.top1 is not a metric of it. Did you mean top_1?" in err
    assert "scoring" not in err
    rules = rules_of(tmp_path)
    code, _, err = run(*words, "--rules", rules, "--output", rules)
    assert code == 1
    assert "would be lost" in err
    assert run(*words, "--rules", rules, "--html", tmp_path / "page.pdf")[0] == 2


def test_golden_answers_are_recorded_and_asked_for_again(
    dataset: Path, other: Path, tmp_path: Path
) -> None:
    papers, goldens = tmp_path / "papers.jsonl", tmp_path / "golden.json"
    record = {"id": "1", "title": "Colouring graphs", "abstract": "We colour.", "authors": "A. Bee"}
    papers.write_text(json.dumps(record) + "\n")
    code, _, err = run("goldens", papers, "--model", "fast", "--output", goldens)
    assert code == 0
    assert f"1 golden answer written to {goldens}" in err
    assert "Bee" not in goldens.read_text()
    code, out, _ = run("goldens", papers, "--model", "fast", "--output", goldens, "--json")
    assert (code, json.loads(out)["answers"]) == (0, 1)
    assert json.loads(out)["model"]["digest"] == read_digest(find_bundle("fast"))
    words = ("gate", other, "--against", "fast", "--dataset", dataset, "--rules")
    code, out, _ = run(*words, rules_of(tmp_path, goldens={"file": "golden.json", "least": 0.0}))
    assert code == 0
    assert "goldens" in out
    value = json.loads(goldens.read_text())
    value["answers"][0]["primary"] = "no.such"
    goldens.write_text(json.dumps(value))
    assert GoldenAnswers.from_dict(value)
    code, out, _ = run(*words, rules_of(tmp_path, goldens={"file": "golden.json"}))
    assert code == 3
    assert "goldens: same category is 0, at least 1, short by 1 (another one for 1)" in out
