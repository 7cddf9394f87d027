"""How far a long command is: a count and a rate on stderr, if somebody looks at it."""

from __future__ import annotations

import sys
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
