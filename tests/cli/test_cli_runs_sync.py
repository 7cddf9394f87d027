"""Fits that W&B keeps, from the command line: alone, beside other trackers, uploaded afterwards."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset
from wandb_server import WandbServer, wandb_server

pytestmark = [
    pytest.mark.slow,  # reason: fits models, and W&B takes seconds to start
    pytest.mark.skipif(find_spec("wandb") is None, reason="W&B is not installed"),
]

KEY = "a1b2c3d4e5" * 4
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "track-runs.md"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def train(runs: Path, papers: Path, *more: str) -> Result:
    words = ("experiment=debug", f"dataset.path={papers}", "model.min_papers=3")
    return run("train", *words, f"runs_dir={runs}", *more)


def shown(text: str, runs: Path, url: str) -> str:
    """Return an output as the page shows it: its names instead of those of this test."""
    text = text.replace(url, "http://localhost:8080").replace(str(runs), "runs")
    text = text.replace(url.removeprefix("http://"), "localhost:8080")
    text = re.sub(r"run-\d{8}_\d{6}", "run-20260102_030406", text)
    return re.sub(r"linear-\d{8}-\d{6}(-\w{8})?", r"linear-20260102-030405", text)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "papers"
    sample_dataset(folder, SampleConfig(papers=300, categories=24))
    return folder


@pytest.fixture(autouse=True)
def _nothing_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with wandb_server() as server:
        yield server


def test_a_fit_without_a_key_is_uploaded_later_and_can_be_exported_from_there(
    papers: Path, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    trained = train(runs, papers, "tracker=wandb")
    assert trained.exit_code == 0, trained.stderr
    assert "handing the run to W&B" in trained.stderr
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    without = run("runs", "sync", "--runs-dir", runs)
    assert without.exit_code == 1
    assert shown(without.stderr, runs, server.url) in PAGE.read_text("utf-8")
    assert server.runs == {}
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    synced = run("runs", "sync", "--runs-dir", runs)
    assert synced.exit_code == 0, synced.stderr
    assert f"$ classmark runs sync\n{shown(synced.stdout, runs, server.url)}" in PAGE.read_text(
        "utf-8"
    )
    again = run("runs", "sync", "--runs-dir", runs)
    assert (again.stdout, again.exit_code) == ("", 0)
    assert f"no run in {runs} waits to be uploaded" in again.stderr
    model = server.artifacts["classmark-linear"]
    for name, content in model.files.items():
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    exported = run(
        "export", tmp_path / "got", "--dataset", papers, "--output", tmp_path / "mine-1.0"
    )
    assert exported.exit_code == 0, exported.stderr
    assert (tmp_path / "mine-1.0" / "bundle.json").is_file()


def measured(runs: Path, name: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(
        run("runs", "show", name, "--runs-dir", runs, "--json").stdout
    )["metrics"]
    return found


def in_mlflow(runs: Path) -> dict[str, float]:
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection:
        return dict(connection.execute("SELECT key, value FROM latest_metrics"))


@pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
def test_several_trackers_keep_the_same_numbers_of_one_fit(
    papers: Path, tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    trained = train(tmp_path, papers, "tracker=[csv,mlflow,wandb]", "tracker.patience_s=240")
    assert trained.exit_code == 0, trained.stderr
    assert "warning" not in trained.stderr
    assert "handing the run to MLflow and W&B" in trained.stderr
    metrics = measured(tmp_path, Path(trained.stdout.strip()).name)
    assert in_mlflow(tmp_path).items() >= metrics.items()
    (kept,) = server.runs.values()
    assert kept.summary.items() >= metrics.items()
    assert kept.config["model"]["epochs"] == 1
    assert KEY not in trained.stderr + trained.stdout
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


@pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
def test_a_tracker_that_is_down_is_one_warning_and_the_others_keep_the_fit(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with socket.socket() as closed:  # bound, so that nothing else listens there
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        choice = ("tracker=[csv,mlflow,wandb]", f"tracker.wandb_url={url}")
        trained = train(tmp_path, papers, *choice, "tracker.patience_s=240")
    assert trained.exit_code == 0, trained.stderr
    (line,) = [line for line in trained.stderr.splitlines() if "warning" in line]
    assert shown(line, tmp_path, url) in PAGE.read_text("utf-8")
    metrics = measured(tmp_path, Path(trained.stdout.strip()).name)
    assert in_mlflow(tmp_path).items() >= metrics.items()


def test_without_wandb_the_extra_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmark.tracking.wandb.find_spec", lambda _: None)
    refused = run("train", "tracker=wandb", "dataset.path=x")
    assert refused.exit_code == 1
    assert "tracker=wandb needs packages" in refused.stderr
    assert "pip install 'classmark[wandb]'" in refused.stderr
    assert "pip install 'classmark[wandb]'" in run("runs", "sync", "--runs-dir", tmp_path).stderr


def test_where_w_and_b_kept_nothing_there_is_nothing_to_upload(tmp_path: Path) -> None:
    result = run("runs", "sync", "--runs-dir", tmp_path)
    assert result.exit_code == 1
    assert f"error: there is no {tmp_path / 'wandb'}. Train with tracker=wandb" in result.stderr
