"""The folder of a transformer while it is fitted: ``NAME.unfinished``, which can be resumed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmark.dataset import load_manifest
from classmark.errors import (
    ClassmarkError,
    InvalidConfig,
    InvalidDataset,
    LabelMismatch,
    RunNotFound,
)
from classmark.pipeline.run_folder import UNFINISHED, unfinished_folder, write_record
from classmark.records import DatasetManifest, Progress, RunRecord, RunStart
from classmark.records.run import Kind
from classmark.storage import LOCK_FILE, is_remote, locked_folder, remove, storage_errors
from classmark.tracking.runs import read_config
from classmark.tracking.tracker import flat

CHECKPOINTS, BEST = "checkpoints", "best"
_FREE = ("dataset.path", "runs_dir", "resume")
HOW = ("model.devices", "model.strategy", "model.workers")
"""Keys that say how a fit is made, not which: a resumed run may have others."""
_GIVE = "Give the folder that the interrupted `classmark train` named."


@dataclass(frozen=True)
class Unfinished:
    """The folder of a run that is being fitted, and what was known at its start."""

    folder: Path
    start: RunStart

    @property
    def has_checkpoint(self) -> bool:
        """Return whether the fit can be resumed."""
        return any((self.folder / CHECKPOINTS).glob("step-*"))

    @property
    def finished_folder(self) -> Path:
        """Return what the folder is called when the run is finished."""
        return self.folder.with_name(self.folder.name.removesuffix(UNFINISHED))

    def finish(self) -> Path:
        """Give the folder its final name, and drop what only an unfinished run needs.

        It is not locked any more: a process that takes it before the renaming finds it finished.
        """
        target = self.finished_folder
        with storage_errors(target):
            self.folder.rename(target)
        for name in (CHECKPOINTS, BEST, RunStart.FILE, LOCK_FILE):
            remove(target / name)
        return target

    def discard(self) -> None:
        """Delete the folder."""
        remove(self.folder)


def hold_run(unfinished: Path) -> AbstractContextManager[None]:
    """Lock the folder of a run for the block: no other process fits it meanwhile.

    Raises:
        OutputBusy: another process does.
        StorageFailed: it cannot be written.
    """
    return locked_folder(unfinished, otherwise="begin a new run")


def begin_unfinished(folder: Path, start: RunStart) -> Unfinished:
    """Return the unfinished run that begins with this record.

    Args:
        folder: of the finished run; that of the unfinished one exists, locked and empty.
        start: what ``read_unfinished`` returns later.
    """
    unfinished = unfinished_folder(folder)
    write_record(unfinished, start)
    return Unfinished(unfinished, start)


def read_unfinished(folder: Path) -> Unfinished:
    """Return a run that was interrupted.

    Raises:
        InvalidConfig: the folder is not such a run.
        RunCorrupt: its record is damaged.
    """
    if (folder / RunRecord.FILE).is_file():
        raise InvalidConfig(f"resume: {folder} is a finished run. {_GIVE}")
    try:
        return Unfinished(folder, RunStart.read(folder))
    except RunNotFound as error:
        raise InvalidConfig(
            f"resume: {folder} is not an unfinished run: it has no {RunStart.FILE}. {_GIVE}"
        ) from error


def read_transformer_record(folder: Path) -> RunStart:
    """Return the record of a transformer's run, finished or not.

    Raises:
        InvalidConfig: the folder is not such a run.
        RunCorrupt: its record is damaged.
    """
    for record in (RunRecord, RunStart):
        if (folder / record.FILE).is_file():
            found = record.read(folder)
            if found.kind == "transformer":
                return found
    raise InvalidConfig(
        f"model.start: {folder} is not a run of model=transformer. Give the folder that such a "
        "`classmark train` printed last."
    )


def resumed_config(folder: Path, dataset: str | None) -> dict[str, Any]:
    """Return the configuration of an unfinished run.

    Args:
        folder: of the unfinished run.
        dataset: where the run's dataset is now; None if it stayed where it was.

    Raises:
        InvalidConfig: the folder is not an unfinished run.
        RunCorrupt: its configuration is damaged.
    """
    start = read_unfinished(folder).start
    stayed = start.dataset
    if not is_remote(stayed):
        stayed = os.path.normpath(folder.resolve() / stayed)
    path = dataset.strip("'\"") if dataset else stayed
    moved = {"dataset": {"path": path}, "runs_dir": str(folder.parent), "resume": str(folder)}
    return {**read_config(folder), **moved}


def check_same_fit(folder: Path, composed: Mapping[str, Any]) -> None:
    """Check that a command line asks for the fit that an unfinished run is of.

    Raises:
        InvalidConfig: it is not an unfinished run, or was begun with another value; names the key.
    """
    read_unfinished(folder)
    key = changed_key(folder, composed)
    if key:
        before, now = dict(flat(read_config(folder))), dict(flat(composed))
        raise InvalidConfig(
            f"{key} is {now.get(key)!r}, but {folder.name} was begun with "
            f"{before.get(key)!r}. Leave it out to resume, or begin a new run."
        )


def changed_key(folder: Path, composed: Mapping[str, Any]) -> str:
    """Return the first key that decides about a fit and is not what a run has, "" if none."""
    before, now = dict(flat(read_config(folder))), dict(flat(composed))
    for key in sorted(before.keys() | now.keys()):
        if key in (*_FREE, *HOW) or key.startswith(("tracker.", "profiler.", "trainer.")):
            continue
        if before.get(key) != now.get(key):
            return key
    return ""


def find_unfinished(
    runs_dir: Path, kind: Kind, composed: Mapping[str, Any], dataset: Path, progress: Progress
) -> Path | None:
    """Return the newest run of a folder that can be resumed, None if there is none.

    Args:
        runs_dir: the folder.
        kind: of the model; it can be resumed.
        composed: configuration of the fit.
        dataset: folder of the dataset that it is made on.
        progress: warned of runs that are of another fit.
    """
    manifest = load_manifest(dataset, verify=False)
    for folder in sorted(runs_dir.glob(f"{kind}-*{UNFINISHED}"), reverse=True):
        try:
            run = read_unfinished(folder)
            check_same_fit(folder, composed)
            check_same_dataset(run.start, manifest, dataset, folder.name)
        except ClassmarkError as error:
            progress.warn(f"warning: {folder} is not resumed, and can be deleted: {error}")
            continue
        if run.has_checkpoint:
            return folder
    return None


def check_same_dataset(
    start: RunStart, manifest: DatasetManifest, dataset: Path, whose: str
) -> None:
    """Check that a run was begun on this dataset.

    Raises:
        LabelMismatch: it has other labels.
        InvalidDataset: it has other papers.
    """
    check_same_labels(start.labels, manifest.labels, dataset, whose)
    if start.dataset_digest != manifest.digest:
        raise InvalidDataset(
            f"dataset {dataset} has digest {manifest.digest[:12]}, {whose} was begun on "
            f"{start.dataset_digest[:12]}. Restore that dataset, or begin a new run."
        )


def check_same_labels(
    theirs: Sequence[str], ours: Sequence[str], dataset: Path, whose: str
) -> None:
    """Check that a run has the labels of a dataset, in their order.

    Raises:
        LabelMismatch: it has others.
    """
    if list(theirs) == list(ours):
        return
    odd = sorted(set(theirs) ^ set(ours))
    example = f"first that only one has: {odd[0]!r}" if odd else "in another order"
    raise LabelMismatch(
        f"{whose} has {len(theirs)} labels, dataset {dataset} has {len(ours)} ({example}). "
        "Use the dataset of that run, or begin a new run."
    )
