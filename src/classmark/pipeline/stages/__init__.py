"""The whole offline path as stages, each skipped while nothing that it depends on has changed."""

from classmark.pipeline.stages.config import (
    PARAMS_FILE,
    PipelineConfig,
    compose_pipeline,
    describe_stage_keys,
    read_params,
    with_groups,
)
from classmark.pipeline.stages.files import init_pipeline, pipeline_files, stale_files
from classmark.pipeline.stages.walk import StageReport, summary, walk

__all__ = [
    "PARAMS_FILE",
    "PipelineConfig",
    "StageReport",
    "compose_pipeline",
    "describe_stage_keys",
    "init_pipeline",
    "pipeline_files",
    "read_params",
    "stale_files",
    "summary",
    "walk",
    "with_groups",
]
