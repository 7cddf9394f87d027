"""What ``tracker.*`` of a configuration says: which trackers keep a run, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from classmark.errors import InvalidConfig, MissingExtra
from classmark.records import Progress
from classmark.tracking.csvfile import CsvTracker
from classmark.tracking.mlflow import MlflowStore, MlflowTracker
from classmark.tracking.tracker import Tracker, Trackers

TrackerKind = Literal["auto", "csv", "mlflow"]
LONGEST_PATIENCE_S = 3600


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Who keeps a run beside its own folder.

    Attributes:
        kind: ``csv`` is the folder's ``metrics.csv`` alone, ``mlflow`` adds MLflow, ``auto`` adds
            it where it is installed.
        mlflow_uri: a server (``http://...``) or a store; "" is ``mlflow.db`` beside the runs.
        experiment: name that MLflow groups the runs under.
        patience_s: longest time that the end of a run waits for MLflow, in seconds.
    """

    kind: TrackerKind
    mlflow_uri: str
    experiment: str
    patience_s: float

    def __post_init__(self) -> None:
        kinds = get_args(TrackerKind)
        if self.kind not in kinds:
            raise InvalidConfig(
                f"tracker.kind is {self.kind!r}, it must be one of {', '.join(kinds)}."
            )
        if "@" in urlsplit(self.mlflow_uri).netloc:  # the run folder would show it to everybody
            raise InvalidConfig(
                "tracker.mlflow_uri holds a name or password. Give them as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment."
            )
        if not self.experiment.strip():
            raise InvalidConfig("tracker.experiment is empty. Name the experiment of the runs.")
        if not 0 < self.patience_s <= LONGEST_PATIENCE_S:
            raise InvalidConfig(
                f"tracker.patience_s is {self.patience_s}, it must be above 0 and at most "
                f"{LONGEST_PATIENCE_S} seconds."
            )

    @property
    def with_mlflow(self) -> bool:
        """Return whether MLflow keeps the run too."""
        return self.kind == "mlflow" or (self.kind == "auto" and has_mlflow())


def has_mlflow() -> bool:
    """Return whether MLflow is installed; imports nothing of it."""
    return find_spec("mlflow") is not None


def read_tracker(composed: Mapping[str, Any]) -> TrackerConfig:
    """Return the checked ``tracker`` group of a composed configuration.

    Raises:
        InvalidConfig: a key is unknown or missing, or a value of the wrong type or out of range.
        MissingExtra: MLflow is asked for and not installed.
    """
    given = composed.get("tracker")
    if not isinstance(given, dict):
        raise InvalidConfig(f"tracker must be a group of keys, got {given!r}.")
    known = {field.name for field in fields(TrackerConfig)}
    for key in sorted(known ^ set(given)):
        problem = "missing" if key in known else "unknown"
        raise InvalidConfig(f"tracker.{key} is {problem}. It knows {', '.join(sorted(known))}.")
    for key in ("kind", "mlflow_uri", "experiment"):
        if not isinstance(given[key], str):
            raise InvalidConfig(f"tracker.{key} must be a word, got {given[key]!r}.")
    if type(given["patience_s"]) not in (int, float):
        raise InvalidConfig(f"tracker.patience_s must be a number, got {given['patience_s']!r}.")
    config = TrackerConfig(**given)
    if config.kind == "mlflow" and not has_mlflow():
        raise MissingExtra("tracker=mlflow", "track")
    return config


def make_trackers(config: TrackerConfig, run_folder: Path, progress: Progress) -> Trackers:
    """Return who keeps a run: its folder's ``metrics.csv`` always, MLflow as configured.

    Args:
        config: the ``tracker`` group.
        run_folder: where the run is, or will be; MLflow's own store lies beside it.
        progress: warns of each tracker that fails.
    """
    trackers: list[Tracker] = [CsvTracker(run_folder)]
    if config.with_mlflow:
        store = MlflowStore.beside(run_folder.parent, config.experiment)
        if config.mlflow_uri:
            store = MlflowStore(config.mlflow_uri, "", config.experiment)
        trackers.append(MlflowTracker(store, config.patience_s))
    return Trackers(trackers, progress)
