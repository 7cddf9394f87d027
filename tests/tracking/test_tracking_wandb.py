"""W&B as a tracker: a file or a server keeps all of a run, and one that is down stops nothing."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from start_of_a_run import START, kill_a_fit

from classmark.errors import OutputBusy, RunNotFound, TrackerDown
from classmark.tracking import RunInfo, Trackers, WandbPlace, WandbTracker
from classmark.tracking.wandb import run_name, sync_run, upload_problem, waiting_runs
from recording import Recording
from wandb_file import read_records, values
from wandb_server import Run, WandbServer, wandb_server

with_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="W&B is not installed")

NAME = "linear-20260102-030405"
KEY = "a1b2c3d4e5" * 4
PATIENCE_S = 120.0
STEPS = 1200
CONFIG = {"seed": 7, "model": {"rate": 0.1}, "tracker": {"wandb": "auto"}}


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_this_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide keys, servers and settings of W&B that this machine may have."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", str(home / "netrc"))
        patch.setenv("WANDB_CONFIG_DIR", str(home))
        yield


def keep(runs: Path, url: str = "", *, mode: str = "auto", patience_s: float = PATIENCE_S,
         halfway: Any = None) -> list[str]:  # fmt: skip
    """Keep a run in W&B as a fit does; return the warnings. ``halfway`` is called in the middle."""
    folder = runs / NAME
    (folder / "weights").mkdir(parents=True)
    for name in ("r.svg", "run.txt", "weights/w.npy", "manifest.json"):
        (folder / name).write_text(f"<svg>{name}</svg>")
    recording = Recording()
    tracker = WandbTracker(WandbPlace.beside(runs, url, "papers", mode), patience_s)
    trackers = Trackers([tracker], recording)
    manifest = folder / "manifest.json"
    trackers.start(RunInfo(name=NAME, start=START, config=CONFIG, manifest=manifest))
    for step in range(STEPS):
        trackers.metrics({"model/loss": 1 / (step + 1)}, step=step, epoch=step // 1000)
    trackers.metrics({"test/top_1": 0.75, "test/odd": float("nan")}, step=0)
    if halfway:
        halfway()
    trackers.artifact(folder / "run.txt")
    trackers.figure("reliability", folder / "r.svg")
    trackers.model(folder, [folder / "run.txt", folder / "weights" / "w.npy"])
    trackers.finish("finished")
    return recording.warnings


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs with one that was kept without a key."""
    runs = tmp_path_factory.mktemp("runs")
    assert keep(runs) == []
    return runs


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start
def test_a_run_without_a_key_is_kept_whole_in_a_file(offline: Path) -> None:
    (folder,) = waiting_runs(offline)
    assert run_name(folder) == NAME
    (file,) = folder.glob("*.wandb")
    records = list(read_records(file))
    (run,) = (one.run for one in records if one.WhichOneof("record_type") == "run")
    assert (run.display_name, run.project) == (NAME, "papers")
    assert list(run.tags) == ["linear"]
    assert run.notes == "classmark train in-a-test"
    config = values(run.config.update)
    assert config["model"] == {"rate": 0.1}
    assert config["commit"] == "c0ffee+"
    assert "tracker" not in config
    rows = [
        values(one.history.item) for one in records if one.WhichOneof("record_type") == "history"
    ]
    losses = [(row["step"], row["model/loss"]) for row in rows if "model/loss" in row]
    assert losses == [(step, 1 / (step + 1)) for step in range(STEPS)]
    assert rows[-2]["test/top_1"] == 0.75
    assert rows[-1]["figures/reliability._type"] == "html-file"
    (end,) = (one.exit for one in records if one.WhichOneof("record_type") == "exit")
    assert end.exit_code == 0
    assert (folder / "files" / "run" / "run.txt").read_text() == "<svg>run.txt</svg>"


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start
def test_dataset_and_model_are_artifacts_with_aliases(offline: Path) -> None:
    (folder,) = waiting_runs(offline)
    (file,) = folder.glob("*.wandb")
    artifacts = {
        one.artifact.type: one.artifact
        for one in read_records(file)
        if one.WhichOneof("record_type") == "artifact"
    }
    dataset, model = artifacts["dataset"], artifacts["model"]
    assert (dataset.name, sorted(dataset.aliases)) == ("data", ["d" * 12, "latest"])
    assert dataset.use_after_commit
    assert (model.name, sorted(model.aliases)) == ("papers-linear", ["latest", NAME])
    assert not model.use_after_commit
    assert {one.path for one in model.manifest.contents} == {"run.txt", "weights/w.npy"}


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start, twice
def test_a_run_that_waits_is_uploaded_whole_and_once(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(shutil.copytree(offline, tmp_path / "runs", symlinks=True))
    (folder,) = waiting_runs(runs)
    with pytest.raises(TrackerDown, match=r"No API key configured.*It is still in .*WANDB_API_KEY"):
        sync_run(WandbPlace.beside(runs, "http://127.0.0.1:9"), folder)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:
        sync_run(WandbPlace.beside(runs, server.url), folder)
    check(server)
    assert waiting_runs(runs) == []
    assert not WandbPlace.beside(runs).staging(NAME).exists()


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start
def test_a_file_that_was_cut_off_is_uploaded_as_far_as_it_goes(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(shutil.copytree(offline, tmp_path / "runs", symlinks=True))
    (folder,) = waiting_runs(runs)
    (file,) = folder.glob("*.wandb")
    os.truncate(file, file.stat().st_size // 2 + 3)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    said = r"incomplete record; .* has all records before it"
    with wandb_server() as server, pytest.raises(TrackerDown, match=said):
        sync_run(WandbPlace.beside(runs, server.url), folder)
    (run,) = server.runs.values()
    losses = [row["model/loss"] for row in run.history if "model/loss" in row]
    assert losses == [1 / (step + 1) for step in range(len(losses))]
    assert 0 < len(losses) < STEPS
    assert run.exit_code == 1


def check(server: WandbServer) -> None:
    """Check that a server has all of a run."""
    ((run_id, run),) = server.runs.items()
    check_run(run)
    dataset, model = server.artifacts["data"], server.artifacts["papers-linear"]
    assert (dataset.type, sorted(dataset.aliases)) == ("dataset", ["d" * 12, "latest"])
    assert (dataset.used_by, dataset.made_by) == ({run_id}, set())
    assert (model.type, sorted(model.aliases)) == ("model", ["latest", NAME])
    assert (model.used_by, model.made_by) == (set(), {run_id})
    assert model.metadata["dataset_digest"] == "d" * 64
    assert model.metadata["test/top_1"] == 0.75
    assert model.files == {
        name: f"<svg>{name}</svg>".encode() for name in ("run.txt", "weights/w.npy")
    }
    assert {one.state for one in server.artifacts.values()} == {"COMMITTED"}
    assert server.keys == {KEY}
    assert server.unknown == []


def check_run(run: Run) -> None:
    assert (run.name, run.project, run.exit_code) == (NAME, "papers", 0)
    assert run.config["model"] == {"rate": 0.1}
    losses = [(row["step"], row["model/loss"]) for row in run.history if "model/loss" in row]
    assert losses == [(step, 1 / (step + 1)) for step in range(STEPS)]
    assert run.summary["test/top_1"] == 0.75
    assert run.files["run/run.txt"] == b"<svg>run.txt</svg>"
    picture = run.files[run.summary["figures/reliability"]["path"]]
    assert picture == b"<svg>r.svg</svg>"


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start
def test_with_a_key_the_server_has_all_and_no_file_has_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:
        assert keep(tmp_path, server.url) == []
    check(server)
    assert waiting_runs(tmp_path) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start, three times
def test_what_a_server_has_not_taken_is_one_warning_and_can_be_uploaded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:

        def refuse() -> None:
            server.begun.wait(PATIENCE_S)
            server.refuses = True

        (line,) = keep(tmp_path, server.url, halfway=refuse)
    assert line.startswith(f"warning: W&B at {server.url} is down (")
    assert KEY not in line
    (folder,) = waiting_runs(tmp_path)
    assert folder.name.startswith("run-")
    with wandb_server() as server:
        sync_run(WandbPlace.beside(tmp_path, server.url), folder)
    check_run(next(iter(server.runs.values())))
    assert waiting_runs(tmp_path) == []


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start, three times
def test_a_server_that_hangs_in_the_middle_is_given_up_and_the_run_can_be_uploaded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with wandb_server() as server:

        def hang() -> None:
            server.begun.wait(PATIENCE_S)
            (folder,) = waiting_runs(tmp_path)
            with pytest.raises(OutputBusy, match="upload the run when its fit has ended"):
                sync_run(WandbPlace.beside(tmp_path, server.url), folder)
            server.lock.acquire()

        (line,) = keep(tmp_path, server.url, patience_s=5, halfway=hang)
        server.lock.release()
        assert line == (
            f"warning: W&B at {server.url} is down (no answer within 5 s); "
            "the run goes on without it."
        )
        (folder,) = waiting_runs(tmp_path)
        sync_run(WandbPlace.beside(tmp_path, server.url), folder)
    assert waiting_runs(tmp_path) == []


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start, and a server is waited for
@pytest.mark.parametrize(
    ("listens", "reason"), [(False, "connection refused"), (True, "Timed out|deadline|no answer")]
)
def test_a_server_that_is_down_or_hangs_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool, reason: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB__GRAPHQL_TIMEOUT_SECONDS", "1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if listens:
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        (line,) = keep(tmp_path, url)
    assert line.startswith(f"warning: W&B at {url} is down (")
    assert any(words in line for words in reason.split("|")), line
    assert line.endswith("; the run goes on without it.")
    assert KEY not in line


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start
def test_a_key_that_is_none_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret word")
    (line,) = keep(tmp_path, "http://127.0.0.1:9")
    assert "W&B at http://127.0.0.1:9 is down (" in line
    assert "secret" not in line
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret word" in path.read_bytes()]


@with_wandb
@pytest.mark.slow  # reason: W&B takes seconds to start
@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process that is no child of ours")
def test_a_fit_that_is_killed_is_not_running_for_ever(tmp_path: Path) -> None:
    kill_a_fit(f"WandbTracker(WandbPlace.beside(Path({str(tmp_path)!r}), mode='offline'), 60)")
    (folder,) = waiting_runs(tmp_path)
    (file,) = folder.glob("*.wandb")
    (end,) = (one.exit for one in read_records(file) if one.WhichOneof("record_type") == "exit")
    assert end.exit_code == 130


def test_a_key_is_found_where_wandb_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, ours = WandbPlace.beside(tmp_path), WandbPlace.beside(tmp_path, "http://ours:8080")
    assert not own.has_key()
    (tmp_path / "netrc").write_text(f"machine ours:8080 login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert (own.has_key(), ours.has_key()) == (False, True)
    (tmp_path / "netrc").write_text("machine")
    assert not ours.has_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert own.has_key()


@pytest.mark.parametrize(
    ("key", "variable", "mode", "chosen"),
    [
        ("", "", "auto", "offline"),
        (KEY, "", "auto", "online"),
        (KEY, "offline", "auto", ""),
        (KEY, "", "offline", "offline"),
        ("", "offline", "online", "online"),
    ],
)
def test_a_run_is_online_with_a_key_unless_a_setting_says_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    variable: str,
    mode: str,
    chosen: str,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_MODE", variable)
    assert WandbPlace.beside(tmp_path, mode=mode).chosen_mode() == chosen


def test_the_problem_of_an_upload_is_the_first_error_of_its_log_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert upload_problem(tmp_path) == ""
    log = tmp_path / "debug-internal.log"
    log.write_text('{"level":"INFO","msg":"api: retrying error"}\ntorn\n')
    assert upload_problem(tmp_path) == ""
    with log.open("a") as file:
        file.write(f'{{"level":"ERROR+4","msg":"fatal","error":"no {KEY}\\nmore"}}\n')
        file.write('{"level":"ERROR","msg":"a later one"}\n')
    assert upload_problem(tmp_path) == "fatal: no ***"


@with_wandb
def test_runs_are_looked_for_where_w_and_b_keeps_them(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"there is no .*wandb. Train with tracker=wandb"):
        waiting_runs(tmp_path)
    (tmp_path / "wandb").mkdir()
    assert waiting_runs(tmp_path) == []


def test_a_tracker_that_was_never_started_says_so(tmp_path: Path) -> None:
    tracker = WandbTracker(WandbPlace.beside(tmp_path), 5)
    assert tracker.name == "W&B"
    with pytest.raises(TrackerDown, match="never started"):
        tracker.finish("finished")
