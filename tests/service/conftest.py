"""A really started server on a free port, shared by the tests of a session."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

READY_TIMEOUT_S = 200
STOP_TIMEOUT_S = 200
_URL = re.compile(r"http://\S+:\d+")
_COMMAND = [sys.executable, "-m", "classmark", "serve", "--host", "127.0.0.1", "--port", "0"]


class Server:
    """A server process: where it is, and what it said.

    Attributes:
        process: the supervisor.
        url: of the service.
    """

    def __init__(self, process: Any, url: str, errors: Path) -> None:
        self.process = process
        self.url = url
        self._errors = errors

    @property
    def home(self) -> Path:
        """Return its ``$CLASSMARK_HOME``."""
        return self._errors.parent / "home"

    def client(self, **options: Any) -> httpx.Client:
        """Return a client; close it."""
        # Plain HTTP: certificates that nobody asks for would take longer than many a test.
        return httpx.Client(base_url=self.url, timeout=READY_TIMEOUT_S, verify=False, **options)

    def logs(self) -> list[dict[str, Any]]:
        """Return the lines that it logged so far."""
        return [json.loads(line) for line in self.stderr().splitlines()]

    def stderr(self) -> str:
        """Return what it wrote to stderr so far."""
        return self._errors.read_text("utf-8")

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def sockets(self, worker: int) -> int:
        """Return how many sockets a worker has open."""
        n_sockets = 0
        for link in Path(f"/proc/{worker}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                n_sockets += "socket:" in str(link.readlink())
        return n_sockets

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(STOP_TIMEOUT_S))


@contextmanager
def running(
    folder: Path, *options: str, stderr: int | None = None, **environment: str
) -> Iterator[Server]:
    """Start a server for the block; it must end in order if it is still there at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "stderr.txt"
    home = {"CLASSMARK_HOME": str(folder / "home"), "CLASSMARK_SERVE_DRAIN_S": "0.1"}
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [*_COMMAND, *options],
            stdout=subprocess.PIPE,
            stderr=file if stderr is None else stderr,
            text=True,
            start_new_session=True,  # so that a test can send a signal to all of its processes
            env={**os.environ, **home, **environment},
        )
    timer = threading.Timer(READY_TIMEOUT_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
        timer.cancel()
        found = _URL.search(line)
        if found is None:
            process.kill()
            pytest.fail(f"the server did not start: {line!r} {errors.read_text('utf-8')}")
        yield Server(process, found[0], errors)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_TIMEOUT_S) == 0, errors.read_text("utf-8")
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with the usual settings and one worker; nobody may stop it."""
    with running(tmp_path_factory.mktemp("server"), "--workers", "1") as started:
        yield started


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory, own_model: Path) -> Iterator[Server]:
    """Return a server whose model has own labels; a module takes it by overriding ``server``."""
    options = ("--workers", "1", "--model", str(own_model))
    with running(tmp_path_factory.mktemp("own"), *options) as started:
        yield started


@pytest.fixture(scope="session")
def authored_server(
    tmp_path_factory: pytest.TempPathFactory, authored_model: Path
) -> Iterator[Server]:
    """Return a server whose model knows authors; a module takes it by overriding ``server``."""
    options = ("--workers", "1", "--model", str(authored_model))
    with running(tmp_path_factory.mktemp("authored"), *options) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """Return a client of the shared server."""
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that starts a server for several tests, as a context manager."""

    def begin(*options: str) -> Any:
        return running(tmp_path_factory.mktemp("shared"), *options)

    return begin


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that starts a server of the test's own, as a context manager."""

    def begin(*options: str, **environment: Any) -> Any:
        return running(tmp_path / "server", *options, **environment)

    return begin
