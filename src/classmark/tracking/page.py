"""MLflow's page over a store of runs, in a process of its own, until it is stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from classmark.errors import ListenFailed, MissingExtra, RunNotFound, TrackerDown
from classmark.tracking.config import has_mlflow
from classmark.tracking.mlflow import DATABASE, QUIET, MlflowStore

HOST = "127.0.0.1"
_START_SECONDS = 180.0
_STOP_SECONDS = 10.0
_ASK_SECONDS = 0.2
_TABLE_SECONDS = 60.0
_NO_EMPTY_DEFAULT = "name != 'Default'"
"""MLflow makes an experiment of this name, which stays empty."""
_COMMAND = (sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1")
# One process is enough for one reader; no jobs, nothing to fetch.
_SETTINGS = {**QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextmanager
def serve_page(
    runs_dir: Path, port: int, on_start: Callable[[], None]
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address of MLflow's table of runs, once it answers, and its process; ended after.

    Args:
        runs_dir: folder of runs, with MLflow's database in it.
        port: to listen on; 0 takes a free one.
        on_start: called when everything is ready, before the page starts, which takes a while.

    Raises:
        MissingExtra: MLflow is not installed.
        RunNotFound: there is no database.
        ListenFailed: the port is taken.
        TrackerDown: the page does not start.
    """
    if not has_mlflow():
        raise MissingExtra("MLflow's page", "track")
    if not (runs_dir / DATABASE).is_file():
        raise RunNotFound(
            f"there is no {runs_dir / DATABASE}. Train with MLflow installed, say where the runs "
            "are with --runs-dir DIR, or see `classmark runs list`."
        )
    port = _free_port(port)
    on_start()
    with tempfile.TemporaryFile() as said:
        process = _start(MlflowStore.beside(runs_dir, ""), port, said)
        try:
            _wait_until_it_answers(process, port, said)
            yield f"http://{HOST}:{port}{_path_of_the_table(port)}", process
        finally:
            _stop(process)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ListenFailed(
                f"cannot listen on {HOST}:{port}: {error}. Choose another --port; 0 takes a free "
                "one."
            ) from error
        return int(probe.getsockname()[1])


def _start(store: MlflowStore, port: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *_COMMAND,
            *("--host", HOST, "--port", str(port)),
            *("--backend-store-uri", store.uri, "--default-artifact-root", store.artifacts),
        ],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env={**os.environ, **_SETTINGS},
        # Ctrl-C is for us; the server has children of its own, which we end with it.
        start_new_session=True,
    )


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, said: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            said.seek(0)
            *_, last = [b"it says nothing", *filter(None, said.read().splitlines())]
            raise TrackerDown(
                f"MLflow's page does not start: {last.decode(errors='replace').strip()}. "
                "Upgrade MLflow, or see `classmark runs list`."
            )
        time.sleep(_ASK_SECONDS)


def _answers(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _path_of_the_table(port: int) -> str:
    """Return the path of the runs of the experiment that was used last; "" if none is known."""
    connection = HTTPConnection(HOST, port, timeout=_TABLE_SECONDS)
    asked = {"max_results": 1, "order_by": ["last_update_time DESC"], "filter": _NO_EMPTY_DEFAULT}
    try:
        connection.request(
            *("POST", "/api/2.0/mlflow/experiments/search", json.dumps(asked)),
            {"Content-Type": "application/json"},
        )
        (newest,) = json.load(connection.getresponse())["experiments"]
        return f"/#/experiments/{newest['experiment_id']}/runs"
    except (OSError, HTTPException, ValueError, KeyError):
        return ""
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server with its children: in order, and after a while anyway."""
    _signal_all(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # Also if it has ended: a child that ignored the signal would stay.
    _signal_all(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def _signal_all(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if not hasattr(os, "killpg"):  # pragma: no cover - Windows
        process.terminate()
        return
    try:
        os.killpg(process.pid, how)
    except ProcessLookupError:  # all have ended
        return
