"""A run of the deep tier while it is fitted: ``NAME.unfinished``, which one can go on with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classmark.errors import InvalidConfig, InvalidDataset, LabelMismatch, RunNotFound
from classmark.records import DatasetManifest, RunRecord, RunStart
from classmark.storage import LOCK_FILE, locked_folder, remove, storage_errors, write_json

UNFINISHED = ".unfinished"
CHECKPOINTS, BEST = "checkpoints", "best"
_FREE = ("dataset.path", "runs_dir", "resume")
_GIVE = "Give the folder that the interrupted `classmark train` named."


@dataclass(frozen=True)
class Unfinished:
    """The folder of a run that is being fitted, and what was known at its start."""

    folder: Path
    start: RunStart

    @property
    def has_checkpoint(self) -> bool:
        """Return whether there is anything to go on with."""
        return any((self.folder / CHECKPOINTS).glob("step-*"))

    @property
    def finished_folder(self) -> Path:
        """Return what the folder is called when the run is finished."""
        return self.folder.with_name(self.folder.name.removesuffix(UNFINISHED))

    def finish(self) -> Path:
        """Give the folder its final name, and drop what only an unfinished run needs.

        It is not held any more: who takes it before it is renamed finds the run finished.
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


def write_record(folder: Path, record: RunStart) -> None:
    """Write the record of a run that begins, or of a finished one, into its folder."""
    write_json(folder / record.FILE, record.to_dict())


def unfinished_folder(folder: Path) -> Path:
    """Return what the folder of a finished run is called while it is fitted."""
    return folder.with_name(folder.name + UNFINISHED)


def hold_run(unfinished: Path) -> AbstractContextManager[None]:
    """Hold the folder of a run for the block: no other process fits it meanwhile.

    Raises:
        OutputBusy: another process does.
        StorageFailed: it cannot be written.
    """
    return locked_folder(unfinished, otherwise="begin a new run")


def begin_unfinished(folder: Path, start: RunStart) -> Unfinished:
    """Write what is known of a run that begins.

    Args:
        folder: of the finished run; that of the unfinished one is there, held, and empty.
        start: what ``read_unfinished`` gives back.
    """
    unfinished = unfinished_folder(folder)
    write_record(unfinished, start)
    return Unfinished(unfinished, start)


def read_unfinished(folder: Path) -> Unfinished:
    """Read the folder of a run that was broken off.

    Raises:
        InvalidConfig: it is none.
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


def read_deep_record(folder: Path) -> RunStart:
    """Return the record of a run of the deep tier, finished or not.

    Raises:
        InvalidConfig: it is no such run.
        RunCorrupt: its record is damaged.
    """
    for record in (RunRecord, RunStart):
        if (folder / record.FILE).is_file():
            found = record.read(folder)
            if found.kind == "transformer":
                return found
    raise InvalidConfig(
        f"model.start: {folder} is no run of model=transformer. Give the folder that such a "
        "`classmark train` printed last."
    )


def continued_config(folder: Path, dataset: str | None) -> dict[str, Any]:
    """Return the configuration of an unfinished run.

    Args:
        folder: of the unfinished run.
        dataset: where the run's dataset is now; None if it stayed where it was.

    Raises:
        InvalidConfig: it is no unfinished run.
    """
    start = read_unfinished(folder).start
    stayed = os.path.normpath(folder.resolve() / start.dataset)
    path = dataset.strip("'\"") if dataset else stayed
    moved = {"dataset": {"path": path}, "runs_dir": str(folder.parent), "resume": str(folder)}
    return {**read_config_file(folder), **moved}


def check_same_fit(folder: Path, composed: Mapping[str, Any]) -> None:
    """Go on if a command line asks for the fit that an unfinished run is of.

    Raises:
        InvalidConfig: it is no unfinished run, or was begun with another value; names the key.
    """
    read_unfinished(folder)
    before, now = _flat(read_config_file(folder)), _flat(composed)
    for key in sorted(before.keys() | now.keys()):
        if key in _FREE or key.startswith("tracker."):
            continue
        if before.get(key) != now.get(key):
            raise InvalidConfig(
                f"{key} is {now.get(key)!r}, but {folder.name} was begun with "
                f"{before.get(key)!r}. Leave it out to go on, or begin a new run."
            )


def read_config_file(folder: Path) -> dict[str, Any]:
    """Return ``config.yaml`` of a run.

    Raises:
        InvalidConfig: it cannot be read.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidConfig(f"{folder / 'config.yaml'} cannot be read: {reason}.") from error
    return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}


def check_same_dataset(
    start: RunStart, manifest: DatasetManifest, dataset: Path, whose: str
) -> None:
    """Go on if a run was begun on this dataset.

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
    """Go on if a run has the labels of a dataset, in their order.

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


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat.update(_flat(value, name + ".") if isinstance(value, Mapping) else {name: value})
    return flat
