"""MLflow as a tracker; MLflow itself is imported in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from typing import IO, Any

from classmark.errors import TrackerDown
from classmark.tracking.tracker import SQLITE, RunInfo, Status, flat

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"
FIGURES = "figures"
# After a failure or Ctrl-C nobody waits for MLflow to start.
_SHORT_PATIENCE_S = 5.0
_ROWS_AT_ONCE = 1000
_SECONDS_BETWEEN = 1.0


@dataclass(frozen=True)
class MlflowStore:
    """Where MLflow keeps runs.

    Attributes:
        uri: ``sqlite:///PATH`` or the address of a server.
        artifacts: address of the folder for files, "" where the server decides.
        experiment: name that the runs are grouped under.
    """

    uri: str
    artifacts: str
    experiment: str

    @classmethod
    def beside(cls, runs_dir: Path, experiment: str) -> MlflowStore:
        """Return the local store of a folder of runs."""
        runs_dir = runs_dir.resolve()
        return cls(
            SQLITE + (runs_dir / DATABASE).as_posix(), (runs_dir / ARTIFACTS).as_uri(), experiment
        )


class MlflowTracker:
    """Keeps a run in MLflow: every call only queues, ``finish`` waits.

    Args:
        store: where to.
        patience_s: longest that ``finish`` waits, in seconds.
    """

    def __init__(self, store: MlflowStore, patience_s: float) -> None:
        self._store = store
        self._patience_s = patience_s
        self._process: WriterProcess | None = None
        self._rows: list[tuple[str, float, int, int]] = []
        self._sent_at = 0.0

    @property
    def name(self) -> str:
        """Return MLflow's place."""
        return f"MLflow at {self._store.uri.removeprefix(SQLITE)}"

    def start(self, run: RunInfo) -> None:
        """Start MLflow's process; it gets the run when it is ready."""
        self._process = WriterProcess()
        described = {
            "name": run.name,
            "tags": dict(_tags(run)),
            "params": _params(run.config),
            "dataset": run.start.dataset,
            "dataset_digest": run.start.dataset_digest,
        }
        self._send({"call": "start", "store": asdict(self._store), "run": described})

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        """Queue numbers of one step; they go on together with those of the same second."""
        now_ms = time.time_ns() // 1_000_000
        named = values if epoch is None else {**values, "epoch": epoch}
        self._rows += [(name, float(value), now_ms, step) for name, value in named.items()]
        waited_s = time.monotonic() - self._sent_at
        if waited_s >= _SECONDS_BETWEEN or len(self._rows) >= _ROWS_AT_ONCE:
            self._send_rows()

    def artifact(self, path: Path, folder: str = "") -> None:
        """Queue a file."""
        self._send({"call": "artifact", "path": str(path.resolve()), "folder": folder})

    def figure(self, name: str, svg_or_png: Path) -> None:  # noqa: ARG002 - the file has the name
        """Queue a picture; MLflow's page shows it."""
        self.artifact(svg_or_png, FIGURES)

    def finish(self, status: Status) -> None:
        """End the run; what MLflow has not taken within its patience is given up."""
        self._send_rows()
        self._send({"call": "finish", "status": status})
        patience_s = self._patience_s
        if status != "finished":
            patience_s = min(patience_s, _SHORT_PATIENCE_S)
        self._started().end(patience_s)

    def _send_rows(self) -> None:
        self._sent_at = time.monotonic()
        if self._rows:
            self._send({"call": "metrics", "rows": self._rows})
            self._rows = []

    def _send(self, message: Mapping[str, Any]) -> None:
        self._started().send(message)

    def _started(self) -> WriterProcess:
        if self._process is None:
            raise TrackerDown("the run was never started")
        return self._process


def _tags(run: RunInfo) -> Iterator[tuple[str, str]]:
    yield "mlflow.source.name", run.start.command
    yield "kind", run.start.kind
    yield "dataset", run.start.dataset
    yield "dataset_digest", run.start.dataset_digest
    if run.start.commit is not None:
        commit = run.start.commit.removesuffix("+")
        yield "mlflow.source.git.commit", commit
        yield "git_commit", commit
        yield "git_dirty", str(run.start.commit != commit).lower()
    for key, value in run.hardware.items():
        yield f"hardware.{key}", value


def _params(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the configuration without the trackers' own keys."""
    kept = {key: value for key, value in config.items() if key != "tracker"}
    return {key: str(value) for key, value in flat(kept)}


# A server that does not answer is given up after seconds, unless the environment says otherwise.
_SHORT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# -P: a file of the current folder must not replace a module.
_COMMAND = (sys.executable, "-P", "-m", "classmark.tracking.mlflow_writer")
_QUEUE_LENGTH = 10_000
_FEEDER_SECONDS = 5.0


class WriterProcess:
    """``mlflow_writer`` as a child; a thread feeds it, so that a child that hangs delays nobody."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**_SHORT, **os.environ, **QUIET},
            # Ctrl-C is for the fit, which then says that it was stopped.
            start_new_session=True,
        )
        self._waiting: Queue[str | None] = Queue(_QUEUE_LENGTH)
        self._feeder = Thread(
            target=_feed, args=(self._waiting, self._process.stdin), name="mlflow", daemon=True
        )
        self._feeder.start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message.

        Raises:
            TrackerDown: the process has failed, or does not keep up.
        """
        if self._process.poll() is not None:
            raise TrackerDown(self._last_words())
        try:
            self._waiting.put_nowait(json.dumps(message) + "\n")
        except Full as error:
            self.kill()
            raise TrackerDown(f"{_QUEUE_LENGTH:,} messages wait for it") from error

    def end(self, patience_s: float) -> None:
        """Wait until every message is taken; after that long the rest is given up.

        Raises:
            TrackerDown: the process has failed, or took too long.
        """
        try:
            self._waiting.put(None, timeout=patience_s)
            failed = self._process.wait(patience_s) != 0
        except (Full, subprocess.TimeoutExpired) as error:
            raise TrackerDown(f"no answer within {patience_s:g} s") from error
        finally:
            words = self._last_words()
        if failed:
            raise TrackerDown(words)

    def kill(self) -> None:
        """End the process at once."""
        self._last_words()

    def _last_words(self) -> str:
        """End what still runs, and return what the process said, or how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._stop_feeding()
        with self._process.stdout or open(os.devnull) as pipe:  # noqa: PTH123
            words = pipe.read().strip()
        return words or f"its process ended with code {code}"

    def _stop_feeding(self) -> None:
        with suppress(Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._feeder.join(_FEEDER_SECONDS)


def _feed(waiting: Queue[str | None], pipe: IO[str]) -> None:
    # The process may be gone, which the fit finds out by itself.
    with suppress(OSError):
        for line in iter(waiting.get, None):
            pipe.write(line)
            pipe.flush()
    with suppress(OSError):
        pipe.close()
