"""``classmark train model=transformer`` in real processes: killed, stopped, and without a hub."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("lightning")

from bucket_fixtures import bucket, needs_bucket
from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset
from classmark.pipeline import compose_config, train
from classmark.storage import folder_place, local_copy, staged_folder
from deep_models import tiny_encoder

__all__ = ["bucket", "tiny_encoder"]
pytestmark = [
    pytest.mark.slow,  # reason: processes of their own that import Lightning
    pytest.mark.skipif(os.name == "nt", reason="there is no terminal to open, no SIGINT to send"),
]

if os.name != "nt":
    from processes import start


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep") / "dataset"
    sample_dataset(folder, SampleConfig(papers=300))
    return folder


def losses(run: Path) -> list[tuple[str, str, str]]:
    with (run / "log.csv").open(encoding="utf-8", newline="") as file:
        return [(row["stage"], row["step"], row["loss"]) for row in csv.DictReader(file)]


def fit(words: list[str]) -> Path:
    return train(compose_config(words), command="test")


def words_of_a_fit(papers: Path, encoder: Path) -> list[str]:
    return [
        "model=transformer", f"dataset.path={papers}", f"model.encoder={encoder}",
        "model.max_length=48", "model.threads=1", "model.epochs=6", "model.max_samples=96",
        "model.max_held_out=20", "model.device=cpu", "model.checkpoint_minutes=0",
    ]  # fmt: skip


def test_a_run_that_was_stopped_and_then_killed_ends_with_the_losses_of_one_that_was_not(
    papers: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    words = words_of_a_fit(papers, tiny_encoder)
    runs = tmp_path / "runs"
    with start("train", *words, f"runs_dir={runs}", cwd=tmp_path) as (child, terminal):
        terminal.read_until("epoch 1 of 6: ")
        child.send_signal(signal.SIGINT)
        terminal.read_rest()
        assert child.wait(timeout=200) == 130
    (unfinished,) = runs.iterdir()
    assert terminal.lines[-1] == (
        f"interrupted: the run is kept. Resume it with: classmark train resume={unfinished}"
    )
    with start("train", f"resume={unfinished}", cwd=tmp_path) as (child, terminal):
        terminal.read_until("epoch 3 of 6: ")
        child.kill()
        child.wait(timeout=200)
    assert "papers/s" in terminal.shown  # the first note of each epoch is shown, however fast it is
    assert [path.name for path in runs.iterdir()] == [unfinished.name]
    finished = fit([f"resume={unfinished}"])
    assert losses(finished) == losses(fit([*words[:-1], f"runs_dir={tmp_path / 'whole'}"]))


@needs_bucket
def test_a_run_in_a_bucket_that_was_stopped_is_resumed_on_another_machine(
    bucket: Any, papers: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staged_folder(folder_place("gs://papers/data"), last="manifest.json") as folder:
        shutil.copytree(papers, folder, dirs_exist_ok=True)
    words = words_of_a_fit(papers, tiny_encoder)
    words[1] = "dataset.path=gs://papers/data"
    runs = "runs_dir=gs://papers/runs"
    with start("train", *words, runs, cwd=tmp_path) as (child, terminal):
        terminal.read_until("epoch 2 of 6: ")
        child.send_signal(signal.SIGINT)
        terminal.read_rest()
        assert child.wait(timeout=200) == 130
    resume = terminal.lines[-1].partition("classmark train ")[2]
    assert resume.startswith("resume=gs://papers/runs/transformer-")
    assert not [name for name in bucket.names("runs/") if name.endswith("/lock")]
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "another"))
    finished = fit([resume])
    assert f"resume={finished}.unfinished" == resume
    assert not [name for name in bucket.names("runs/") if ".unfinished/" in name]
    whole = fit([*words[:-1], f"runs_dir={tmp_path / 'whole'}"])
    assert losses(local_copy(finished)) == losses(whole)


def test_a_pipeline_that_was_stopped_in_its_fit_resumes_it(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    fitted = [
        word for word in words_of_a_fit(tmp_path, tiny_encoder) if not word.startswith("dataset.")
    ]
    words = ("pipeline", "run", *fitted, "sample.papers=300", "evaluate.draws=0")
    with start(*words, cwd=tmp_path) as (child, terminal):
        terminal.read_until("epoch 2 of 6: ")
        child.send_signal(signal.SIGINT)
        terminal.read_rest()
        assert child.wait(timeout=200) == 130
    assert terminal.lines[-1] == (
        "interrupted in stage train: run the same command again, and it is resumed."
    )
    (unfinished,) = tmp_path.glob("*.unfinished")
    with start(*words, cwd=tmp_path) as (child, terminal):
        terminal.read_rest()
        assert child.wait(timeout=200) == 0
    assert f"resuming {unfinished.name}" in terminal.shown
    assert not unfinished.exists()
    whole = fit([*fitted, f"dataset.path={tmp_path / 'dataset'}", f"runs_dir={tmp_path / 'whole'}"])
    assert losses(tmp_path / "run") == losses(whole)


def resume_elsewhere(unfinished: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "classmark", "train", f"resume={unfinished}"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def freeze(child: subprocess.Popen[bytes]) -> None:
    """Stop a process where it is: it holds what it holds, and gets no further."""
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)


def test_a_run_is_fitted_by_one_process_at_a_time_and_a_killed_one_is_in_nobodys_way(
    papers: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = [*words_of_a_fit(papers, tiny_encoder), f"runs_dir={runs}"]
    with start("train", *words, cwd=tmp_path) as (child, terminal):
        terminal.read_until("epoch 2 of 6: ")
        freeze(child)
        (unfinished,) = (path for path in runs.iterdir() if path.suffix == ".unfinished")
        refused = [resume_elsewhere(unfinished)]
    with start("train", f"resume={unfinished}", cwd=tmp_path) as (child, terminal):
        terminal.read_until("of 6: ")
        freeze(child)
        refused.append(resume_elsewhere(unfinished))
    for one in refused:
        assert one.returncode == 1
        assert one.stdout == ""
        assert one.stderr.splitlines() == [
            f"error: another run is at work in {unfinished}. Wait for it, or begin a new run."
        ]
    again = resume_elsewhere(unfinished)
    assert again.returncode == 0, again.stderr
    finished = Path(again.stdout.strip())
    assert finished.name == unfinished.name.removesuffix(".unfinished")
    assert {"lock", "run.json"}.isdisjoint(path.name for path in finished.iterdir())
    assert len(losses(finished)) == len(set(losses(finished)))
    late = resume_elsewhere(unfinished)
    assert (late.returncode, late.stderr.count("\n")) == (2, 1)
    assert not unfinished.exists()


def test_an_encoder_that_is_nowhere_is_one_line_that_says_what_was_tried(
    papers: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "classmark", "train", "experiment=optimized_distilbert",
         f"dataset.path={papers}", f"runs_dir={tmp_path / 'runs'}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        # Nothing listens on the discard port of this machine.
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for part in (
        "no encoder 'distilbert-base-uncased': tried the folder distilbert-base-uncased",
        "the cache of the hub (not in it)",
        "the hub http://127.0.0.1:9 (",
        "Give model.encoder=packaged",
    ):
        assert part in line
    assert done.stderr.splitlines()[-1] == line
    assert not (tmp_path / "runs").exists()


def test_the_extra_is_named_where_torch_is_missing(
    papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # Python finds none then
    result = CliRunner().invoke(app, ["train", "model=transformer", f"dataset.path={papers}"])
    assert result.exit_code == 1
    assert "pip install 'classmark[deep]'" in " ".join(result.stderr.split())
