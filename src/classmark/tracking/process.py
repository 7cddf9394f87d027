"""MLflow's process seen from a fit: messages go in without waiting, its last words come out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import IO, Any

from classmark.errors import TrackerDown

# A server that is not there is found out in seconds; whoever wants otherwise sets these himself.
_SHORT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# -P: a file of the current folder must not stand in for a module.
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
