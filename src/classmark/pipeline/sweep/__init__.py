"""Sweeps: a study of trials, each a fit with other values, compared on the valid split.

``config`` and ``wandb`` need no more than a fit does; ``run`` needs the extra ``sweep``.
"""

from classmark.pipeline.sweep.config import (
    SweepConfig,
    SweepPlan,
    compose_sweep,
    describe_sweep_keys,
    read_study_plan,
)

__all__ = ["SweepConfig", "SweepPlan", "compose_sweep", "describe_sweep_keys", "read_study_plan"]
