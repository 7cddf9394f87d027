"""TRACKING: what a run was told and what came of it, kept by one or more trackers."""

from classmark.tracking.config import TrackerConfig, has_mlflow, read_tracker
from classmark.tracking.csvfile import METRICS_FILE, CsvTracker
from classmark.tracking.make import make_trackers
from classmark.tracking.tracker import RunInfo, Status, Tracker, Trackers

__all__ = [
    "METRICS_FILE",
    "CsvTracker",
    "RunInfo",
    "Status",
    "Tracker",
    "TrackerConfig",
    "Trackers",
    "has_mlflow",
    "make_trackers",
    "read_tracker",
]
