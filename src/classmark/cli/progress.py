"""How far a long command is: a count and a rate on stderr, if somebody looks at it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(
    what: str, *, shown: bool = True, unit: str = "papers"
) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many more are done.

    Nothing is shown, and nothing of rich is imported, unless stderr is a terminal.

    Args:
        what: what goes on, e.g. ``classifying``.
        shown: False where progress would stand among the results.
        unit: what is counted.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f} " + unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def advance(n_done: int) -> None:
            bar.update(task, advance=n_done)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield advance


class Pace:
    """How much is done, how fast it goes, and how long it will take at that."""

    def __init__(self, now_s: float) -> None:
        self._start_s = self._now_s = now_s
        self._n_done = self._n_before = 0
        self._share = self._share_before = 0.0

    def start_from(self, n_before: int, share: float) -> None:
        """Count from what an earlier run had done."""
        self._n_done = self._n_before = n_before
        self._share = self._share_before = share

    def advance(self, n_done: int, share: float, now_s: float) -> None:
        """Take how many more are done, and the share of the whole."""
        self._n_done += n_done
        self._share = share
        self._now_s = now_s

    def words(self, unit: str) -> str:
        """Return count, rate and time left; what is not known yet is left out."""
        seconds = self._now_s - self._start_s
        gained = self._share - self._share_before
        words = f"{self._n_done:,} {unit}"
        if seconds > 0:
            words += f"  {(self._n_done - self._n_before) / seconds:,.0f} {unit}/s"
        if gained > 0:
            words += f"  {_clock(seconds * (1 - self._share) / gained)} left"
        return words


class ShareBar:
    """A bar over the share that is done, with count, rate and time left; or nothing at all."""

    def __init__(self, draw: Callable[[float, str], None] | None, unit: str) -> None:
        self._draw = draw
        self._unit = unit
        self._pace = Pace(time.monotonic())

    def start_from(self, n_before: int, share: float) -> None:
        """Show what an earlier run had done; rate and time left count from there."""
        self._pace.start_from(n_before, share)

    def advance(self, n_done: int, share: float) -> None:
        """Show that so many more are done, and the share of the whole, 0..1."""
        self._pace.advance(n_done, share, time.monotonic())
        if self._draw is not None:
            self._draw(share, self._pace.words(self._unit))


@contextmanager
def share_progress(what: str, *, unit: str = "papers") -> Iterator[ShareBar]:
    """Yield a bar that is told what is done; it is shown if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield ShareBar(None, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.fields[words]}"),
        BarColumn(),
        TaskProgressColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0, words="")
        yield ShareBar(lambda share, words: bar.update(task, completed=share, words=words), unit)


def _clock(seconds: float) -> str:
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds_left:02d}"
