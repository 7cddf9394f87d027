"""What a tracker is, and several as one: a tracker that fails is named once, then left out."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from classmark.errors import FitStopped
from classmark.records import SILENT, Progress, RunStart

SQLITE = "sqlite:///"
Status = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What trackers learn of a run before its first step.

    Attributes:
        name: of the run folder.
        start: its record.
        config: as Hydra composed it, nested.
        hardware: name -> value, see ``describe_hardware``.
        manifest: file that describes the dataset, None if there is none.
    """

    name: str
    start: RunStart
    config: Mapping[str, Any]
    hardware: Mapping[str, str] = field(default_factory=dict)
    manifest: Path | None = None


class Tracker(Protocol):
    """Keeps configuration and results of a run; every call is cheap and may raise.

    One that raises ``FitStopped`` ends the fit; any other error ends only the tracker.
    """

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

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Keep the files of the fitted model, which are in a folder."""
        ...

    def finish(self, status: Status) -> None:
        """End the run, and write what still waits."""
        ...


class Trackers:
    """Several trackers as one that never fails; only ``FitStopped`` passes through.

    Args:
        trackers: who keep the run.
        progress: warns once of each that fails; it is left out from then on.
    """

    name = "trackers"

    def __init__(self, trackers: Sequence[Tracker] = (), progress: Progress = SILENT) -> None:
        self._trackers = list(trackers)
        self._progress = progress

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

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Give the fitted model to each."""
        self._each(lambda tracker: tracker.model(folder, files))

    def finish(self, status: Status) -> None:
        """End the run with each."""
        self._each(lambda tracker: tracker.finish(status))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except FitStopped:
                raise
            except Exception as error:  # noqa: BLE001 - training continues in any case
                self._trackers.remove(tracker)
                reason = " ".join(str(error).split()) or type(error).__name__
                with suppress(OSError, ValueError):  # a stderr that is closed stops nothing either
                    self._progress.warn(
                        f"warning: {tracker.name} is down ({reason}); the run goes on without it."
                    )


_CPUINFO = Path("/proc/cpuinfo")


def describe_hardware() -> dict[str, str]:
    """Return ``cpu``, ``cores``, ``memory_gb`` and, where torch is loaded and sees one, ``gpu``."""
    found = {"cpu": _cpu(), "cores": str(os.cpu_count()), "memory_gb": _memory_gb(), "gpu": _gpu()}
    return {key: value for key, value in found.items() if value}


def _cpu() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _memory_gb() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f}"
    except (AttributeError, ValueError, OSError):  # pragma: no cover - Windows, macOS
        return ""


def _gpu() -> str:
    """Ask torch only where a fit has loaded it: this import takes seconds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names)


def flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``model.rate``, ``0.1`` for every value of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
