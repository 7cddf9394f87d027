"""TRACKING: configuration and results of runs, kept by one or more trackers."""

from classmark.tracking.config import TrackerConfig, has_mlflow, make_trackers, read_tracker
from classmark.tracking.csvfile import METRICS_FILE, CsvTracker
from classmark.tracking.mlflow import DATABASE, QUIET, MlflowStore, MlflowTracker
from classmark.tracking.tracker import RunInfo, Status, Tracker, Trackers, describe_hardware
from classmark.tracking.wandb import WandbPlace, WandbTracker, has_wandb

__all__ = [
    "DATABASE",
    "METRICS_FILE",
    "QUIET",
    "CsvTracker",
    "MlflowStore",
    "MlflowTracker",
    "RunInfo",
    "Status",
    "Tracker",
    "TrackerConfig",
    "Trackers",
    "WandbPlace",
    "WandbTracker",
    "describe_hardware",
    "has_mlflow",
    "has_wandb",
    "make_trackers",
    "read_tracker",
]
