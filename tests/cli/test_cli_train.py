"""``classmark train``: the run folder is the last line, and a wrong key is a usage error."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli import train as verb
from classmark.cli.app import app
from classmark.cli.progress import StepLines
from classmark.dataset import SampleConfig, sample_dataset
from classmark.pipeline.config import KINDS
from classmark.pipeline.linear.export import read_weights
from classmark.records import RunRecord


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    sample_dataset(folder, SampleConfig(papers=300, categories=24))
    return folder


@pytest.fixture
def options(dataset: Path, tmp_path: Path) -> list[str]:
    return ["experiment=debug", f"dataset.path={dataset}", f"runs_dir={tmp_path / 'runs'}"]


def test_the_run_folder_is_all_that_stdout_gets(options: list[str]) -> None:
    result = run(*options)
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    record = RunRecord.read(Path(line))
    assert record.command.startswith("classmark train experiment=debug dataset.path=")
    assert "reading 2" in result.stderr
    assert "fitting the parent" in result.stderr


def test_json_names_the_run_folder(options: list[str]) -> None:
    result = run(*options, "--json")
    assert list(json.loads(result.stdout)) == ["run", "metrics"]
    folder = Path(json.loads(result.stdout)["run"])
    assert read_weights(folder, len(RunRecord.read(folder).labels)).keys.size


def test_the_configuration_can_be_seen_before_anything_is_read(tmp_path: Path) -> None:
    result = run("dataset.path=absent", "seed=3", f"runs_dir={tmp_path / 'runs'}", "--show-config")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["seed"] == 3
    assert not (tmp_path / "runs").exists()


def test_the_help_names_every_kind_and_experiment_and_its_commands_can_be_read(
    tmp_path: Path,
) -> None:
    shown = run("--help").stdout
    experiments = files("classmark") / "conf" / "experiment"
    names = {path.stem for path in Path(str(experiments)).rglob("*.yaml")}
    assert all(re.search(rf"\b{name}\b", shown) for name in {*KINDS, *names})
    commands = re.findall(r"^ +classmark train (.+)$", shown, re.MULTILINE)
    kinds = []
    for command in commands:
        if "resume=" in command:
            result = run(*command.split())
            assert result.exit_code == 2
            assert "is not an unfinished run" in result.stderr
            continue
        words = command.replace("DIR", str(tmp_path)).replace("BUNDLE", "deep").split()
        kinds.append(json.loads(run(*words, "--show-config").stdout)["model"]["kind"])
    assert set(kinds) == set(KINDS)
    assert len(kinds) == len(commands) - 1


@pytest.mark.parametrize(
    ("override", "reason"),
    [("model.rat=1", "model.rat"), ("+model.rat=1", "model.rat is unknown"), ("seed=x", "'x'")],
)
def test_a_wrong_key_or_value_is_a_usage_error_in_one_line(
    options: list[str], tmp_path: Path, override: str, reason: str
) -> None:
    result = run(*options, override)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_dataset_is_an_error_and_leaves_no_run(tmp_path: Path) -> None:
    result = run(f"dataset.path={tmp_path / 'absent'}", f"runs_dir={tmp_path / 'runs'}")
    assert result.exit_code == 1
    assert "is not a dataset folder" in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_no_dataset_is_a_usage_error() -> None:
    result = run()
    assert result.exit_code == 2
    assert "dataset.path" in result.stderr


@pytest.mark.parametrize("verb_name", ["train", "export", "demo"])
def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb_name: str
) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None if name == "hydra" else object())
    arguments = {"export": ["run", "--output", str(tmp_path / "m-1.0")]}.get(verb_name, [])
    result = CliRunner().invoke(app, [verb_name, *arguments])
    assert result.exit_code == 1
    assert "pip install 'classmark[train]'" in " ".join(result.stderr.split())


def test_steps_are_lines_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with StepLines() as steps:
        steps.step("reading")
        steps.advance(10)
        steps.step("fitting")
    assert capsys.readouterr().err == "reading ...\nfitting ...\n"


def test_steps_count_papers_while_somebody_looks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with StepLines() as steps:
        steps._SECONDS_BETWEEN = -1.0  # type: ignore[misc]
        steps.step("reading")
        steps.advance(700)
        steps.advance(800)
        steps.step("fitting")
    out = capsys.readouterr()
    assert out.err == (
        "reading ...\rreading ... 700 papers\rreading ... 1,500 papers\nfitting ...\n"
    )
    assert out.out == ""


def test_the_first_note_of_a_step_is_shown_at_once_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)  # no time passes
    with StepLines() as steps:
        steps.step("fitting")
        steps.note("50%, loss 1")
        steps.note("99%, loss 0")
    assert capsys.readouterr().err == "fitting ...\r\x1b[Kfitting ... 50%, loss 1\n"


def test_a_cascade_of_two_fast_models_is_refused(dataset: Path, tmp_path: Path) -> None:
    words = ("model=cascade", f"dataset.path={dataset}", f"runs_dir={tmp_path / 'runs'}")
    result = run(*words, "model.deep=fast")
    assert result.exit_code == 2
    assert "error: model.deep is fast@" in result.stderr
    assert "of kind 'linear', it must be a bundle of kind 'transformer'." in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_fit_says_how_far_it_is_with_loss_and_time_left(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(StepLines, "note", lambda _, text: notes.append(text))
    assert run(*options, "model.batch_size=64").exit_code == 0
    assert re.fullmatch(
        r"100%, epoch (\d) of \1, loss \d+\.\d{3}, [\d,.]+ papers/s, 0 s left", notes[-1]
    )
    assert len({note.partition("%")[0] for note in notes}) > 1


def test_a_fit_ends_with_its_main_numbers(options: list[str]) -> None:
    *_, valid, test = run(*options).stderr.splitlines()
    number = r"\d\.\d{3}"
    line = f"top-1 {number}, top-5 {number}, macro-F1 {number}, ECE as fitted {number}"
    assert re.fullmatch(f"valid: {line}", valid)
    assert re.fullmatch(f"test: {line}, calibrated {number}", test)


def test_the_help_explains_every_key_with_its_default() -> None:
    shown = " ".join(run("--help").stdout.split())
    assert "model.epochs=3 passes of the parent's fit over the training papers." in shown
    assert "dataset.path=required folder of the dataset" in shown
    assert "model.max_length=256 maximum number of tokens of a paper." in shown


def test_the_help_without_the_extra_says_where_the_keys_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda _: None)
    result = run("--help")
    assert result.exit_code == 0
    assert "pip install 'classmark[train]'" in " ".join(result.stdout.split())


def test_a_note_takes_the_place_of_the_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with StepLines() as steps:
        steps._SECONDS_BETWEEN = -1.0  # type: ignore[misc]
        steps.step("fitting")
        steps.note("50%, loss 1")
        steps.advance(10)
        steps.step("scoring")
    assert capsys.readouterr().err == ("fitting ...\r\x1b[Kfitting ... 50%, loss 1\nscoring ...\n")
