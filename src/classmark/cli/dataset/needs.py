"""What the commands of ``classmark dataset`` need: packages of an extra, and a sign of life."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from classmark.dataset.build.intake import Progress

_PACKAGES = {
    "data": ("polars", "pyarrow", "pandera"),
    "train": ("polars", "pyarrow", "pandera", "matplotlib"),
}


def need_packages(feature: str, extra: str) -> None:
    """Go on if the packages of an extra are there.

    Raises:
        MissingExtra: says how to install them.
    """
    if any(find_spec(package) is None for package in _PACKAGES[extra]):
        raise MissingExtra(feature, extra)


@contextmanager
def step_progress() -> Iterator[Progress | None]:
    """Yield what shows progress on standard error, or None if nobody is looking there."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda step, count: bar.update(
            task, description=f"{step}: {count:,}" if count else step
        )
