"""TRACKING: what a run was told and what came of it, kept by one or more trackers."""

from classmark.tracking.config import TrackerConfig, has_mlflow, read_tracker
from classmark.tracking.csvfile import METRICS_FILE, CsvTracker
from classmark.tracking.hardware import describe_hardware
from classmark.tracking.make import make_trackers
from classmark.tracking.mlflow import DATABASE, MlflowStore, MlflowTracker
from classmark.tracking.process import QUIET
from classmark.tracking.tracker import RunInfo, Status, Tracker, Trackers, warn_on_stderr

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
    "describe_hardware",
    "has_mlflow",
    "make_trackers",
    "read_tracker",
    "warn_on_stderr",
]
