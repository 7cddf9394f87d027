"""Sweeps: a study of trials, each a fit with other values, compared on the valid split."""

from classmark.pipeline.sweep.config import (
    SweepConfig,
    SweepPlan,
    compose_sweep,
    read_study_plan,
)
from classmark.pipeline.sweep.report import BEST_FILE, PAGE_FILE, REPORT_FILE
from classmark.pipeline.sweep.run import sweep

__all__ = [
    "BEST_FILE",
    "PAGE_FILE",
    "REPORT_FILE",
    "SweepConfig",
    "SweepPlan",
    "compose_sweep",
    "read_study_plan",
    "sweep",
]
