"""The offline path: dataset -> fit -> scores -> policy -> bundle."""

from classmark.pipeline.config import TrainConfig, compose_config
from classmark.pipeline.facts import read_facts
from classmark.pipeline.offline import export_run, score_dataset
from classmark.pipeline.robustness import judge_robustness
from classmark.pipeline.run import train

__all__ = [
    "TrainConfig",
    "compose_config",
    "export_run",
    "judge_robustness",
    "read_facts",
    "score_dataset",
    "train",
]
