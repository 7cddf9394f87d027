"""The process that copies the journal into a bucket while a service runs, and at its end."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from classmark.errors import ClassmarkError
from classmark.journal.shipping import instance_name
from classmark.service.answering.journal import journal_place
from classmark.service.logs import log
from classmark.service.settings import ServiceSettings

AGAIN_AFTER_S = 5.0
LAST_COPY_S = 60.0
"""How long the last copy may take, in seconds."""


class JournalShipping:
    """Keeps ``classmark journal ship`` running beside the workers, if the settings ask for it.

    It is a process of its own, because the supervisor forks workers and has no threads.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._words = _words_of(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._due_s = 0.0

    def look(self) -> None:
        """Start the process if it does not run; one that died is replaced after a pause."""
        if self._words is None or (self._process and self._process.poll() is None):
            return
        now = time.monotonic()
        if self._process is not None:
            log("journal not copied", logging.ERROR, exit_code=self._process.returncode)
            if self._process.stdin:
                self._process.stdin.close()
            self._process, self._due_s = None, now + AGAIN_AFTER_S
        elif now >= self._due_s:
            with suppress(OSError):  # too many processes: tried again
                # A signal to the service's group is not for it: it ends last. The end of the pipe
                # says that the service was killed.
                self._process = subprocess.Popen(
                    self._words, stdin=subprocess.PIPE, start_new_session=True
                )
            self._due_s = now + AGAIN_AFTER_S

    def close(self) -> None:
        """Copy what the last copy lacks, and end the process."""
        if self._words is None:
            return
        self._due_s = 0.0
        self.look()
        self.look()  # one that had just died is replaced
        if self._process is None:
            log("journal not copied", logging.ERROR, at="the end")
            return
        self._process.terminate()
        try:
            code = self._process.wait(LAST_COPY_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        if code:
            log("journal not copied", logging.ERROR, exit_code=code, at="the end")


def _words_of(settings: ServiceSettings) -> list[str] | None:
    """Return the command, None if nothing is to be copied."""
    if settings.journal_copies is None:
        return None
    try:
        place = journal_place(settings)
    except ClassmarkError:
        return None
    if not isinstance(place, Path):
        return None
    target = f"{settings.journal_copies.rstrip('/')}/{instance_name()}"
    every_s = str(settings.journal_copies_s)
    words = ("journal", "ship", target, "--journal", str(place), "--every-s", every_s)
    return [sys.executable, "-m", "classmark", *words, "--until-eof", "--json"]
