"""The trials of a sweep, one after another, until the budget is used; other processes may help."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from classmark.dataset import load_manifest
from classmark.errors import (
    FitStopped,
    Interrupted,
    InvalidDataset,
    InvalidStudy,
    TrainingFailed,
)
from classmark.pipeline.path import train
from classmark.pipeline.run_folder import unfinished_folder
from classmark.pipeline.sweep.config import SweepPlan, write_plan
from classmark.pipeline.sweep.report import write_outputs
from classmark.pipeline.sweep.space import Value
from classmark.pipeline.sweep.study import (
    DEFAULT,
    PERCENT,
    STUDY_FILE,
    OpenStudy,
    open_study,
    study_errors,
    wait_a_moment,
)
from classmark.records import SILENT, DatasetManifest, Progress, Silent, SweepReport
from classmark.storage import local_copy, remove
from classmark.tracking import RunInfo, Status
from classmark.tracking.runs import read_summary

RUNS = "runs"
_SECONDS, _CPU_SECONDS, _ERROR, _RUN = "seconds", "cpu_seconds", "error", "run"


class _Watcher:
    """Gives the metric of each epoch to the study, and ends a fit that lags behind."""

    name = "the sweep"

    def __init__(self, trial: Trial, metric: str, epochs: int) -> None:
        self._trial, self._metric, self._epochs = trial, f"valid/{metric}", epochs
        self.run = ""

    def start(self, run: RunInfo) -> None:
        self.run = run.name
        self._trial.set_user_attr(_RUN, run.name)

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        del step
        value = values.get(self._metric)
        # The last epoch is not reported: all that is left to do then is to measure the trial.
        if value is None or epoch is None or epoch >= self._epochs:
            return
        self._trial.report(value, step=math.floor(PERCENT * epoch / self._epochs))
        if self._trial.should_prune() and not self._trial.user_attrs.get(DEFAULT):
            raise FitStopped(f"{self._metric} is {value:.4f} after epoch {epoch}.")

    def artifact(self, path: Path, folder: str = "") -> None:
        """Nothing is kept of a trial."""

    def figure(self, name: str, svg_or_png: Path) -> None:
        """Nothing is kept of a trial."""

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Nothing is kept of a trial."""

    def finish(self, status: Status) -> None:
        """Nothing is left to do."""


class _TrialProgress(Silent):
    """Shows how far the fit of a trial is; its steps would be too many lines."""

    def __init__(self, progress: Progress) -> None:
        self.note, self.warn = progress.note, progress.warn  # type: ignore[method-assign]


@dataclass(frozen=True)
class _Work:
    """What a process that works on a study needs."""

    study: OpenStudy
    command: str
    progress: Progress

    @property
    def plan(self) -> SweepPlan:
        return self.study.plan

    def next_trial(self) -> bool:
        """Fit one trial; False if the budget allows none."""
        with ExitStack() as claim:
            claim.enter_context(self.study.claim())
            if not self.study.left():
                return False
            # The claim ends when the trial is running, and so counted.
            objective = partial(self._objective, claim)
            self.study.optuna.optimize(
                objective, n_trials=1, catch=(TrainingFailed,), callbacks=[self._show]
            )
        return True

    def _objective(self, claim: ExitStack, trial: Trial) -> float:
        self.study.begun(trial)
        claim.close()
        try:
            values = self.study.suggest(trial)
            self.progress.step(f"trial {trial.number}: {in_words(values)}")
            return self._measured(trial, values)
        except TrainingFailed as error:
            trial.set_user_attr(_ERROR, str(error))
            raise
        except FitStopped as error:
            raise optuna.TrialPruned(str(error)) from error
        except BaseException:
            self.study.retry(self.study.optuna, self.study.trials()[trial.number])
            raise

    def _measured(self, trial: Trial, values: Mapping[str, Value]) -> float:
        """Return the metric of the fit on the valid split; its run is removed."""
        metric, runs = self.plan.sweep.metric, self.plan.folder / RUNS
        config = self.plan.trial(values)
        watcher = _Watcher(trial, metric, int(config.composed["model"]["epochs"]))
        self._remove_killed(trial, runs)
        started, started_cpu = time.monotonic(), time.process_time()
        try:
            run = train(
                replace(config, runs_dir=runs, watchers=(watcher,)),
                command=self.command,
                progress=_TrialProgress(self.progress),
            )
            value = read_summary(run).metrics[f"valid/{metric}"]
        finally:
            trial.set_user_attr(_SECONDS, round(time.monotonic() - started, 2))
            trial.set_user_attr(_CPU_SECONDS, round(time.process_time() - started_cpu, 2))
            if watcher.run:
                _remove_run(runs, watcher.run)
        return value

    def _remove_killed(self, trial: Trial, runs: Path) -> None:
        """Remove what the trial left that this one tries again."""
        if name := trial.user_attrs.get(_RUN):
            _remove_run(runs, str(name))

    def _show(self, study: optuna.Study, ended: FrozenTrial) -> None:
        """Show how a trial ended, and the best so far."""
        trials = study.get_trials(deepcopy=False)
        values = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
        words = f"{ended.value:.4f}" if ended.state == TrialState.COMPLETE else ended.state.name
        so_far = f", best so far {max(values):.4f}" if values else ""
        metric = self.plan.sweep.metric
        self.progress.step(f"trial {ended.number}: {metric} {words.lower()}{so_far}")


