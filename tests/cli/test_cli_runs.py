"""``classmark runs``: what run folders say, without a tracker, and MLflow's page over them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from typer.testing import CliRunner, Result

from classmark.cli import app as apps
from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset
from classmark.tracking import config as tracker_config
from classmark.tracking import page

pytestmark = pytest.mark.slow  # reason: fits models

with_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")

if os.name != "nt":
    from processes import unmeasured_environment


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def runs(runs_dir: Path, command: str, *arguments: str | Path) -> Result:
    return run("runs", command, *arguments, "--runs-dir", runs_dir)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two runs, and what is none."""
    work = tmp_path_factory.mktemp("work")
    sample_dataset(work / "papers", SampleConfig(papers=300, categories=24))
    for seed in (7, 8):
        words = ("experiment=debug", f"dataset.path={work / 'papers'}", "model.min_papers=3")
        trained = run("train", *words, f"runs_dir={work / 'runs'}", f"seed={seed}")
        Path(trained.stdout.strip()).rename(work / "runs" / f"seed-{seed}")
    (work / "runs" / "notes").mkdir()
    return work / "runs"


def test_the_list_has_a_line_a_run_with_its_results(runs_dir: Path) -> None:
    result = runs(runs_dir, "list")
    head, *lines = [line.split() for line in result.stdout.splitlines()]
    assert " ".join(head) == "name kind date dataset top-1 raw ECE ECE seconds folder"
    assert {line[0] for line in lines} == {"seed-7", "seed-8"}
    assert all(line[1] == "linear" and line[3] == "papers" for line in lines)
    seen = json.loads(runs(runs_dir, "list", "--json").stdout)
    assert [f"{one['metrics']['test/top_1']:.4f}" for one in seen] == [line[4] for line in lines]
    assert [Path(one["folder"]) for one in seen] == [runs_dir / one["name"] for one in seen]
    assert seen[0]["date"] >= seen[1]["date"]


def test_a_run_of_an_older_version_is_measured_by_its_scores(
    runs_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs_dir / "seed-7", tmp_path / "old")
    (tmp_path / "old" / "metrics.csv").unlink()
    (old,) = json.loads(runs(tmp_path, "list", "--json").stdout)
    (new,) = [
        one
        for one in json.loads(runs(runs_dir, "list", "--json").stdout)
        if one["name"] == "seed-7"
    ]
    assert old["metrics"]["test/top_1"] == new["metrics"]["test/top_1"]
    assert old["metrics"]["test/ece"] == new["metrics"]["test/ece"]
    shutil.rmtree(tmp_path / "old" / "scores")
    assert runs(tmp_path, "list").stdout.splitlines()[1].split()[4:6] == ["-", "-"]


def test_a_run_is_shown_by_name_and_by_path(runs_dir: Path) -> None:
    by_name = json.loads(runs(runs_dir, "show", "seed-7", "--json").stdout)
    by_path = json.loads(run("runs", "show", runs_dir / "seed-7", "--json").stdout)
    assert by_name == by_path
    assert by_name["config"]["seed"] == "7"
    assert by_name["metrics"]["model/loss"] > 0
    text = runs(runs_dir, "show", "seed-7").stdout
    assert "config.model.max_features" in text
    assert f"{by_name['metrics']['test/top_1']:.4f}" in text


def test_two_runs_are_compared_where_they_differ(runs_dir: Path) -> None:
    seen = json.loads(runs(runs_dir, "compare", "seed-7", "seed-8", "--json").stdout)
    assert seen["runs"] == ["seed-7", "seed-8"]
    assert seen["config"] == {"seed": ["7", "8"]}
    a, b = seen["metrics"]["test/ece"]
    rows = {
        line.split()[0]: line.split()[1:]
        for line in runs(runs_dir, "compare", "seed-7", "seed-8").stdout.splitlines()
    }
    assert rows["test/ece"] == [f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}"]
    assert rows["seed"] == ["7", "8"]


