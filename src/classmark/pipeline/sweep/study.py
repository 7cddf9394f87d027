"""The study of a sweep: Optuna's trials in a SQLite file, which many processes work on."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from classmark.errors import InvalidConfig, InvalidDataset, InvalidStudy, StorageFailed
from classmark.pipeline.sweep.config import SweepConfig, SweepPlan
from classmark.pipeline.sweep.space import Range, Value
from classmark.storage import locked_file, storage_errors
from classmark.tracking.tracker import flat

STUDY_FILE = "study.db"
CLAIMS_FILE = "claims.lock"
DEFAULT = "default"
_IDENTITY, _COMMAND, _BEGUN = "identity", "command", "begun"
_NAME = "sweep"
_MISSED_BEATS = 4
_WAIT_S = 60.0
_DIGITS = 4
PERCENT = 100


class _SamplerByTrial(BaseSampler):
    """TPE whose random state depends on the number of the trial alone.

    So no two processes draw the same values, and a study that is resumed goes on as it would have.
    """

    def __init__(self, config: SweepConfig) -> None:
        self._config = config

    def _of(self, trial: FrozenTrial, key: int = 0) -> TPESampler:
        states = np.random.SeedSequence((self._config.seed, trial.number, key)).generate_state(1)
        return TPESampler(
            n_startup_trials=self._config.random_trials,
            multivariate=True,
            constant_liar=True,
            seed=int(states[0]),
        )

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> object:
        # Each key has a sampler of its own; with one state all would be drawn alike.
        sampler = self._of(trial, 1 + list(self._config.space).index(param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class _Storage(RDBStorage):
    """Optuna's storage, to which two threads may give the first heartbeat of a trial."""

    _one_at_a_time = threading.Lock()

    def record_heartbeat(self, trial_id: int) -> None:
        with self._one_at_a_time:
            super().record_heartbeat(trial_id)


@dataclass(frozen=True, eq=False)
class OpenStudy:
    """A study, and the rules by which trials are counted and retried.

    Attributes:
        plan: the sweep.
        storage: of the study.
        optuna: the study itself.
        retry: puts the values of a trial that did not end into the queue again.
    """

    plan: SweepPlan
    storage: RDBStorage
    optuna: Study
    retry: Callable[[Study, FrozenTrial], None]

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, by number."""
        return self.optuna.get_trials(deepcopy=False)

    def left(self) -> bool:
        """Return whether the budget allows another trial; those that run count too.

        One that was killed and is tried again counts once.
        """
        budget = self.plan.sweep.trials
        return budget is None or budget > used(self.trials())

    def running(self) -> int:
        """Return how many trials run in any process, without those whose process has died."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.optuna)
        return sum(trial.state == TrialState.RUNNING for trial in self.trials())

    @property
    def command(self) -> str:
        """Return the command line that began the study."""
        return str(self.optuna.user_attrs[_COMMAND])

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the right to begin a trial: otherwise two processes might begin the last one."""
        with locked_file(self.plan.folder / CLAIMS_FILE, wait_s=_WAIT_S):
            self._fail_unbegun()
            yield

    def begun(self, trial: Trial) -> None:
        """Give the first heartbeat of a trial, while its process holds the claim.

        Optuna's own comes some time after the trial is in the study, and a trial without one
        never fails: if its process was killed in between, all others would wait for it forever.
        """
        study_id = self.storage.get_study_id_from_name(_NAME)
        self.storage.record_heartbeat(
            self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
        )
        # A trial that tries another one again begins with the attributes of that one.
        trial.set_user_attr(_BEGUN, trial.number)

    def _fail_unbegun(self) -> None:
        """Fail each trial whose process has died while it held the claim."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and trial.user_attrs.get(_BEGUN) != trial.number:
                self.optuna.tell(trial.number, state=TrialState.FAIL)
                self.retry(self.optuna, trial)

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Return the values of a trial."""
        for key, where in self.plan.sweep.space.items():
            _suggest(trial, key, where)
        return tried_values(self.plan.sweep.space, trial.params)


def used(trials: list[FrozenTrial]) -> int:
    """Return how many trials count: without those that wait, or were tried again."""
    again = {n for trial in trials for n in retried(trial)}
    return sum(t.state != TrialState.WAITING and t.number not in again for t in trials)


def retried(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that this one tries again, the last one last."""
    return list(trial.system_attrs.get("retry_history", ()))


def _suggest(trial: Trial, key: str, where: Range) -> None:
    if where.choices:
        trial.suggest_categorical(key, where.choices)
        return
    low, high = where.ends
    if where.is_whole:
        step = 1 if where.step is None else int(where.step)
        trial.suggest_int(key, int(low), int(high), step=step, log=where.log)
    else:
        trial.suggest_float(key, float(low), float(high), step=where.step, log=where.log)


