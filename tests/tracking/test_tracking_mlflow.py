"""MLflow as a tracker: a real store keeps all of a run, and one that is down stops nothing."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from start_of_a_run import START, kill_a_fit

from classmark.errors import TrackerDown
from classmark.tracking import (
    MlflowStore,
    MlflowTracker,
    RunInfo,
    Tracker,
    Trackers,
    child,
    mlflow_writer,
)
from recording import Recording

with_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")

RUN = RunInfo(
    name="linear-1",
    start=START,
    config={"seed": 7, "model": {"rate": 0.1, "period_weights": {}}, "tracker": {"mlflow": "auto"}},
    hardware={"cpu": "a slow one"},
)
PATIENCE_S = 240.0


def query(database: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def pairs(database: Path, table: str) -> dict[str, str]:
    return {str(k): str(v) for k, v in query(database, f"SELECT key, value FROM {table}")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run in MLflow's store, and one whose fit went away without a word."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "r.svg").write_text("<svg/>")
    tracker = MlflowTracker(MlflowStore.beside(runs, "classmark"), PATIENCE_S)
    tracker.start(RUN)
    for step in range(2500):
        tracker.metrics({"train/loss": 1 / (step + 1)}, step=step, epoch=step // 1000)
    tracker.artifact(runs / "r.svg", "files")
    tracker.figure("reliability", runs / "r.svg")
    tracker.metrics({"test/top_1": 0.75, "odd": float("nan")}, step=0)
    tracker.finish("finished")
    return runs


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import and to make its database
def test_the_store_has_all_that_was_said(kept: Path) -> None:
    database = kept / "mlflow.db"
    assert query(database, "SELECT name, status FROM runs") == [("linear-1", "FINISHED")]
    assert pairs(database, "params") == {
        "seed": "7",
        "model.rate": "0.1",
        "model.period_weights": "{}",
    }
    tags = pairs(database, "tags")
    assert tags["dataset_digest"] == "d" * 64
    assert (tags["git_commit"], tags["git_dirty"]) == ("c0ffee", "true")
    assert tags["hardware.cpu"] == "a slow one"
    assert tags["mlflow.source.name"] == "classmark train in-a-test"
    steps = query(database, "SELECT step, value FROM metrics WHERE key='train/loss' ORDER BY step")
    assert steps == [(step, 1 / (step + 1)) for step in range(2500)]
    latest = dict(query(database, "SELECT key, value FROM latest_metrics"))
    assert latest["test/top_1"] == 0.75
    assert latest["epoch"] == 2
    assert query(database, "SELECT name, digest FROM datasets") == [("data", "d" * 36)]
    files = {
        str(path.relative_to(kept / "mlflow-artifacts")).split(os.sep, 2)[2]
        for path in (kept / "mlflow-artifacts").rglob("*.svg")
    }
    assert files == {"files/r.svg", "figures/r.svg"}


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import
@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process that is no child of ours")
def test_a_fit_that_is_killed_is_not_running_for_ever(kept: Path) -> None:
    kill_a_fit(f"MlflowTracker(MlflowStore.beside(Path({str(kept)!r}), 'classmark'), 60)")
    status = query(kept / "mlflow.db", "SELECT status FROM runs WHERE name='killed'")
    assert status == [("KILLED",)]


@pytest.fixture(scope="module")
def warnings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return what is said of stores that are down, each beside a tracker that is not."""
    folder = tmp_path_factory.mktemp("down")
    (folder / "corrupt.db").write_bytes(b"no database at all, but long enough to be one" * 100)
    (folder / "file").write_text("")
    with ExitStack() as stack:
        lock = stack.enter_context(closing(sqlite3.connect(folder / "locked.db")))
        lock.execute("BEGIN EXCLUSIVE")
        deaf, gone = (stack.enter_context(socket.socket()) for _ in range(2))
        for listener in (deaf, gone):
            listener.bind(("127.0.0.1", 0))
        deaf.listen()
        uris = {
            "refuses": f"http://127.0.0.1:{gone.getsockname()[1]}",
            "hangs": f"http://127.0.0.1:{deaf.getsockname()[1]}",
            "locked": f"sqlite:///{folder / 'locked.db'}",
            "corrupt": f"sqlite:///{folder / 'corrupt.db'}",
            "no folder": f"sqlite:///{folder / 'file' / 'mlflow.db'}",
        }
        return use_all(uris, PATIENCE_S)


