"""What a sweep tries: the space, checked before the first fit, and the configuration of a trial."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from classmark.bundle.find import NAME_PATTERN
from classmark.errors import InvalidConfig, RunCorrupt, RunNotFound
from classmark.pipeline.config import TrainConfig, compose, read_train_config
from classmark.pipeline.keys import (
    ConfigKey,
    default_words,
    describe_keys,
    meanings,
    type_words,
)
from classmark.pipeline.kinds import KINDS, kinds_that
from classmark.pipeline.run_folder import dataset_from_run
from classmark.pipeline.sweep.space import Range, Value, leaves, read_range
from classmark.records.fields import WrongField, read_fields
from classmark.storage import is_remote, write_text
from classmark.tracking.tracker import flat

Metric = Literal["top_1", "top_5", "macro_f1"]
CONFIG_FILE = "sweep.yaml"
_FIXED = {
    "model.max_held_out": "trials would be measured on different papers",
    "model.threads": "it does not change the model",
    "model.start": "it is the folder of a run",
    "model.time_limit_minutes": "the result would depend on the machine",
}


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What a sweep tries, how it chooses, and when it ends.

    Attributes:
        name: of the study; its folder is ``sweep-NAME`` in ``runs_dir``.
        metric: on the valid split; the trial with the highest wins.
        trials: trials of the study by all processes together; null: no limit.
        minutes: minutes after which a process begins no further trial; null: no limit.
        seed: of the choice of values; with one process the same seed gives the same trials.
        random_trials: trials at the beginning whose values are drawn at random.
        first_share: share of its epochs after which a trial may be pruned, 0..1; 1: never.
        reduction: one in this many trials continues at each check; the epochs between checks grow
            by this factor.
        heartbeat_s: seconds between two signs of life of a trial; four are waited for.
        retries: how often a trial whose process was killed is tried again.
        space: where to search for the value of each key: low and high (with log or step), or
            choices.
    """

    name: str
    metric: Metric
    trials: int | None
    minutes: float | None
    seed: int
    random_trials: int
    first_share: float
    reduction: int
    heartbeat_s: int
    retries: int
    space: Mapping[str, Range]

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "trials": (1, 100_000),
            "minutes": (0.0, 1e6),
            "seed": (0, 2**32 - 1),
            "random_trials": (0, 100_000),
            "first_share": (0.0, 1.0),
            "reduction": (2, 100),
            "heartbeat_s": (1, 3600),
            "retries": (0, 100),
        }
        for key, (low, high) in limits.items():
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                raise InvalidConfig(f"sweep.{key} is {value}, it must be from {low} to {high}.")
        if not NAME_PATTERN.fullmatch(self.name):
            raise InvalidConfig(f"sweep.name is {self.name!r}. Choose for example sweep.name=mine.")
        if self.trials is None and self.minutes is None:
            raise InvalidConfig(
                "sweep.trials and sweep.minutes are both null, so the sweep would never end. Set "
                "one of them."
            )
        if not self.space:
            raise InvalidConfig("sweep.space is empty. Name a key, or choose sweep=fast.")


@dataclass(frozen=True)
class SweepPlan:
    """A sweep and the fit that its trials are variations of.

    Attributes:
        sweep: what is tried.
        base: the fit without the sweep.
        folder: of the study.
        composed: everything as Hydra composed it, with the sweep.
    """

    sweep: SweepConfig
    base: TrainConfig
    folder: Path
    composed: dict[str, Any]

    @property
    def defaults(self) -> dict[str, Value]:
        """Return the value of each key of the space before the sweep."""
        values = dict(flat(self.base.composed))
        return {key: values[key] for key in self.sweep.space}

    def trial(self, values: Mapping[str, Value]) -> TrainConfig:
        """Return the fit of a trial, checked.

        Raises:
            InvalidConfig: a value is of the wrong type or out of range.
        """
        composed = deepcopy(self.base.composed)
        for key, value in values.items():
            group, _, name = key.rpartition(".")
            composed[group][name] = value
        return read_train_config(composed)


def compose_sweep(overrides: Sequence[str]) -> SweepPlan:
    """Return the sweep that Hydra composes of ``conf/sweep.yaml`` and overrides.

    Raises:
        InvalidConfig: a key is unknown, a value is of the wrong type or out of range, or no fit is
            possible at an end of a range.
    """
    names = {"sweep": {field.name: None for field in fields(SweepConfig)}}
    return read_plan(compose("sweep", overrides, names))


