"""What a tracker is, and several at once: one that fails is named once, and left out then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["finished", "failed", "stopped"]
Warn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What is known of a run before its first step.

    Attributes:
        name: of the run folder.
        kind: of the model, ``linear`` or ``transformer``.
        config: as Hydra composed it, nested.
        command: the command line.
        dataset: where the dataset is, as ``provenance.json`` says it.
        dataset_digest: of its manifest.
        commit: of the code, ``+`` at its end if it was changed since; None outside a checkout.
        hardware: name -> value, see ``describe_hardware``.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    command: str = ""
    dataset: str = ""
    dataset_digest: str = ""
    commit: str | None = None
    hardware: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Keeps what a run was told and what came of it; every call is cheap and may raise."""

    @property
    def name(self) -> str:
        """Return what a warning calls it."""
        ...

    def start(self, run: RunInfo) -> None:
        """Begin a run; called once, before anything else."""
        ...

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        """Keep numbers of one step, e.g. ``train/loss``; ``test/top_1`` for a split's result."""
        ...

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file that exists until the run ends, in a folder of that name."""
        ...

    def figure(self, name: str, svg_or_png: Path) -> None:
        """Keep a picture; ``name`` says what it shows, without a suffix."""
        ...

    def finish(self, status: Status) -> None:
        """End the run, and write what still waits."""
        ...


def warn_on_stderr(line: str) -> None:
    """Write a warning where progress goes."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


class Trackers:
    """Several trackers as one that never fails.

    Args:
        trackers: who keep the run.
        warn: hears one line, once, of each that fails; it is left out from then on.
    """

    name = "trackers"

    def __init__(self, trackers: Sequence[Tracker], warn: Warn) -> None:
        self._trackers = list(trackers)
        self._warn = warn

    def start(self, run: RunInfo) -> None:
        """Begin a run with each."""
        self._each(lambda tracker: tracker.start(run))

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        """Give numbers of one step to each."""
        self._each(lambda tracker: tracker.metrics(values, step=step, epoch=epoch))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Give a file to each."""
        self._each(lambda tracker: tracker.artifact(path, folder))

    def figure(self, name: str, svg_or_png: Path) -> None:
        """Give a picture to each."""
        self._each(lambda tracker: tracker.figure(name, svg_or_png))

    def finish(self, status: Status) -> None:
        """End the run with each."""
        self._each(lambda tracker: tracker.finish(status))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:  # whatever it is, training goes on
                self._trackers.remove(tracker)
                reason = " ".join(str(error).split()) or type(error).__name__
                with suppress(OSError, ValueError):  # a stderr that is closed stops nothing either
                    self._warn(
                        f"warning: {tracker.name} is down ({reason}); the run goes on without it."
                    )
