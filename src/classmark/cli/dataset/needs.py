"""What commands that read or write datasets and pages share: a check of packages, progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from classmark.dataset.build.intake import Progress

_PACKAGES = ("polars", "pyarrow", "pandera", "jinja2")


def need_packages(feature: str) -> None:
    """Check that the packages of the extra ``data`` are installed.

    Raises:
        MissingExtra: the message says how to install them.
    """
    if any(find_spec(package) is None for package in _PACKAGES):
        raise MissingExtra(feature, "data")


@contextmanager
def step_progress() -> Iterator[Progress | None]:
    """Yield what shows progress on standard error, or None if it is not a terminal."""
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
