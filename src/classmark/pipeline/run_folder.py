"""A run folder: record of a fit, configuration, weights, scores. Written whole or not at all."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from classmark import __version__
from classmark.errors import ClassmarkError, InvalidDataset, OutputBusy, StorageFailed
from classmark.pipeline.kinds import KINDS, is_first_process
from classmark.pipeline.tracked import write_figures
from classmark.records import DatasetManifest, RunRecord, RunStart, ScoreTable
from classmark.records.run import damaged_run
from classmark.storage import (
    LOCK_FILE,
    BucketPath,
    atomic_file,
    atomic_folder,
    check_file_place,
    check_folder_place,
    folder_place,
    is_remote,
    local_copy,
    locked_folder,
    remove,
    remove_leftovers,
    storage_errors,
    working_folder,
    write_json,
)

if TYPE_CHECKING:
    from classmark.pipeline.config import TrainConfig


_PACKAGES = ("numpy", "scipy", "polars", "pyarrow", "hydra-core", "omegaconf")
UNFINISHED = ".unfinished"
"""Suffix of the folder of a run that can be resumed, until it is finished."""
_MARK = ".taken"


def start_record(
    config: TrainConfig,
    manifest: DatasetManifest,
    command: str,
    folder: Path,
) -> RunStart:
    """Return what is known of a run before its first step.

    Args:
        config: of the run.
        manifest: of its dataset.
        command: the command line.
        folder: of the run when it is finished.
    """
    return RunStart(
        kind=config.kind,
        command=command,
        seed=config.seed,
        dataset=dataset_from_run(config, folder),
        dataset_digest=manifest.digest,
        labels=manifest.labels,
        label_space=manifest.label_space,
        generated=manifest.generated,
        **describe_environment(KINDS[config.kind].packages),
    )


def write_record(folder: Path, record: RunStart) -> None:
    """Write the record of a run that begins, or of a finished one, into its folder."""
    write_json(folder / record.FILE, record.to_dict())


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write ``config.yaml``: what Hydra composed."""
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(config.composed))
    (folder / "config.yaml").write_text(text, encoding="utf-8")


def write_tables(folder: Path, tables: Mapping[str, ScoreTable]) -> None:
    """Write score tables as ``scores/NAME.npz``, and their figures."""
    for name, table in tables.items():
        with atomic_file(folder / "scores" / f"{name}.npz") as file:
            file.write(table.to_bytes())
    write_figures(folder, tables)