def use_all(uris: dict[str, str], patience_s: float) -> dict[str, list[str]]:
    """Keep a run in every store at once, so that their waiting is one; return the warnings."""
    said = {name: Recording() for name in uris}
    everyone = []
    for name, uri in uris.items():
        trackers: list[Tracker] = [MlflowTracker(MlflowStore(uri, "", "classmark"), patience_s)]
        everyone.append(Trackers(trackers, said[name]))
    for one in everyone:
        one.start(RUN)
    for step in range(2000):
        for one in everyone:
            one.metrics({"loss": 1.0}, step=step)
    for one in everyone:
        one.finish("finished")
        one.finish("finished")
    return {name: recording.warnings for name, recording in said.items()}


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import, and a server is waited for
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuses", r"http://127.0.0.1:\d+ is down \(\[Errno \d+\] Connection refused\)"),
        ("hangs", r"http://127.0.0.1:\d+ is down \(timed out\)"),
        ("locked", r"locked\.db is down \(database is locked\)"),
        ("corrupt", r"corrupt\.db is down \(file is not a database\)"),
        ("no folder", r"mlflow\.db is down \(\[Errno \d+\] .*file'\)"),
    ],
)
def test_a_store_that_is_down_is_one_warning(
    warnings: dict[str, list[str]], name: str, reason: str
) -> None:
    (line,) = warnings[name]
    assert re.match(rf"warning: MLflow at .*{reason}; the run goes on without it\.$", line), line


def test_a_process_that_gives_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "import sys, threading; threading.Event().wait()")
    (line,) = use_all({"hangs": "http://localhost"}, 0.1)["hangs"]
    assert "is down (no answer within 0.1 s)" in line


def test_a_process_that_does_not_keep_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "import sys, threading; threading.Event().wait()")
    monkeypatch.setattr(child, "_QUEUE_LENGTH", 3)
    tracker = MlflowTracker(MlflowStore("http://localhost", "", "x"), 5)
    tracker.start(RUN)
    recording = Recording()
    trackers = Trackers([tracker], recording)
    for name in range(1000):
        trackers.artifact(Path("x" * 1000), str(name))
    assert "is down (3 messages wait for it)" in recording.warnings[0]


def test_a_process_that_breaks_without_a_word_is_told_by_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_instead(monkeypatch, "import sys; sys.exit(3)")
    (line,) = use_all({"breaks": "http://localhost"}, 60)["breaks"]
    assert "is down (its process ended with code 3)" in line


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(child, "_PYTHON", (sys.executable, "-c", code))


def test_who_failed_or_was_stopped_does_not_wait_for_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_instead(monkeypatch, "import sys, threading; threading.Event().wait()")
    monkeypatch.setattr("classmark.tracking.child._SHORT_PATIENCE_S", 0.2)
    tracker = MlflowTracker(MlflowStore.beside(tmp_path, "x"), PATIENCE_S)
    tracker.start(RUN)
    with pytest.raises(TrackerDown, match=r"no answer within 0\.2 s"):
        tracker.finish("stopped")


def test_a_store_that_cannot_be_opened_is_found_out_before_mlflow_tries_for_minutes(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        mlflow_writer.check_sqlite(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow_writer.check_sqlite("http://127.0.0.1:9")


def test_the_first_cause_is_what_is_said() -> None:
    page = RuntimeError("a page of words")
    page.__cause__ = OSError("no\n route")
    assert child.first_cause(page) == "no route"
    assert child.first_cause(ValueError()) == "ValueError"
