"""``classmark profile``: real commands under real profilers, and what cannot be profiled."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import DEADLINE_S, unmeasured_environment
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_csv, sample_dataset
from classmark.profiling import config
from classmark.storage import locked_folder

FILES = ["flame.svg", "output.txt", "profile.html", "profile.json", "stacks.txt"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "classmark", "profile", *map(str, arguments)]


def done(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return ran(command(*arguments), cwd=cwd)


def ran(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=unmeasured_environment(),
        timeout=DEADLINE_S,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("papers") / "papers.csv"
    sample_csv(file, SampleConfig(papers=3_000))
    return file


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    sample_dataset(folder, SampleConfig(papers=600, categories=24))
    return folder


@pytest.mark.slow
def test_classify_is_profiled_with_its_own_arguments_and_answers(
    papers: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.jsonl"
    result = done("classify", "--output", "p", "--json", "--", papers, "--output", answers,
                  cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(answers.read_text("utf-8").splitlines()) == 3_000
    report = json.loads(result.stdout)
    assert (report["folder"], report["kind"], report["interrupted"]) == ("p", "cpu", False)
    assert report["command"] == f"classmark classify {papers} --output {answers}"
    assert "own   total  function" in result.stderr
    assert names(tmp_path / "p") == FILES
    stacks = (tmp_path / "p" / "stacks.txt").read_text("utf-8")
    assert "run (classmark/cli/classify/command.py:" in stacks


@pytest.mark.slow
def test_answers_without_a_file_go_into_the_folder_and_bad_records_are_exit_1(
    tmp_path: Path,
) -> None:
    lines = ['{"abstract": "We colour sparse graphs."}\n', "{}\n"]
    (tmp_path / "two.jsonl").write_text("".join(lines))
    result = done("classify", "--profiler", "memory", "--output", "p", "--", "two.jsonl", "--jsonl",
                  cwd=tmp_path)  # fmt: skip
    assert (result.returncode, result.stdout) == (1, "p\n")
    answers = (tmp_path / "p" / "output.txt").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in answers] == ["1", "2"]
    report = json.loads((tmp_path / "p" / "profile.json").read_text("utf-8"))
    assert (report["kind"], report["unit"]) == ("memory", "bytes")
    assert report["peak_mb"] > 20


@pytest.mark.slow
def test_a_fit_is_profiled_step_by_step(dataset: Path, tmp_path: Path) -> None:
    result = done("train", "--output", "p", "experiment=debug", f"dataset.path={dataset}",
                  cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == "p\n"
    (run_folder,) = (tmp_path / "runs").iterdir()
    assert str(run_folder.relative_to(tmp_path)) in result.stderr
    report = json.loads((tmp_path / "p" / "profile.json").read_text("utf-8"))
    steps = [step["name"].split(":")[0] for step in report["steps"]]
    assert steps[1:] == [
        *("fitting the parent", "fitting the model"),
        *("counting the authors", "looking up the authors of 474 training papers"),
        *("fitting the profile of authors", "scoring the valid and test splits"),
    ]
    assert all(step["peak_mb"] > 20 for step in report["steps"])


@pytest.mark.slow
def test_the_profile_of_a_fit_is_in_the_folder_of_its_run(dataset: Path, tmp_path: Path) -> None:
    words = ["train", "experiment=debug", f"dataset.path={dataset}", "profiler=memory"]
    subprocess.run(
        [sys.executable, "-m", "classmark", *words],
        cwd=tmp_path, check=True, capture_output=True, env=unmeasured_environment(),
    )  # fmt: skip
    (run_folder,) = (tmp_path / "runs").iterdir()
    assert names(run_folder / "profile") == [name for name in FILES if name != "output.txt"]


@pytest.mark.slow
def test_a_service_is_profiled_with_its_worker_while_it_answers(
    papers: Path, tmp_path: Path
) -> None:
    result = done("serve", "--output", "p", "--json", "--papers", papers, "--seconds", "2",
                  "--batch", "20", cwd=tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["load"]["requests"] > 0
    assert report["load"]["refused"] == 0
    assert len(report["processes"]) >= 2
    stacks = (tmp_path / "p" / "stacks.txt").read_text("utf-8")
    assert "Answerer.answer_many (classmark/service/answering/answerer.py:" in stacks
    assert names(tmp_path / "p") == FILES


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Path]:
    """Return a pipe that is open for reading papers and never ends."""
    pipe = tmp_path / "papers.jsonl"
    os.mkfifo(pipe)
    handle = os.open(pipe, os.O_RDWR)
    os.write(handle, b'{"abstract": "We colour sparse graphs."}\n' * 50)
    yield pipe
    os.close(handle)


@pytest.mark.slow
def test_what_was_found_before_ctrl_c_is_written(endless: Path, tmp_path: Path) -> None:
    words = command("classify", "--output", "p", "--", f"./{endless.name}", "--format", "jsonl")
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=unmeasured_environment(),
    )  # fmt: skip
    until = time.monotonic() + DEADLINE_S
    while not list(tmp_path.glob(".p*/output.txt")):  # the command begins
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, stdout) == (130, "p\n"), stderr
    assert "stopped after" in stderr
    assert json.loads((tmp_path / "p" / "profile.json").read_text("utf-8"))["interrupted"]


@pytest.mark.slow
def test_a_command_that_fails_leaves_no_profile(tmp_path: Path) -> None:
    result = done("classify", "--output", "p", "--", "absent.csv", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: no file 'absent.csv'")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_service_that_does_not_start_says_why(papers: Path, tmp_path: Path) -> None:
    result = done("serve", "--output", "p", "--papers", papers, "--", "--model", "absent",
                  cwd=tmp_path)  # fmt: skip
    assert result.returncode == 1
    assert "error: the service did not start:" in result.stderr
    assert "'absent'" in result.stderr
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("words", "exit_code", "reason"),
    [
        (["classify", "--profiler", "gpu", "x."], 2, "'gpu' is not one of 'cpu', 'memory'"),
        (["classify", "--profiler", "torch", "x."], 2, "'torch' is not one of 'cpu', 'memory'"),
        (["train", "--profiler", "gpu", "x=1"], 2, "'gpu' is not one of 'cpu', 'memory', 'torch'"),
        (["classify", "--rate", "0", "x."], 2, "profiler.rate is 0, it must be from 1 to 1000."),
        (["serve", "--seconds", "0"], 2, "--seconds must be above 0"),
        (["classify", "--output", "/proc/p", "x."], 1, "cannot write /proc/p"),
        (["classify", "--output", "full", "x."], 1, "full already exists. Choose another folder"),
        (["classify", "--output", "held", "x."], 1, "another run is at work in"),
        (["train", "--profiler", "torch", "dataset.path=d"], 2, "profiler=torch is for model="),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    words: list[str], exit_code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    with locked_folder(tmp_path / ".held.profiling"):
        result = run(*words)
    assert (result.exit_code, names(tmp_path)) == (exit_code, ["full"])
    assert reason in " ".join(result.stderr.split())


@pytest.mark.parametrize("verb", ["classify", "train", "serve"])
def test_without_the_extra_every_verb_names_the_command_that_installs_it(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "find_spec", lambda _: None)
    result = run(verb, *(["x"] if verb != "serve" else []))
    assert result.exit_code == 1
    assert "pip install 'classmark[profile]'" in result.stderr


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "profile.md"


@pytest.mark.slow  # a process for each: this one is too large for the sampler to begin soon
def test_the_page_shows_what_is_refused_as_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "profile.json").write_text("{}")
    (tmp_path / "papers.csv").write_text("title,abstract\nGraphs,We colour sparse graphs.\n")
    section = PAGE.read_text("utf-8").partition("## What is refused")[2]
    shown = section.partition("```text\n")[2].partition("```")[0].splitlines()
    for asked, answered in zip(shown[::2], shown[1::2], strict=True):
        words = shlex.split(asked.removeprefix("$ classmark "))
        result = ran([sys.executable, "-m", "classmark", *words], cwd=tmp_path)
        assert result.returncode != 0
        assert result.stderr.splitlines() == [answered], asked
    assert not (tmp_path / "profiles").exists()


@pytest.mark.slow
def test_the_page_lists_the_files_and_the_columns_of_a_profile(
    papers: Path, tmp_path: Path
) -> None:
    text = PAGE.read_text("utf-8")
    result = done("classify", "--", papers, cwd=tmp_path)
    folder = tmp_path / result.stdout.strip()
    listed = re.findall(
        r"^\| `([\w.]+)` \|", text.partition("| file in the folder |")[2], re.MULTILINE
    )
    assert sorted(listed) == names(folder)
    shape = [re.sub(r"[\d,.]+", "0", line) for line in result.stderr.splitlines()[:2]]
    assert shape == [re.sub(r"[\d,.]+", "0", line) for line in text_block(text, "done after")[:2]]


def text_block(text: str, beginning: str) -> list[str]:
    """Return the lines of the page's first block that begins so."""
    return (beginning + text.partition(f"```text\n{beginning}")[2].partition("```")[0]).splitlines()
