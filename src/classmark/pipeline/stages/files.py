"""The stages for DVC: ``dvc.yaml`` and ``params.yaml``, written from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classmark.errors import InvalidConfig, StorageFailed
from classmark.pipeline.kinds import KINDS
from classmark.pipeline.run_folder import UNFINISHED
from classmark.pipeline.stages.config import (
    PARAMS_FILE,
    WRITER,
    PipelineConfig,
    compose_pipeline,
    read_params,
)
from classmark.pipeline.stages.stages import LOG, METRICS, PLOTS, REGISTERED, STAGES, Stage
from classmark.pipeline.stages.walk import STATE_FOLDER
from classmark.storage import write_text

DVC_FILE = "dvc.yaml"
_IGNORE_FILE = ".gitignore"
_IGNORED = (f"/{STATE_FOLDER}/", f"/*{UNFINISHED}/", "/dvc_plots/", "/registry/")
"""DVC adds the outputs of the stages to the same file. A registry is not an output: it stays."""
_HEAD = {
    DVC_FILE: "# The stages of `classmark pipeline run`, written by `classmark pipeline init`.\n"
    "# Stages of your own go in the dvc.yaml of another folder.\n",
    PARAMS_FILE: "# `classmark pipeline run --help` explains the keys. After an edit:\n"
    "# `dvc repro` or `classmark pipeline run`; after naming other papers,\n"
    "# `classmark pipeline init` first.\n",
}
_ACCURACY = {"x": "year", "y": {f"{PLOTS}/years.csv": ["top_1", "top_5"]}}
_LOSS = {"x": "epoch", "y": {LOG: "loss"}}


def init_pipeline(overrides: Sequence[str], *, overwrite: bool = False) -> list[str]:
    """Write the files of a pipeline into the current folder; return those that changed.

    Values of a ``params.yaml`` are kept, unless it is to be overwritten.

    Args:
        overrides: of a new pipeline.
        overwrite: replace the values, and a ``dvc.yaml`` that differs.

    Raises:
        InvalidConfig: the values are not a configuration, or overrides would change them.
        StorageFailed: a ``dvc.yaml`` of something else is in the way, or a file cannot be written.
    """
    exists = Path(PARAMS_FILE).is_file() and not overwrite
    old = read_params(Path(PARAMS_FILE), any_version=True) if exists else None
    # Only its version would change; its comments and order are the user's.
    is_current = old is not None and old.written == old.params[WRITER]
    if old is not None and overrides:
        raise InvalidConfig(
            f"{PARAMS_FILE} exists, and {overrides[0]} may contradict it. Edit the file, or give "
            "--overwrite with every KEY=VALUE that differs from the defaults."
        )
    config = compose_pipeline(overrides) if old is None else old
    _refuse_other_stages(overwrite=overwrite)
    ignored = Path(_IGNORE_FILE)
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    lines += [line for line in _IGNORED if line not in lines]
    wanted = {**pipeline_files(config), _IGNORE_FILE: "\n".join(lines) + "\n"}
    changed = [name for name in stale_files(wanted) if not (name == PARAMS_FILE and is_current)]
    for name in changed:
        write_text(Path(name), wanted[name])
    return changed


def stale_files(wanted: Mapping[str, str]) -> list[str]:
    """Return which files of the current folder do not have this content.

    Args:
        wanted: content by name.
    """
    return [
        name
        for name, content in wanted.items()
        if not Path(name).is_file() or Path(name).read_bytes() != content.encode()
    ]


def pipeline_files(config: PipelineConfig) -> dict[str, str]:
    """Return the content of ``dvc.yaml`` and ``params.yaml`` of a configuration."""
    plots: list[str | dict[str, Any]] = [
        f"{PLOTS}/reliability.svg",
        f"{PLOTS}/confusion.svg",
        {"accuracy by year": {**_ACCURACY, "y_label": "share of the papers"}},
    ]
    if KINDS[config.train.kind].has_epochs:
        plots.append({"loss": {**_LOSS, "y_label": "loss"}})
    stages = {stage.name: _stage(stage, config) for stage in STAGES}
    dvc = {"stages": stages, "metrics": [METRICS], "plots": plots}
    return {DVC_FILE: _yaml(DVC_FILE, dvc), PARAMS_FILE: _yaml(PARAMS_FILE, config.params)}


def _stage(stage: Stage, config: PipelineConfig) -> dict[str, Any]:
    deps = list(stage.inputs(config))
    # Git keeps the numbers, so that they can be compared between commits; the rest is in the cache.
    in_git = (METRICS, REGISTERED)
    outs = [{name: {"cache": False}} if name in in_git else name for name in stage.outputs]
    return {
        "cmd": f"classmark pipeline run --stage {stage.name}",
        **({"deps": deps} if deps else {}),
        "params": list(stage.params(config)),
        "outs": outs,
    }


def _yaml(name: str, value: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return _HEAD[name] + text


def _refuse_other_stages(*, overwrite: bool) -> None:
    file = Path(DVC_FILE)
    if overwrite or not file.is_file():
        return
    if not file.read_text(encoding="utf-8").startswith(_HEAD[DVC_FILE]):
        raise StorageFailed(
            f"{file.absolute()} was not written by `classmark pipeline init`. Use another "
            "--folder, or replace it with --overwrite."
        )