def read_array(folder: Path, file: str) -> NDArray[Any]:
    """Return an array of a run folder.

    Raises:
        RunCorrupt: it is missing or damaged.
    """
    try:
        array: NDArray[Any] = np.load(folder / file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        problem = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise damaged_run(folder, file, problem) from error
    return array


def check_runs_dir(runs_dir: Path) -> None:
    """Refuse, before any work is done, a place where no run could be written.

    Raises:
        StorageFailed: says why, and which setting names another place.
    """
    place = runs_dir / "run"
    try:
        check_folder_place(place, overwrite=True)
    except StorageFailed as error:
        named = f"{place} (runs_dir={runs_dir})"
        raise StorageFailed(str(error).replace(str(place), named, 1)) from error


@contextmanager
def reserve_run_folder(runs_dir: Path, kind: str) -> Iterator[Path]:
    """Yield a folder for a new run that does not exist yet and no other run is given meanwhile.

    Raises:
        StorageFailed: there is no writing where runs go.
    """
    new = [place for place in (runs_dir, *runs_dir.parents) if not place.exists()]
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder, n = runs_dir / f"{kind}-{stamp}", 1
    try:
        with storage_errors(folder):
            runs_dir.mkdir(parents=True, exist_ok=True)
            remove_what_killed_runs_left(runs_dir)
        with ExitStack() as stack:
            while _exists(folder) or not _taken(folder, stack):
                n += 1
                folder = runs_dir / f"{kind}-{stamp}-{n}"
            yield folder
    finally:
        for place in new:
            with suppress(OSError):  # there is a run in it
                place.rmdir()


def fit_into_bucket(config: TrainConfig, fit: Callable[[TrainConfig], Path]) -> Path:
    """Return where in a bucket the run of a fit is; it is written on this machine first.

    A fit that is interrupted goes into the bucket as well, if it can be resumed.

    Args:
        config: its ``runs_dir`` is in a bucket.
        fit: makes the run in a folder of this machine.

    Raises:
        StorageFailed: the bucket cannot be written; says where the run is.
        ClassmarkError: what the fit raises.
    """
    place = config.runs_dir
    check_file_place(place / "run")
    here = working_folder(cast(BucketPath, place))
    resume = None if config.resume is None else _brought(config.resume, here)
    others = {*here.glob(f"*{UNFINISHED}")} - {resume}
    try:
        run = fit(replace(config, runs_dir=here, resume=resume))
    except BaseException as error:
        for left in {*here.glob(f"*{UNFINISHED}")} - others:
            kept = _sent(left, place, last=RunStart.FILE)
            error.args = tuple(str(word).replace(str(left), str(kept)) for word in error.args)
        raise
    if not is_first_process():
        return run
    sent = _sent(run, place, last=RunRecord.FILE)
    if config.resume is not None and is_remote(config.resume):
        _forget(cast(BucketPath, config.resume))
    return sent


def _forget(unfinished: BucketPath) -> None:
    """Delete an unfinished run in a bucket; what is left after a kill is not one any more."""
    (unfinished / RunStart.FILE).unlink()
    unfinished.clear()


def _brought(resume: Path, here: Path) -> Path:
    """Return the folder of an unfinished run on this machine, copied from the bucket if need be."""
    if not is_remote(resume):
        return resume
    folder = here / resume.name
    if not folder.is_dir():
        with atomic_folder(folder) as made:
            shutil.copytree(local_copy(resume), made, dirs_exist_ok=True)
    return folder


def _sent(folder: Path, place: Path, *, last: str) -> Path:
    """Move a folder into a bucket; return where it is there."""
    target = place / folder.name
    try:
        with atomic_folder(target, overwrite=last == RunStart.FILE, last=last) as staged:
            ignored = shutil.ignore_patterns(LOCK_FILE)
            shutil.copytree(folder, staged, dirs_exist_ok=True, ignore=ignored)
    except ClassmarkError as error:
        raise StorageFailed(f"{error} The run is kept in {folder}.") from error
    remove(folder)
    return target


def unfinished_folder(folder: Path) -> Path:
    """Return what the folder of a finished run is called while it is fitted."""
    return folder.with_name(folder.name + UNFINISHED)


def _exists(folder: Path) -> bool:
    return folder.exists() or unfinished_folder(folder).exists()


def _taken(folder: Path, stack: ExitStack) -> bool:
    """Reserve a name until the stack is left; False if another run has done so."""
    try:
        stack.enter_context(locked_folder(folder.with_name(f".{folder.name}{_MARK}")))
    except OutputBusy:
        return False
    return True


def remove_what_killed_runs_left(runs_dir: Path) -> None:
    """Remove reserved names that no process holds, and files that were never finished."""
    remove_leftovers(runs_dir)
    for mark in runs_dir.glob(f".*{_MARK}"):
        with suppress(OutputBusy, StorageFailed), locked_folder(mark):
            pass  # the folder is empty, so it goes when it is released


def dataset_from_run(config: TrainConfig, run_folder: Path) -> str:
    """Return where a run's dataset is: its address in a bucket, else the way from the run."""
    named = str(config.composed["dataset"]["path"])
    return named if is_remote(named) else path_from_run(config.dataset, run_folder)


def path_from_run(dataset: Path, run_folder: Path) -> str:
    """Return the way from a run to its dataset: it holds from anywhere, and if both are moved."""
    dataset, run_folder = dataset.resolve(), run_folder.resolve()
    try:
        return Path(os.path.relpath(dataset, run_folder)).as_posix()
    except ValueError:  # on another drive
        return str(dataset)


def find_dataset(run_folder: Path, record: RunRecord) -> Path:
    """Return the folder of the dataset that a run was fitted on.

    Args:
        run_folder: of the run.
        record: of the run.

    Raises:
        InvalidDataset: it is not there any more.
    """
    if is_remote(record.dataset):
        return local_copy(folder_place(record.dataset))
    place = Path(os.path.normpath(run_folder.resolve() / record.dataset))
    # Runs of version 0.1 say where it was seen from the folder of `classmark train`.
    for candidate in (place, Path(record.dataset)):
        if candidate.is_dir():
            return candidate
    raise InvalidDataset(
        f"the dataset of {run_folder} is not at {place}. Say where it is now with --dataset DIR."
    )


def without_folders(command: str) -> str:
    """Return a command line with names for absolute paths: a bundle tells of no machine."""
    return shlex.join(without_folder(word) for word in shlex.split(command))


def without_folder(word: str) -> str:
    """Return a word; of an absolute path, alone or after ``KEY=``, only the name."""
    key, equals, value = word.partition("=")
    for before, path in (("", word), (key + equals, value)):
        for flavour in (PurePosixPath(path), PureWindowsPath(path)):
            if flavour.is_absolute() or path.startswith("~"):
                return before + flavour.name
    return word


def describe_environment(more_packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return commit, package versions, Python and platform."""
    found = {name: v for name in (*_PACKAGES, *more_packages) if (v := _version(name))}
    return {
        "commit": _commit(),
        "packages": {"classmark": __version__, **found},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that classmark runs from, ``+`` if it has changes."""
    here = Path(__file__).parent
    try:
        head, changes = (
            subprocess.run(
                ["git", *words],
                cwd=here,
                capture_output=True,
                encoding="utf-8",
                check=True,
                timeout=10,
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", str(here.parent)))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")
