"""MLflow's page: waited for until it answers, and ended with all that it started.

Where MLflow itself would only cost time, a small server stands in for it: a real process that is
started in the same way and answers on the wire.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from contextlib import closing
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from classmark.errors import ListenFailed, RunNotFound, TrackerDown
from classmark.tracking.page import HOST, serve_page

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for processes of others")

END_S = 200.0
SERVER = """
import json, os, signal, socket, subprocess, sys
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
how = json.load(open(os.environ["FAKE_MLFLOW"]))
if "last_words" in how:
    sys.exit(how["last_words"])
stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
code = "print('up', flush=True); signal.pause()"
child = subprocess.Popen(
    [sys.executable, "-c", (stubborn if how.get("stubborn_child") else "import signal; ") + code],
    stdout=subprocess.PIPE,
)
child.stdout.readline()
if how.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(words["--port"])))
seen = {"pids": [os.getpid(), child.pid], "words": words,
        "telemetry": os.environ.get("MLFLOW_DISABLE_TELEMETRY")}
for said in [*how.get("first", []), *["HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nOK"] * 99]:
    peer, _ = listener.accept()
    with peer:
        asked = peer.recv(65536).split(b"\\r\\n")[0].decode()
        seen.setdefault("asked", []).append(asked)
        json.dump(seen, open(os.environ["FAKE_MLFLOW"] + ".seen", "w"))
        peer.sendall(said.encode())
    if asked.startswith("GET /end"):
        child.kill()
        sys.exit(0)
"""


class FakeMlflow:
    """A package ``mlflow`` whose server follows ``how.json`` and writes down what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._how = folder / "how.json"
        package = folder / "mlflow"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(SERVER)
        self.behave()

    def behave(self, **how: Any) -> None:
        self._how.write_text(json.dumps(how))

    @property
    def seen(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads((self.folder / "how.json.seen").read_text())
        return seen


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    """Return a server that stands in for MLflow's, here and in the processes that we start."""
    folder = tmp_path / "site"
    folder.mkdir()
    fake = FakeMlflow(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("FAKE_MLFLOW", str(folder / "how.json"))
    if find_spec("mlflow") is None:
        monkeypatch.syspath_prepend(folder)
        invalidate_caches()
    return fake


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(b"")
    return folder


def open_page(runs: Path, port: int = 0) -> Any:
    return serve_page(runs, port, lambda: None)


def wait_for_end_of(pids: list[int]) -> None:
    """Wait until processes, which are no children of ours, have ended."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], END_S)[0], f"process {pid} does not end"
        finally:
            os.close(handle)


@pytest.mark.slow
def test_the_page_is_yielded_when_it_answers_and_ended_with_its_children(
    mlflow: FakeMlflow, runs: Path
) -> None:
    mlflow.behave(
        first=["HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n", "no HTTP at all\r\n", ""]
    )
    begun: list[str] = []
    with serve_page(runs, 0, lambda: begun.append("starting")) as (address, process):
        assert process.poll() is None
        with urlopen(address, timeout=END_S) as answer:
            assert answer.read() == b"OK"
        seen = mlflow.seen
    assert begun == ["starting"]
    search = "POST /api/2.0/mlflow/experiments/search HTTP/1.1"
    assert seen["asked"] == ["GET /health HTTP/1.1"] * 4 + [search, "GET / HTTP/1.1"]
    assert seen["words"]["--host"] == HOST
    assert seen["words"]["--backend-store-uri"] == f"sqlite:///{runs / 'mlflow.db'}"
    assert seen["words"]["--default-artifact-root"] == (runs / "mlflow-artifacts").as_uri()
    assert seen["telemetry"] == "true"
    assert process.returncode == -signal.SIGTERM
    wait_for_end_of(seen["pids"])
    with pytest.raises(OSError, match="refused"):
        urlopen(address, timeout=END_S)


@pytest.mark.slow  # reason: a server that ignores SIGTERM is given ten seconds
def test_a_server_that_does_not_stop_is_killed(mlflow: FakeMlflow, runs: Path) -> None:
    mlflow.behave(stubborn=True, stubborn_child=True)
    with open_page(runs) as (_, process):
        seen = mlflow.seen
    assert process.returncode == -signal.SIGKILL
    wait_for_end_of(seen["pids"])


def test_a_child_that_outlives_the_server_is_ended_too(mlflow: FakeMlflow, runs: Path) -> None:
    mlflow.behave(stubborn_child=True)
    with open_page(runs) as (_, process):
        seen = mlflow.seen
    assert process.returncode == -signal.SIGTERM
    wait_for_end_of(seen["pids"])


def test_a_server_that_ends_by_itself_ends_the_wait_for_it(mlflow: FakeMlflow, runs: Path) -> None:
    with open_page(runs) as (address, process):
        with urlopen(f"{address}/end", timeout=END_S) as answer:
            assert answer.read() == b"OK"
        assert process.wait(END_S) == 0
        seen = mlflow.seen
    wait_for_end_of(seen["pids"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "shown"), [("one\nno such table\n", "no such table"), ("", "it says nothing")]
)
def test_a_server_that_does_not_start_is_told_by_its_last_words(
    mlflow: FakeMlflow, runs: Path, words: str, shown: str
) -> None:
    mlflow.behave(last_words=words)
    with pytest.raises(TrackerDown, match=rf"^MLflow's page does not start: {shown}\. Upgrade MLf"):
        open_page(runs).__enter__()


def test_an_error_while_the_page_is_open_ends_it(mlflow: FakeMlflow, runs: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_page(runs) as (_, process):
        process.returncode = 1 // 0
    wait_for_end_of(mlflow.seen["pids"])


def test_nothing_is_started_where_there_is_no_store_or_no_port(
    mlflow: FakeMlflow, runs: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunNotFound, match=r"there is no .*empty/mlflow\.db\. Train with MLflow"):
        open_page(tmp_path / "empty").__enter__()
    with closing(socket.create_server((HOST, 0))) as other:
        taken = other.getsockname()[1]
        for port, reason in ((taken, "in use"), (70_000, "0-65535")):
            with pytest.raises(ListenFailed, match=rf"cannot listen on {HOST}:{port}: .*{reason}"):
                open_page(runs, port).__enter__()
    assert not (mlflow.folder / "how.json.seen").exists()
