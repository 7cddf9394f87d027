"""What the demo runs: verbs in this process, a service and its traffic beside it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from classmark.errors import InvalidJournal, ListenFailed

_PATIENCE_S = 60.0


class Runner:
    """Runs a verb in this process, as a user would type it."""

    def __call__(self, *arguments: str) -> None:
        """Print the command, and run it."""
        from classmark.cli.app import load_verb

        typer.echo(f"\n$ classmark {shlex.join(arguments)}")
        verb, *rest = arguments
        command = load_verb(verb)
        # Not `command.main`: it makes an exit code of Ctrl-C, and the next verb would begin.
        with command.make_context(f"classmark {verb}", rest) as context:
            command.invoke(context)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Yield the address of a service on a free port, which is stopped at the end.

    Args:
        folder: for its log.
        options: of ``classmark serve``.
    """
    words = ["serve", *options, "--port", "0", "--workers", "1"]
    with (
        (folder / "serve.log").open("wb") as log,
        _beside([*words, "--no-access-log"], words, log.fileno()) as process,
    ):
        line = process.stdout.readline() if process.stdout else ""
        found = re.search(r"http://\S+:\d+", line)
        if found is None:
            raise ListenFailed(f"the service does not start. See {log.name}.")
        typer.echo(line.rstrip())
        yield found[0]


@contextmanager
def traffic(folder: Path, words: list[str], keys: list[str]) -> Iterator[None]:
    """Send papers beside the block, under keys that take turns; it ends with the block."""
    given = [word for key in keys for word in ("--api-key", key)]
    with (folder / "traffic.log").open("wb") as log, _beside([*words, *given], words, log.fileno()):
        yield


@contextmanager
def _beside(words: list[str], shown: list[str], log: int) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the block."""
    typer.echo(f"\n$ classmark {shlex.join(shown)} &")
    # Other settings of a service on this machine would make this one another.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLASSMARK_SERVE_")}
    command = [sys.executable, "-m", "classmark", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()


def wait_for(journal: Path, n: int) -> None:
    """Wait until a journal has so many predictions: a service writes them a moment later."""
    end, before = time.monotonic() + _PATIENCE_S, 0
    while (found := predictions_in(journal)) < n:
        if found > before:
            end, before = time.monotonic() + _PATIENCE_S, found
        if time.monotonic() > end:
            raise InvalidJournal(f"{journal} has {found} of {n} predictions. See serve.log.")
        time.sleep(0.05)


def predictions_in(journal: Path) -> int:
    """Return how many predictions a journal has."""
    from classmark.journal.reading import summarise

    return summarise(journal).predictions
