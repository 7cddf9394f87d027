"""A fit that is made once: what was interrupted is resumed, what has finished is not repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from classmark.dataset import load_manifest
from classmark.errors import ClassmarkError, InvalidConfig
from classmark.pipeline.config import TrainConfig, read_train_config
from classmark.pipeline.kinds import KINDS
from classmark.pipeline.path import train
from classmark.pipeline.run_folder import UNFINISHED
from classmark.pipeline.unfinished import changed_key, find_unfinished, resumed_config
from classmark.records import SILENT, Progress, RunRecord
from classmark.storage import is_remote, local_copy


def train_once(config: TrainConfig, *, command: str, progress: Progress = SILENT) -> Path:
    """Return the run folder of a fit that ``runs_dir`` has, finished by this call if need be.

    The same call, repeated after the machine was taken away, ends in the same run: for a job that
    its platform starts again.

    Raises:
        InvalidConfig: the configuration names a run to resume itself.
        ClassmarkError: what ``train`` raises.
    """
    if config.resume is not None:
        raise InvalidConfig(f"resume={config.resume} says what --once finds. Give one of them.")
    if is_remote(config.runs_dir):
        raise InvalidConfig(
            f"--once looks at runs of this machine, but runs_dir={config.runs_dir} is in a bucket. "
            "Leave --once out, or use `classmark cloud train`, whose jobs resume."
        )
    here = replace(config, dataset=local_copy(config.dataset))
    if (done := _finished(here)) is not None:
        progress.step(f"{done.name} has finished already")
        return done
    return train(_resumed(here, progress) or config, command=command, progress=progress)


def _finished(config: TrainConfig) -> Path | None:
    """Return the newest finished run of this fit, None if there is none."""
    folders = sorted(config.runs_dir.glob(f"{config.kind}-*/{RunRecord.FILE}"), reverse=True)
    digest = load_manifest(config.dataset, verify=False).digest
    for folder in (file.parent for file in folders):
        if folder.name.endswith(UNFINISHED):
            continue
        try:
            is_same = RunRecord.read(folder).dataset_digest == digest
            if is_same and not changed_key(folder, config.composed):
                return folder
        except ClassmarkError:
            continue  # a damaged run is not the one that was asked for
    return None


def _resumed(config: TrainConfig, progress: Progress) -> TrainConfig | None:
    """Return the configuration that resumes the interrupted run of this fit, None if none."""
    if not KINDS[config.kind].can_resume:
        return None
    folder = find_unfinished(
        config.runs_dir, config.kind, config.composed, config.dataset, progress
    )
    if folder is None:
        return None
    progress.step(f"resuming {folder.name}")
    ours = {group: config.composed[group] for group in ("tracker", "profiler", "trainer")}
    return read_train_config(
        {**resumed_config(folder, str(config.composed["dataset"]["path"])), **ours}
    )
