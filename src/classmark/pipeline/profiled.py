"""The profile of a fit: of the whole fit, or of the operations of a transformer's steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.errors import Interrupted
from classmark.pages.profile import write_profile
from classmark.profiling import Profiler, check_folder
from classmark.profiling.meter import MeteredProgress
from classmark.records import Progress
from classmark.storage import atomic_folder

if TYPE_CHECKING:
    from classmark.pipeline.config import TrainConfig

FOLDER = "profile"


@dataclass
class ProfiledFit:
    """A fit that may be profiled: how it shows its progress, and the folder of its run."""

    progress: Progress
    run: Path | None = None


@contextmanager
def profiled(config: TrainConfig, command: str, progress: Progress) -> Iterator[ProfiledFit]:
    """Profile the block as configured, and write what was found; who fits sets ``run`` in it.

    A fit that the user stops is written too, if ``profiler.folder`` says where.

    Args:
        config: of the fit.
        command: for the record.
        progress: of the fit.

    Raises:
        MissingExtra: what the profiler needs is not installed.
        StorageFailed: the folder of the profile cannot be written, or is there already.
        WorkerFailed: the system does not let the profiler look into the process.
    """
    chosen = config.profiler
    if chosen.folder is not None:
        check_folder(chosen.folder)
    if chosen.kind == "none" or chosen.kind == "torch":  # noqa: PLR1714 - mypy narrows by these
        yield ProfiledFit(progress)
        return
    profiler, interrupted = Profiler(chosen.kind, chosen.rate, command), False
    fit = ProfiledFit(progress)
    try:
        with profiler:
            fit.progress = MeteredProgress(progress, profiler.meter)
            yield fit
    except (KeyboardInterrupt, Interrupted):
        interrupted = True
        raise
    finally:
        folder = chosen.folder or (fit.run and fit.run / FOLDER)
        if folder and (interrupted or fit.run):
            progress.step(f"writing the profile to {folder}")
            with atomic_folder(folder, overwrite=chosen.folder is None) as temporary:
                write_profile(temporary, profiler.profile(interrupted=interrupted))


def operations_folder(config: TrainConfig, run: Path) -> Path | None:
    """Return where the operations of torch are written; None if they are not measured."""
    if config.profiler.kind != "torch":
        return None
    return config.profiler.folder or run / FOLDER