def test_a_number_that_one_run_lacks_is_a_dash(runs_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(runs_dir / "seed-7", tmp_path / "a")
    with (tmp_path / "a" / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("extra,1,,0.5\ntorn,1")
    config = tmp_path / "a" / "config.yaml"
    config.write_text(config.read_text() + "more: 1\n")
    lines = run("runs", "compare", runs_dir / "seed-7", tmp_path / "a").stdout.splitlines()
    assert [line.split() for line in lines if "extra" in line] == [["extra", "-", "0.5000"]]
    assert [line.split() for line in lines if "more" in line] == [["more", "-", "1"]]


OF_ANY_KIND = {
    "seed": 7,
    "dataset": "../papers",
    "dataset_digest": "0" * 64,
    "labels": ["cs.AI", "cs.LG"],
    "label_space": "arxiv",
    "generated": True,
    "commit": None,
    "packages": {"numpy": "2.3.0"},
    "python": "3.11.9",
    "platform": "Linux",
}
MODEL = {"name": "quick", "version": "1.0", "digest": "1" * 64, "kind": "linear", "folder": "../q"}
POINT = {
    "threshold": 0.4,
    "deep_share": 0.25,
    "accuracy": 0.75,
    "cpu_ms": 2.5,
    "cheaper": 4.0,
    "loss": 0.001,
}
OLD_CASCADE = {
    "kind": "cascade",
    "command": "classmark train model=cascade",
    **OF_ANY_KIND,
    "date": "2026-01-02T03:04:05+00:00",
    "fast": MODEL,
    "deep": {**MODEL, "name": "deep", "kind": "transformer"},
    "threshold": 0.4,
    "mix": None,
    "speeds": {"fast": 1000.0, "deep": 100.0},
    "chosen": {"valid": POINT, "test": {**POINT, "accuracy": 0.5}},
}
"""As classmark 0.1.0 wrote it: no version of the format, and no seconds."""


def write_old(folder: Path, provenance: Any) -> Path:
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    return folder


def test_a_run_of_a_cascade_is_listed_with_the_point_it_chose(tmp_path: Path) -> None:
    write_old(tmp_path / "both", OLD_CASCADE)
    result = runs(tmp_path, "list")
    assert (result.exit_code, result.stderr) == (0, "")
    (_, line) = result.stdout.splitlines()
    assert line.split()[:8] == [
        *("both", "cascade", "2026-01-02T03:04", "papers", "0.5000", "-", "-", "-")
    ]
    (seen,) = json.loads(runs(tmp_path, "list", "--json").stdout)
    assert seen["seconds"] is None
    assert seen["metrics"]["test/deep_share"] == 0.25


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("provenance.json", "{", "provenance.json: it is not JSON ("),
        ("provenance.json", "[]", "provenance.json: it holds [], it must be an object"),
        ("provenance.json", "{}", "provenance.json: 'features' is missing"),
        (
            "provenance.json",
            '{"format_version": 9}',
            "provenance.json: 'format_version' is 9, this",
        ),
        ("metrics.csv", "name,step,epoch,value\nvalid/loss,1,,much\n", "metrics.csv: "),
        ("scores/model-test.npz", "no table", "model-test.npz"),
    ],
)
def test_a_damaged_run_is_one_line_and_the_list_goes_on(
    tmp_path: Path, file: str, content: str, problem: str
) -> None:
    for name in ("good", "bad"):
        write_old(tmp_path / name, OLD_CASCADE)
    place = tmp_path / "bad" / file
    place.parent.mkdir(exist_ok=True)
    if file.startswith("scores"):
        linear = {"command": "", **OF_ANY_KIND, "features": {"parent": 2, "kept": 1}, "date": ""}
        (tmp_path / "bad" / "provenance.json").write_text(json.dumps(linear))
    place.write_text(content)
    result = runs(tmp_path, "list")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "good"]
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "bad") in line
    assert problem in line
    assert [one["name"] for one in json.loads(runs(tmp_path, "list", "--json").stdout)] == ["good"]
    shown = runs(tmp_path, "show", "bad", "--json")
    assert (shown.exit_code, shown.stderr) == (1, result.stderr)


@pytest.mark.parametrize("content", [None, "a: [", "[1, 2]"])
def test_a_damaged_configuration_is_one_line(
    runs_dir: Path, tmp_path: Path, content: str | None
) -> None:
    shutil.copytree(runs_dir / "seed-7", tmp_path / "a")
    file = tmp_path / "a" / "config.yaml"
    file.unlink() if content is None else file.write_text(content)
    result = runs(tmp_path, "show", "a")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: the run {tmp_path / 'a'} cannot be read: config.yaml: ")


