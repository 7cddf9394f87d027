"""``classmark sweep``: several processes, kills, Ctrl-C, and what the page of the docs shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli import sweep as verb
from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset

if os.name != "nt":
    from processes import start

with_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="Optuna is not installed")
pytestmark = pytest.mark.slow  # reason: processes of their own that import everything
ROOT = Path(__file__).parents[2]
SPACE = "{model: {rate: {low: 0.02, high: 0.5, log: true}}}"
ENDED = ("complete", "pruned")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a small dataset, and a file of options for the sweeps on it."""
    sample_dataset(tmp_path / "dataset", SampleConfig(papers=300, categories=24), command="a test")
    return tmp_path


def options(*more: str) -> list[str]:
    keys = ("epochs", "refine_epochs", "batch_size", "min_papers", "refine_rate", "head_rate")
    keys += ("weight_decay", "hidden_dropout", "label_smoothing")
    return [
        *("dataset.path=dataset", "sweep.heartbeat_s=1", "sweep.random_trials=100"),
        *(f"~sweep.space.model.{key}" for key in keys),
        *more,
    ]


def trials(folder: Path) -> list[dict[str, object]]:
    """Return the trials of the study."""
    report = json.loads((folder / "runs" / "sweep-fast" / "sweep.json").read_text("utf-8"))
    found: list[dict[str, object]] = report["trials"]
    return found


@with_optuna
def test_two_processes_share_a_study_no_trial_is_repeated_and_the_budget_holds(
    folder: Path,
) -> None:
    command = [sys.executable, "-m", "classmark", "sweep", *options("sweep.trials=5")]
    with (
        subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as other,
    ):
        said = [process.communicate()[1] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    found = trials(folder)
    assert [trial["number"] for trial in found] == list(range(5))
    assert {trial["state"] for trial in found} <= set(ENDED)
    assert len({str(trial["values"]) for trial in found}) == 5
    done = [set(re.findall(r"trial (\d+): top_1 \S+", text)) for text in said]
    assert not done[0] & done[1]
    assert done[0] | done[1] == set("01234")


@with_optuna
@pytest.mark.skipif(os.name == "nt", reason="there is no terminal to open")
def test_a_killed_trial_has_failed_and_is_tried_again_with_the_same_values(folder: Path) -> None:
    # Long fits, so that the kill comes before the end of the one that has just begun.
    words = options("sweep.trials=2", "sweep.first_share=1", "model.epochs=300")
    with start("sweep", *words, cwd=folder) as (process, terminal):
        terminal.read_until("trial 1: model.rate=")
        process.kill()
        process.wait()
    command = [sys.executable, "-m", "classmark", "sweep", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    found = trials(folder)
    assert [trial["state"] for trial in found] == ["complete", "failed", "complete"]
    assert [trial["retry_of"] for trial in found] == [None, None, 1]
    assert found[1]["values"] == found[2]["values"]
    assert not list((folder / "runs" / "sweep-fast" / "runs").glob("linear-*"))


@with_optuna
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send")
def test_ctrl_c_ends_the_sweep_with_the_command_that_resumes_it(folder: Path) -> None:
    words = options("sweep.trials=2", "sweep.first_share=1", "model.epochs=300")
    with start("sweep", *words, cwd=folder) as (process, terminal):
        terminal.read_until("trial 1: model.rate=")
        process.send_signal(signal.SIGINT)
        last = terminal.read_rest() and terminal.lines[-1]
        assert process.wait() == 130
    again = "interrupted: the study is kept. Resume it with: classmark sweep dataset.path=dataset"
    assert last.startswith(again)
    assert [trial["state"] for trial in trials(folder)] == ["complete", "failed", "waiting"]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda _: None)
    for words in (["dataset.path=x"], ["agent", "x"], ["report", "x"]):
        result = run(*words)
        assert result.exit_code == 1
        assert "pip install 'classmark[sweep]'" in result.stderr
    assert run("export", "dataset.path=x").exit_code == 0


def test_an_override_that_is_wrong_is_a_usage_error_with_or_without_run() -> None:
    for words in (["sweep.trials=0"], ["run", "sweep.trials=0"], ["--json", "sweep.trials=0"]):
        result = run("dataset.path=x", *words) if words[0] != "run" else run(*words)
        assert result.exit_code == (2 if find_spec("optuna") else 1), result.output


@with_optuna
def test_the_json_has_the_best_the_experiment_and_every_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    result = json.loads(run(*options("sweep.trials=1"), "--json").stdout)
    assert result["study"] == "runs/sweep-fast"
    assert Path(result["experiment"]).read_text("utf-8").startswith("# @package _global_\n")
    assert [trial["state"] for trial in result["trials"]] == ["complete"]
    assert result["command"].startswith("classmark sweep dataset.path=dataset")
    assert json.loads(run("report", result["study"], "--json").stdout)["trials"] == result["trials"]


@with_optuna
def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/search-options.md").read_text("utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for block in re.findall(r"^```console\n(\$ .*?)^```", page, re.DOTALL | re.MULTILINE):
        for each in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = each.partition("\n")
            printed = subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
            ).stdout  # fmt: skip
            assert masked(printed) == masked(shown), command


def masked(text: str) -> list[str]:
    """Return what is printed, without the name of a run."""
    return re.sub(r"\d{8}-\d{6}", "…", text).rstrip().split("\n")
