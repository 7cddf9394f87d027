"""The offline path: dataset -> fit -> scores -> policy -> bundle."""

from classmark.pipeline.offline import (
    TrainConfig,
    compose_config,
    export_run,
    score_dataset,
    train,
)

__all__ = ["TrainConfig", "compose_config", "export_run", "score_dataset", "train"]