def test_what_is_not_there_is_named(runs_dir: Path, tmp_path: Path) -> None:
    result = runs(runs_dir, "show", "seed-9")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: 'seed-9' is neither a run in {runs_dir} nor")
    assert "is not a folder of runs" in runs(tmp_path / "absent", "list").stderr
    nothing = runs(tmp_path, "list")
    assert (nothing.exit_code, nothing.stderr) == (0, f"no run in {tmp_path}.\n")


def test_without_hydra_a_configuration_asks_for_the_extra(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmark.tracking.runs.find_spec", lambda _: None)
    result = runs(runs_dir, "show", "seed-7")
    assert result.exit_code == 1
    assert "pip install 'classmark[train]'" in result.stderr


def test_without_mlflow_its_page_asks_for_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracker_config, "find_spec", lambda _: None)
    result = runs(tmp_path, "open")
    assert result.exit_code == 1
    assert "pip install 'classmark[track]'" in result.stderr
    asked = run("train", "tracker=mlflow", "dataset.path=x")
    assert "tracker=mlflow needs packages" in asked.stderr


@with_mlflow
def test_runs_alone_opens_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("runs")
    assert result.exit_code == 1
    assert "there is no runs/mlflow.db. Train with MLflow installed" in result.stderr
    assert apps.VERBS["runs"].help in run("--help").stdout


@with_mlflow
def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = runs(tmp_path, "open", "--port", str(port))
    assert result.exit_code == 1
    assert f"error: cannot listen on 127.0.0.1:{port}: " in result.stderr


@with_mlflow
def test_a_page_that_does_not_start_says_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"")
    code = "import sys; sys.exit('one\\nno such table')"
    monkeypatch.setattr(page, "_COMMAND", (sys.executable, "-c", code))
    result = runs(tmp_path, "open", "--port", "0")
    assert result.exit_code == 1
    assert "error: MLflow's page does not start: no such table. Upgrade" in result.stderr


@with_mlflow
@pytest.mark.skipif(os.name == "nt", reason="SIGINT is sent")
def test_a_fit_is_on_mlflows_page_until_control_c(runs_dir: Path, tmp_path: Path) -> None:
    data = f"dataset.path={runs_dir.parent / 'papers'}"
    words = ("experiment=debug", data, f"runs_dir={tmp_path}", "tracker=mlflow")
    trained = run("train", *words, "tracker.patience_s=240")
    assert trained.exit_code == 0
    assert "warning" not in trained.stderr
    folder = Path(trained.stdout.strip())
    page_command = ("runs", "open", "--port", "0", "--no-browser")
    with subprocess.Popen(
        [sys.executable, "-m", "classmark", *page_command, "--runs-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=unmeasured_environment(),
    ) as opened:
        assert opened.stdout is not None
        address, _, table = opened.stdout.readline().split()[0].partition("/#")
        assert table == "/experiments/1/runs"
        with urlopen(address, timeout=200) as answer:
            assert b"<!doctype html>" in answer.read()
        (kept,) = ask(f"{address}/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})["runs"]
        # What the page itself asks for a run; it needs a package that MLflow does not bound below.
        query = '{ mlflowGetExperiment(input: {experimentId: "1"}) { experiment { name } } }'
        shown = ask(f"{address}/graphql", {"query": query})
        opened.send_signal(signal.SIGINT)
        assert opened.wait(timeout=200) == 0
    with pytest.raises(OSError, match="refused"):
        urlopen(address, timeout=200)
    assert shown["data"]["mlflowGetExperiment"]["experiment"]["name"] == "classmark"
    assert kept["info"]["run_name"] == folder.name
    assert kept["info"]["status"] == "FINISHED"
    metrics = {one["key"]: one["value"] for one in kept["data"]["metrics"]}
    seen = json.loads(runs(tmp_path, "show", folder.name, "--json").stdout)
    assert {k: v for k, v in metrics.items() if k != "epoch"} == pytest.approx(seen["metrics"])
    artifacts = {path.name for path in tmp_path.glob("mlflow-artifacts/*/artifacts/**/*.*")}
    assert {"config.yaml", "provenance.json", "test-reliability.svg", "test-confusion.csv"} <= (
        artifacts
    )


def ask(address: str, what: dict[str, Any]) -> Any:
    """Return what MLflow answers."""
    request = Request(address, json.dumps(what).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=200) as answer:
        return json.load(answer)
