"""What the demo runs: verbs in this process, a service and its traffic beside it."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from classmark.errors import InvalidJournal, ListenFailed

_PATIENCE_S = 60.0
_LOOK_S = 0.2


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
    typer.echo(f"\n$ classmark {shlex.join(words)} &")
    # Other settings of a service on this machine would make this one another.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CLASSMARK_SERVE_")}
    command = [sys.executable, "-m", "classmark", *words, "--no-access-log"]
    with (
        (folder / "serve.log").open("wb") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+:\d+", line)
            if found is None:
                raise ListenFailed(f"the service does not start. See {log.name}.")
            typer.echo(line.rstrip())
            yield found[0]
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def traffic(folder: Path, words: list[str], seed: int, keys: list[str]) -> Iterator[None]:
    """Send papers beside the block, however long that takes, under keys that take turns."""
    typer.echo(f"\n$ classmark {shlex.join([*words, '--seed', str(seed)])} &")
    stop = threading.Event()
    with (folder / "traffic.log").open("ab") as log:
        sender = threading.Thread(target=_send, args=(words, seed, keys, stop, log.fileno()))
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join()


def _send(words: list[str], first: int, keys: list[str], stop: threading.Event, log: int) -> None:
    """Send one sample after another until the event is set."""
    environment = {**os.environ, "CLASSMARK_API_KEY": " ".join(keys)}
    for seed in itertools.count(first):
        command = [sys.executable, "-m", "classmark", *words, "--seed", str(seed)]
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
            while process.poll() is None:
                if stop.wait(_LOOK_S):
                    process.terminate()
                    return
        if stop.wait(_LOOK_S):
            return


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