def tried_values(space: Mapping[str, Range], params: Mapping[str, Any]) -> dict[str, Value]:
    """Return the values that a fit gets: those of Optuna in a length that people can read."""
    found: dict[str, Value] = {}
    for key, value in params.items():
        if isinstance(value, float) and not space[key].choices:
            low, high = (float(end) for end in space[key].ends)
            found[key] = min(max(float(f"{value:.{_DIGITS}g}"), low), high)
        else:
            found[key] = value
    return found


def open_study(plan: SweepPlan, dataset_digest: str, command: str) -> OpenStudy:
    """Return the study of a plan; one that exists must be of the same sweep.

    Args:
        plan: the sweep.
        dataset_digest: of its dataset.
        command: the command line, kept if it begins the study.

    Raises:
        InvalidConfig: it is of another space or another fit; names the key.
        InvalidDataset: it is of another dataset.
        InvalidStudy: its file is not a study.
        StorageFailed: its file cannot be read or written.
    """
    file, sweep = plan.folder / STUDY_FILE, plan.sweep
    with storage_errors(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    with (
        study_errors(file),
        locked_file(plan.folder / CLAIMS_FILE, wait_s=_WAIT_S),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # our own lines say it
        retry = RetryHeartbeatStaleTrialCallback(max_retry=sweep.retries)
        storage = _Storage(
            f"sqlite:///{file}",
            engine_kwargs={"connect_args": {"timeout": _WAIT_S}},
            heartbeat_interval=sweep.heartbeat_s,
            grace_period=_MISSED_BEATS * sweep.heartbeat_s,
            heartbeat_stale_trial_callback=retry,
        )
        study = optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize",
            sampler=_SamplerByTrial(sweep),
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        _check_identity(study, plan, dataset_digest, command)
    return OpenStudy(plan, storage, study, retry)


def _pruner(sweep: SweepConfig) -> optuna.pruners.BasePruner:
    if sweep.first_share >= 1:
        return NopPruner()
    first = max(1, round(PERCENT * sweep.first_share))
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=sweep.reduction)


def _check_identity(study: Study, plan: SweepPlan, dataset_digest: str, command: str) -> None:
    """Write what the study is of, and queue the default; or compare it with what was written."""
    now = {**_identity(plan), "dataset": dataset_digest}
    before = study.user_attrs.get(_IDENTITY)
    if before is None:
        study.set_user_attr(_COMMAND, command)
        study.set_user_attr(_IDENTITY, now)
        defaults = plan.defaults
        if all(where.has(defaults[key]) for key, where in plan.sweep.space.items()):
            study.enqueue_trial(defaults, user_attrs={DEFAULT: True})
        return
    if before["dataset"] != dataset_digest:
        raise InvalidDataset(
            f"dataset {plan.base.dataset} has digest {dataset_digest[:12]}, the study "
            f"{plan.folder} was begun on {before['dataset'][:12]}. Restore that dataset, or begin "
            "another study with sweep.name=NAME."
        )
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise InvalidConfig(
                f"{key} is {now.get(key)!r}, but the study {plan.folder} was begun with "
                f"{before.get(key)!r}. Leave it as it was, or begin another study with "
                "sweep.name=NAME."
            )


def _identity(plan: SweepPlan) -> dict[str, Any]:
    """Return what makes trials comparable: metric, space, choice of values, and the fit."""
    sweep = plan.sweep
    fit = dict(flat({k: plan.base.composed[k] for k in ("seed", "model")}))
    ours = ("metric", "seed", "random_trials", "first_share", "reduction")
    return {
        **{key: value for key, value in fit.items() if key != "model.threads"},
        **{f"sweep.{key}": getattr(sweep, key) for key in ours},
        **{f"sweep.space.{key}": where.to_dict() for key, where in sweep.space.items()},
    }


@contextmanager
def study_errors(file: Path) -> Iterator[None]:
    """Turn what SQLite and Optuna raise of a study's file into one line.

    Raises:
        StorageFailed: the file is locked, or cannot be read or written.
        InvalidStudy: it is not a study.
    """
    try:
        yield
    except (SQLAlchemyError, OptunaError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if not isinstance(cause, SQLAlchemyError | OptunaError) and not _is_version(error):
            raise
        words = str(getattr(cause, "orig", None) or cause or error).splitlines()[0].rstrip(".")
        if isinstance(cause, OperationalError):
            raise StorageFailed(
                f"the study {file} cannot be used ({words}). End what holds it, check its "
                "permissions and the disk, then run the same command again."
            ) from error
        raise InvalidStudy(
            f"{file} is not a study ({words}). Restore it, or begin another one with "
            "sweep.name=NAME."
        ) from error


def _is_version(error: BaseException) -> bool:
    """Return whether Optuna says that its tables are of another version."""
    return "runtime optuna version" in str(error)


def wait_a_moment(study: OpenStudy) -> None:
    """Wait until others may have ended a trial."""
    time.sleep(min(1.0, study.plan.sweep.heartbeat_s / 2))
