"""Walks the stages: runs those with changes before them, and remembers what each was made of."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from classmark.bundle import read_manifest
from classmark.bundle.manifest import manifest_digest
from classmark.errors import ClassmarkError, InvalidConfig, StorageFailed, UnreadableSource
from classmark.pipeline.stages.config import PipelineConfig
from classmark.pipeline.stages.stages import (
    BUNDLE,
    GATE,
    METRICS,
    REGISTERED,
    STAGES,
    Stage,
    check_gate_rules,
    command_of,
)
from classmark.records import SILENT, Progress
from classmark.storage import locked_folder, sha256_file, storage_errors, write_json
from classmark.tracking.tracker import flat

STATE_FOLDER = ".pipeline"
_STATE = Path(STATE_FOLDER, "state.json")
_VERSION = "format_version"
_FORMAT = 1

State = Literal["ran", "unchanged", "would run"]


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What became of a stage.

    Attributes:
        stage: its name.
        state: whether it ran, was skipped, or would run.
        reason: what changed; "" if nothing did.
        seconds: that it took.
    """

    stage: str
    state: State
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Walk:
    config: PipelineConfig
    force: bool
    records: dict[str, dict[str, Any]]


def walk(
    config: PipelineConfig,
    *,
    only: Collection[str] = (),
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Iterator[StageReport]:
    """Yield what became of each stage in the current folder, once it is done.

    Args:
        config: of all stages.
        only: names of the stages to run; none means all.
        force: run stages without changes too, and replace outputs that the pipeline did not make.
        dry_run: say what would run; nothing is written.
        progress: of the stage that runs.

    Raises:
        InvalidConfig: there is no such stage.
        InvalidGates: the rules of the gate cannot be used.
        OutputBusy: another process walks this folder.
        StorageFailed: an output exists that the pipeline did not make.
        UnreadableSource: an input is missing.
        ClassmarkError: what else a stage raises.
    """
    names = [stage.name for stage in STAGES]
    if unknown := sorted(set(only) - set(names)):
        raise InvalidConfig(
            f"--stage {unknown[0]!r} is unknown. Choose one of: {', '.join(names)}."
        )
    chosen = [stage for stage in STAGES if not only or stage.name in only]
    if GATE in [stage.name for stage in chosen]:
        check_gate_rules(config)
    if dry_run:
        yield from _dry(_Walk(config, force, _read_records()), chosen)
        return
    with locked_folder(Path(STATE_FOLDER), otherwise="use another --folder"):
        walked = _Walk(config, force, _read_records())
        for number, stage in enumerate(chosen, 1):
            yield _run(walked, stage, f"{number} of {len(chosen)}", progress)


def _dry(walked: _Walk, stages: list[Stage]) -> Iterator[StageReport]:
    changed: dict[str, str] = {}
    for stage in stages:
        inputs = stage.inputs(walked.config)
        before = next((changed[name] for name in inputs if name in changed), None)
        reason = f"after {before}" if before else _reason(walked, stage)
        if reason:
            changed |= dict.fromkeys(stage.outputs, stage.name)
        yield StageReport(
            stage=stage.name, state="would run" if reason else "unchanged", reason=reason
        )


def _run(walked: _Walk, stage: Stage, place: str, progress: Progress) -> StageReport:
    reason = _reason(walked, stage)
    if not reason:
        return StageReport(stage=stage.name, state="unchanged")
    if stage.name not in walked.records and not walked.force:
        _refuse_what_others_made(stage)
    started = time.monotonic()
    params, inputs = _params(walked.config, stage), _digests(stage.inputs(walked.config))
    # Begun: what a killed stage leaves is the pipeline's own, and is not taken for finished.
    walked.records[stage.name] = {}
    _write_records(walked.records)
    progress.step(f"stage {place}: {stage.name} ({reason})")
    stage.make(walked.config, command_of(walked.config), progress)
    outputs = _digests(stage.outputs)
    walked.records[stage.name] = {"params": params, "inputs": inputs, "outputs": outputs}
    _write_records(walked.records)
    seconds = round(time.monotonic() - started, 1)
    return StageReport(stage=stage.name, state="ran", reason=reason, seconds=seconds)


def _reason(walked: _Walk, stage: Stage) -> str:
    """Return why a stage has to run; "" if it does not.

    Raises:
        UnreadableSource: an input is missing.
    """
    inputs = stage.inputs(walked.config)
    if missing := [name for name in inputs if not Path(name).exists()]:
        maker = next((each.name for each in STAGES if missing[0] in each.outputs), None)
        hint = f"Run stage {maker} first" if maker else "Correct the path in the configuration"
        if not maker and not Path(missing[0]).is_absolute():
            hint += f"; it is relative to the folder of the pipeline, {Path.cwd()}"
        raise UnreadableSource(f"stage {stage.name} reads {missing[0]}, which is missing. {hint}.")
    if walked.force:
        return "forced"
    record = walked.records.get(stage.name)
    if record is None:
        return "it has not run yet"
    if not record:
        return "it did not finish"
    now = _params(walked.config, stage)
    return (
        _difference(record["params"], now, "{} was {}, is {}")
        or _difference(record["inputs"], _digests(inputs), "{} has changed")
        or _difference(record["outputs"], _digests(stage.outputs), "{} is not what it made")
    )


def _difference(before: Mapping[str, Any], now: Mapping[str, Any], words: str) -> str:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            return words.format(key, before.get(key), now.get(key))
    return ""


def _params(config: PipelineConfig, stage: Stage) -> dict[str, Any]:
    """Return the parameters of a stage, ``model.rate`` and its value."""
    names = stage.params(config)
    return {
        key: value
        for key, value in flat(config.params)
        if any(key == name or key.startswith(f"{name}.") for name in names)
    }


def _digests(names: tuple[str, ...]) -> dict[str, str]:
    """Return the SHA-256 of the content of files and folders; of a missing one, ""."""
    return {name: _digest(Path(name)) for name in names}


def _digest(path: Path) -> str:
    with storage_errors(path):
        if path.is_file():
            return sha256_file(path)
        if not path.is_dir():
            return ""
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()}\0{sha256_file(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refuse_what_others_made(stage: Stage) -> None:
    for name in stage.outputs:
        if Path(name).exists():
            raise StorageFailed(
                f"{name} exists, and {_STATE} has no record of it, so stage {stage.name} would "
                "replace it. Move it away, use another --folder, or give --force."
            )


def _read_records() -> dict[str, dict[str, Any]]:
    """Return what each stage was made of; nothing where the file is missing or damaged."""
    try:
        state = json.loads(_STATE.read_bytes())
        return dict(state["stages"]) if state[_VERSION] == _FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_records(records: Mapping[str, dict[str, Any]]) -> None:
    write_json(_STATE, {_VERSION: _FORMAT, "stages": records})


def summary() -> dict[str, Any]:
    """Return bundle, metrics and what was registered in this folder, as far as they exist."""
    found: dict[str, Any] = {}
    try:
        manifest = read_manifest(Path(BUNDLE))
    except ClassmarkError:
        return found
    digest = manifest_digest(manifest)
    found["bundle"] = {"path": BUNDLE, "name": manifest.name, "digest": digest}
    if Path(METRICS).is_file():
        found["metrics"] = json.loads(Path(METRICS).read_bytes())
    if Path(REGISTERED).is_file():
        found["registered"] = json.loads(Path(REGISTERED).read_bytes())
    return found
