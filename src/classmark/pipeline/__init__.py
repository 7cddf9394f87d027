"""The offline path: dataset -> fit -> scores -> policy -> bundle."""

from classmark.pipeline.config import TrainConfig, compose_config
from classmark.pipeline.export import ExportOptions
from classmark.pipeline.kinds import is_first_process
from classmark.pipeline.once import train_once
from classmark.pipeline.path import export_run, train
from classmark.pipeline.robustness import judge_robustness
from classmark.pipeline.scoring import read_facts, score_dataset

__all__ = [
    "ExportOptions",
    "TrainConfig",
    "compose_config",
    "export_run",
    "is_first_process",
    "judge_robustness",
    "read_facts",
    "score_dataset",
    "train",
    "train_once",
]
