"""The steps of a long command on stderr, each with a count while somebody looks."""

from __future__ import annotations

import sys
import time

from classmark.cli.output import print_error


class Steps:
    """Prints each step as a line; on a terminal a count of papers follows it."""

    _SECONDS_BETWEEN = 0.2
    _SECONDS_BETWEEN_LINES = 30.0

    def __init__(self) -> None:
        self._text, self._done, self._shown_at = "", 0, 0.0
        self._noted_at, self._is_noted = 0.0, False
        self._live = sys.stderr.isatty()

    def step(self, text: str) -> None:
        """Begin a step."""
        self._end_line()
        self._text, self._done, self._shown_at = text, 0, 0.0
        # Somebody who looks sees the first note at once, however soon the step is over.
        self._noted_at, self._is_noted = 0.0 if self._live else time.monotonic(), False
        print(f"{text} ...", file=sys.stderr, end="" if self._live else "\n", flush=True)  # noqa: T201

    def advance(self, papers: int) -> None:
        """Count papers of the step."""
        self._done += papers
        now = time.monotonic()
        if self._live and not self._is_noted and now - self._shown_at > self._SECONDS_BETWEEN:
            self._shown_at = now
            line = f"\r{self._text} ... {self._done:,} papers"
            print(line, file=sys.stderr, end="", flush=True)  # noqa: T201

    def note(self, text: str) -> None:
        """Say how far the step is, in place of a count of papers; in a log now and then."""
        self._is_noted = True
        now = time.monotonic()
        wait = self._SECONDS_BETWEEN if self._live else self._SECONDS_BETWEEN_LINES
        if now - self._noted_at <= wait:
            return
        self._noted_at = now
        if self._live:
            line = f"\r\x1b[K{self._text} ... {text}"
            print(line, file=sys.stderr, end="", flush=True)  # noqa: T201
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def warn(self, line: str) -> None:
        """Write a line of its own among the steps."""
        self._end_line()
        self._text = ""
        print_error(line)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_line()

    def _end_line(self) -> None:
        if self._text and self._live:
            print(file=sys.stderr)  # noqa: T201
