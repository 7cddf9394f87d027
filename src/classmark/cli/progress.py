"""How far a long command is, on stderr: steps as lines that stay, or a bar that vanishes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from classmark.cli.output import print_error

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from classmark.records import Progress

BYTES = "bytes"


class StepLines:
    """Prints each step as a line; on a terminal a count of papers follows it."""

    _SECONDS_BETWEEN = 0.2
    _SECONDS_BETWEEN_LINES = 30.0

    def __init__(self) -> None:
        self._text, self._done, self._shown_at = "", 0, 0.0
        self._noted_at, self._is_noted = 0.0, False
        self._live = sys.stderr.isatty()

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:  # noqa: ARG002
        """End the line of the last step and begin another."""
        self._end_line()
        self._text, self._done, self._shown_at = text, done, 0.0
        # On a terminal the first note is shown at once; a log waits for the first half minute.
        self._noted_at, self._is_noted = 0.0 if self._live else time.monotonic(), False
        _write(f"{text} ...", end="" if self._live else "\n")

    def advance(self, n: int, *, share: float | None = None) -> None:  # noqa: ARG002
        """Show the count, unless the step is described by notes."""
        self._done += n
        now = time.monotonic()
        if self._live and not self._is_noted and now - self._shown_at > self._SECONDS_BETWEEN:
            self._shown_at = now
            _write(f"\r{self._text} ... {self._done:,} papers")

    def note(self, text: str) -> None:
        """Show the note in place of the count; in a log, only every 30 seconds."""
        self._is_noted = True
        now = time.monotonic()
        wait = self._SECONDS_BETWEEN if self._live else self._SECONDS_BETWEEN_LINES
        if now - self._noted_at > wait:
            self._noted_at = now
            _write(f"\r\x1b[K{self._text} ... {text}" if self._live else f"{text}\n")

    def warn(self, line: str) -> None:
        """Print a line of its own among the steps."""
        self._end_line()
        self._text = ""
        print_error(line)

    def __enter__(self) -> StepLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_line()

    def _end_line(self) -> None:
        if self._text and self._live:
            _write("\n")


class Pace:
    """How much of a step is done, how fast it goes, and how long the rest will take."""

    def __init__(self, now_s: float, n_before: int = 0, share: float = 0.0) -> None:
        self._start_s = self._now_s = now_s
        self._n_done = self._n_before = n_before
        self._share = self._share_before = share

    def advance(self, n: int, share: float, now_s: float) -> None:
        """Count n more; ``share`` is that of the whole, 0..1."""
        self._n_done += n
        self._share = share
        self._now_s = now_s

    def words(self, unit: str) -> str:
        """Return count, rate and time left; what is not known yet is left out."""
        seconds = self._now_s - self._start_s
        gained = self._share - self._share_before
        words = _amount(self._n_done, unit)
        if seconds > 0:
            words += f"  {_amount((self._n_done - self._n_before) / seconds, unit)}/s"
        if gained > 0:
            words += f"  {_clock(seconds * (1 - self._share) / gained)} left"
        return words


class Bar:
    """Draws the current step in one line of a terminal that vanishes at the end.

    Args:
        bar: rich's; None draws nothing.
        unit: what is counted.
    """

    def __init__(self, bar: RichProgress | None, unit: str) -> None:
        self._bar, self._unit = bar, unit
        self._pace = Pace(time.monotonic())

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:
        """Show another step."""
        self._pace = Pace(time.monotonic(), done, share)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text, words="")

    def advance(self, n: int, *, share: float | None = None) -> None:
        """Show count and rate; with a share, a bar and the time left too."""
        self._pace.advance(n, share or 0.0, time.monotonic())
        if self._bar is None:
            return
        if share is not None:
            self._bar.columns = _share_columns()
        words = self._pace.words(self._unit)
        self._bar.update(self._bar.task_ids[0], completed=share or 0.0, words=words)

    def note(self, text: str) -> None:
        """Show the note in place of the count."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], words=text)

    def warn(self, line: str) -> None:
        """Print a line above the bar."""
        print_error(line)


@contextmanager
def progress_bar(
    step: str = "starting", *, shown: bool = True, unit: str = "papers"
) -> Iterator[Progress]:
    """Yield progress that is drawn if stderr is a terminal; else only warnings are printed.

    Args:
        step: the first step, e.g. ``classifying``.
        shown: False where a bar would appear among the results.
        unit: what is counted.
    """
    if not (shown and sys.stderr.isatty()):
        yield Bar(None, unit)
        return
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TimeElapsedColumn

    columns = (*_text_columns(), TimeElapsedColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(step, total=1.0, words="")
        yield Bar(bar, unit)


def _text_columns() -> tuple[Any, ...]:
    from rich.progress import SpinnerColumn, TextColumn

    return SpinnerColumn(), TextColumn("{task.description} {task.fields[words]}", markup=False)


def _share_columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, TaskProgressColumn

    return *_text_columns(), BarColumn(), TaskProgressColumn()


def _amount(n: float, unit: str) -> str:
    if unit != BYTES:
        return f"{n:,.0f} {unit}"
    from rich.filesize import decimal

    return decimal(round(n))


def _clock(seconds: float) -> str:
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds_left:02d}"


def _write(text: str, end: str = "") -> None:
    print(text, file=sys.stderr, end=end, flush=True)  # noqa: T201
