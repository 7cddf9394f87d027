"""The offline path: dataset -> fit -> scores -> policy -> bundle."""

from classmark.pipeline.candidate import ExportOptions
from classmark.pipeline.config import TrainConfig, compose_config
from classmark.pipeline.export import export_run
from classmark.pipeline.facts import read_facts
from classmark.pipeline.robustness import judge_robustness
from classmark.pipeline.run import train
from classmark.pipeline.scoring import score_dataset

__all__ = [
    "ExportOptions",
    "TrainConfig",
    "compose_config",
    "export_run",
    "judge_robustness",
    "read_facts",
    "score_dataset",
    "train",
]
