"""The trackers that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from classmark.tracking.config import TrackerConfig
from classmark.tracking.csvfile import CsvTracker
from classmark.tracking.mlflow import MlflowStore, MlflowTracker
from classmark.tracking.tracker import Tracker, Trackers, Warn


def make_trackers(config: TrackerConfig, run_folder: Path, warn: Warn) -> Trackers:
    """Return who keeps a run: its folder's ``metrics.csv`` always, MLflow as configured.

    Args:
        config: the ``tracker`` group.
        run_folder: where the run is, or will be; MLflow's own store lies beside it.
        warn: hears one line of each tracker that fails.
    """
    trackers: list[Tracker] = [CsvTracker(run_folder)]
    if config.with_mlflow:
        store = MlflowStore.beside(run_folder.parent, config.experiment)
        if config.mlflow_uri:
            store = MlflowStore(config.mlflow_uri, "", config.experiment)
        trackers.append(MlflowTracker(store, config.patience_s))
    return Trackers(trackers, warn)
