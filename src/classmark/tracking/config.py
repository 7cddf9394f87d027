"""What ``tracker.*`` of a configuration says: which trackers keep a run, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from classmark.errors import InvalidConfig, MissingExtra
from classmark.records import Progress
from classmark.records.fields import read_group
from classmark.tracking.csvfile import CsvTracker
from classmark.tracking.mlflow import MlflowStore, MlflowTracker
from classmark.tracking.tracker import Tracker, Trackers
from classmark.tracking.wandb import WandbPlace, WandbTracker, has_wandb

WithMlflow = Literal["never", "auto", "always"]
WithWandb = Literal["never", "auto", "online", "offline"]
LONGEST_PATIENCE_S = 3600


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Who keeps a run beside its own folder and the ``metrics.csv`` in it.

    Attributes:
        mlflow: whether MLflow records runs; ``auto``: if it is installed.
        mlflow_uri: a server (``http://...``) or a store; "" is ``mlflow.db`` beside the runs.
        wandb: whether Weights & Biases does; ``auto``: online with an API key, else offline.
        wandb_url: the server of W&B; "" is W&B's own.
        experiment: name that MLflow groups the runs under, and W&B's project.
        patience_s: longest time that the end of a run waits for each tracker, in seconds.
    """

    mlflow: WithMlflow
    mlflow_uri: str
    wandb: WithWandb
    wandb_url: str
    experiment: str
    patience_s: float

    def __post_init__(self) -> None:
        for key, allowed in (("mlflow", get_args(WithMlflow)), ("wandb", get_args(WithWandb))):
            if getattr(self, key) not in allowed:
                raise InvalidConfig(
                    f"tracker.{key} is {getattr(self, key)!r}, it must be one of "
                    f"{', '.join(allowed)}."
                )
        self._check_addresses()
        if not self.experiment.strip():
            raise InvalidConfig("tracker.experiment is empty. Name the experiment of the runs.")
        if not 0 < self.patience_s <= LONGEST_PATIENCE_S:
            raise InvalidConfig(
                f"tracker.patience_s is {self.patience_s}, it must be above 0 and at most "
                f"{LONGEST_PATIENCE_S} seconds."
            )

    def _check_addresses(self) -> None:
        """Refuse a password or key: the run folder would show it to everybody."""
        instead = {
            "mlflow_uri": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            "wandb_url": "WANDB_API_KEY",
        }
        for key, variables in instead.items():
            if "@" in urlsplit(getattr(self, key)).netloc:
                raise InvalidConfig(
                    f"tracker.{key} holds a name or password. Give them as {variables} in the "
                    "environment."
                )

    @property
    def with_mlflow(self) -> bool:
        """Return whether MLflow keeps the run too."""
        return self.mlflow == "always" or (self.mlflow == "auto" and has_mlflow())

    @property
    def services(self) -> str:
        """Return the names of those that the end of a run waits for, in words."""
        names = ["MLflow"] * self.with_mlflow + ["W&B"] * (self.wandb != "never")
        return " and ".join(names)


def has_mlflow() -> bool:
    """Return whether MLflow is installed; imports nothing of it."""
    return find_spec("mlflow") is not None


def read_tracker(composed: Mapping[str, Any]) -> TrackerConfig:
    """Return the checked ``tracker`` group of a composed configuration.

    Raises:
        InvalidConfig: a key is unknown or missing, or a value of the wrong type or out of range.
        MissingExtra: MLflow or W&B is asked for and not installed.
    """
    given = read_group(composed, "tracker", TrackerConfig)
    for key in sorted(given.keys() - {"patience_s"}):
        if not isinstance(given[key], str):
            raise InvalidConfig(f"tracker.{key} must be a word, got {given[key]!r}.")
    if type(given["patience_s"]) not in (int, float):
        raise InvalidConfig(f"tracker.patience_s must be a number, got {given['patience_s']!r}.")
    config = TrackerConfig(**given)
    if config.mlflow == "always" and not has_mlflow():
        raise MissingExtra("tracker=mlflow", "track")
    if config.wandb != "never" and not has_wandb():
        raise MissingExtra("tracker=wandb", "wandb")
    return config


def make_trackers(
    config: TrackerConfig, run_folder: Path, progress: Progress, more: Sequence[Tracker] = ()
) -> Trackers:
    """Return who keeps a run: its folder's ``metrics.csv`` always, others as configured.

    Args:
        config: the ``tracker`` group.
        run_folder: where the run is, or will be; the stores of the others are beside it.
        progress: warns of each tracker that fails.
        more: further trackers, which come last.
    """
    trackers: list[Tracker] = [CsvTracker(run_folder)]
    if config.with_mlflow:
        store = MlflowStore.beside(run_folder.parent, config.experiment)
        if config.mlflow_uri:
            store = MlflowStore(config.mlflow_uri, "", config.experiment)
        trackers.append(MlflowTracker(store, config.patience_s))
    if config.wandb != "never":
        url, mode = config.wandb_url, config.wandb
        place = WandbPlace.beside(run_folder.parent, url, config.experiment, mode)
        trackers.append(WandbTracker(place, config.patience_s))
    return Trackers([*trackers, *more], progress)