def read_plan(composed: dict[str, Any], folder: Path | None = None) -> SweepPlan:
    """Return what was composed as a sweep, each value checked.

    Args:
        composed: the configuration.
        folder: of the study; None: ``sweep-NAME`` in ``runs_dir``.

    Raises:
        InvalidConfig: as ``compose_sweep`` says.
    """
    sweep = _read_sweep(composed["sweep"])
    base = read_train_config({key: v for key, v in composed.items() if key != "sweep"})
    if not KINDS[base.kind].can_sweep:
        possible = kinds_that(lambda kind: kind.can_sweep)
        raise InvalidConfig(f"sweep is for {possible}, not for model={base.kind}.")
    if base.resume is not None:
        raise InvalidConfig("resume is not a choice of a sweep: the same command resumes it.")
    if folder is None and is_remote(base.runs_dir):
        raise InvalidConfig(
            f"runs_dir={base.runs_dir} is in a bucket, but a study needs a folder of this machine, "
            "for its database. Give runs_dir=DIR."
        )
    plan = SweepPlan(sweep, base, folder or base.runs_dir / f"sweep-{sweep.name}", composed)
    _check_ends(plan)
    return plan


def _read_sweep(given: object) -> SweepConfig:
    if not isinstance(given, dict) or not isinstance(given.get("space"), dict):
        raise InvalidConfig(
            "sweep.space must be a group of keys. See `classmark sweep run --help`."
        )
    space = {key: read_range(key, value) for key, value in leaves(given["space"])}
    rest = {key: value for key, value in given.items() if key != "space"}
    try:
        return read_fields(SweepConfig, rest, "sweep.", space=space)
    except WrongField as error:
        raise InvalidConfig(f"{error}. See `classmark sweep run --help` for the keys.") from error


def _check_ends(plan: SweepPlan) -> None:
    """Compose the fit at each end of each range: a trial must not fail where it could be known."""
    known = {key for key, _ in flat(plan.base.composed) if key.startswith("model.")}
    for key, where in plan.sweep.space.items():
        if reason := _FIXED.get(key):
            raise InvalidConfig(f"sweep.space.{key}: {reason}. Leave it out.")
        if key not in known or key == "model.kind":
            raise InvalidConfig(
                f"sweep.space.{key} is not a key of model={plan.base.kind}. "
                "See `classmark train --help` for them."
            )
        for value in where.ends:
            plan.trial({key: value})


def write_plan(plan: SweepPlan, folder: Path) -> None:
    """Write ``sweep.yaml`` into the folder of a study; the dataset is named from there."""
    from omegaconf import OmegaConf

    dataset = {"path": dataset_from_run(plan.base, folder)}
    moved = {**plan.composed, "dataset": dataset}
    write_text(folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(moved)))


def read_study_plan(folder: Path, dataset: Path | None = None) -> SweepPlan:
    """Return the sweep of a study's folder.

    Args:
        folder: of the study.
        dataset: where its dataset is on this machine; None if it stayed where it was.

    Raises:
        RunNotFound: it is not the folder of a study.
        RunCorrupt: its file cannot be read.
        InvalidConfig: its file was changed by hand, and does not hold.
    """
    from omegaconf import OmegaConf

    file = folder / CONFIG_FILE
    if not file.is_file():
        raise RunNotFound(
            f"{folder} is not the folder of a study: it has no {CONFIG_FILE}. Give the folder that "
            "`classmark sweep` printed."
        )
    try:
        composed: Any = OmegaConf.to_container(OmegaConf.load(file))
        place = composed["dataset"]["path"]
    except Exception as error:  # YAML has a tree of errors of its own
        problem = " ".join(str(error).split())
        raise RunCorrupt(
            f"{file} cannot be read ({problem}). Restore it, or begin another study."
        ) from error
    stayed = place if is_remote(place) else os.path.normpath(folder.resolve() / place)
    composed["dataset"] = {"path": str(dataset or stayed)}
    return read_plan(composed, folder)


def describe_sweep_keys() -> dict[str, list[ConfigKey]]:
    """Return the keys of a sweep; those of its fits are the keys of ``classmark train``."""
    said, hints = meanings(SweepConfig), get_type_hints(SweepConfig)
    defaults = {**compose("sweep", ["dataset.path=DIR"])["sweep"], "space": ""}
    ours = [
        ConfigKey(f"sweep.{name}", type_words(hints[name]), default_words(defaults[name]), words)
        for name, words in said.items()
        if name != "space"
    ]
    space = ConfigKey("sweep.space.KEY", "range", "that of sweep=fast", said["space"])
    return {"the sweep": [*ours, space], **describe_keys()}