def _remove_run(runs: Path, name: str) -> None:
    for folder in (runs / name, unfinished_folder(runs / name)):
        if folder.exists():
            remove(folder)


def in_words(values: Mapping[str, Any]) -> str:
    """Return values as overrides."""
    return " ".join(f"{key}={value}" for key, value in values.items())


def sweep(
    plan: SweepPlan, *, command: str, joins: bool = False, progress: Progress = SILENT
) -> SweepReport:
    """Return the report of a study when its budget is used, or the minutes of this process are.

    Any number of processes may work on one study. Its folder gets ``sweep.json``, ``report.html``
    and, once a trial is complete, ``best.yaml``, an experiment that ``classmark train`` takes.

    Args:
        plan: what is tried, and the study's folder.
        command: the command line; it resumes the study too.
        joins: the study's ``sweep.yaml`` stays as it is.
        progress: of trials.

    Raises:
        InvalidConfig: the study is of another sweep.
        InvalidDataset: the study is of another dataset, or this one has no valid papers.
        InvalidStudy: the study cannot be read, or the one to join is gone.
        StorageFailed: the study is locked, or cannot be written.
        Interrupted: the user ended it; says how to resume it.
        ClassmarkError: what a fit raises, but ``TrainingFailed``: such a trial has failed.
    """
    study, manifest = _open(plan, command, exists=joins)
    if not joins:
        write_plan(plan, plan.folder)
    with study_errors(plan.folder / STUDY_FILE):
        try:
            _work(_Work(study, command, progress))
        except (KeyboardInterrupt, Interrupted) as error:
            raise Interrupted(
                f"interrupted: the study is kept. Resume it with: {command}"
            ) from error
        finally:
            report = write_outputs(study, manifest)
    return report


def report_study(plan: SweepPlan) -> SweepReport:
    """Return the report of a study as it is now, and write it into its folder.

    Raises:
        ClassmarkError: as ``sweep`` says.
    """
    study, manifest = _open(plan, "", exists=True)
    with study_errors(plan.folder / STUDY_FILE):
        return write_outputs(study, manifest)


def _open(plan: SweepPlan, command: str, *, exists: bool) -> tuple[OpenStudy, DatasetManifest]:
    manifest = load_manifest(local_copy(plan.base.dataset))
    if not manifest.splits["valid"].papers:
        raise InvalidDataset(
            f"{plan.base.dataset} has no papers in its valid split, by which trials are compared. "
            "Build it with --valid-share."
        )
    file = plan.folder / STUDY_FILE
    if exists and not file.exists():
        raise InvalidStudy(
            f"{file} is gone, and the trials with it. Restore it, or begin the study again with "
            "`classmark sweep run`."
        )
    return open_study(plan, manifest.digest, command), manifest


def _work(work: _Work) -> None:
    minutes = work.plan.sweep.minutes
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    said = 0
    while time.monotonic() < until:
        if work.next_trial():
            continue
        others = work.study.running()
        if not others and not work.study.left():
            return
        if others != said:
            work.progress.step(f"waiting for trials of other processes: {others}")
            said = others
        wait_a_moment(work.study)
