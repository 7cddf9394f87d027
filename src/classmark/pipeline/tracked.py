"""The trackers of a fit: what they learn of it at its start, during it, and at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.dataset.folder import MANIFEST_FILE
from classmark.errors import EmptyEvaluation, FitStopped, Interrupted
from classmark.evaluation import EvaluationConfig, evaluate_table
from classmark.export import fit_curve, fit_policy
from classmark.pages import render_figures
from classmark.pipeline.scoring import with_curve, with_policy
from classmark.records import Progress, RunRecord, RunStart, ScoreTable
from classmark.storage import write_text
from classmark.tracking import (
    RunInfo,
    Trackers,
    describe_hardware,
    make_trackers,
)

if TYPE_CHECKING:
    from classmark.pipeline.config import TrainConfig

FIGURES = "figures"
CALIBRATED_ECE = "test/ece_calibrated"
_MODEL = "model-"
# They need a policy, which `classmark export` fits; and micro-F1 is top-1 by another name.
_NOT_YET = ("set_coverage", "set_size", "micro_f1")
_MODEL_FILES = ("weights/**/*", "authors/**/*", "encoder/**/*", f"scores/{_MODEL}*")
_FILES = ("config.yaml", RunRecord.FILE, "log.csv")


@contextmanager
def tracked(
    config: TrainConfig, folder: Path, name: str, start: RunStart, progress: Progress
) -> Iterator[Trackers]:
    """Yield the trackers of a run, and tell them in the end how it went.

    Args:
        config: of the run.
        folder: that the run is written to.
        name: of the folder of the finished run.
        start: its record.
        progress: warns of a tracker that fails.
    """
    trackers = make_trackers(config.tracker, folder, progress, config.watchers)
    manifest = config.dataset / MANIFEST_FILE
    trackers.start(
        RunInfo(
            name=name,
            start=start,
            config=config.composed,
            hardware=describe_hardware(),
            manifest=manifest if manifest.is_file() else None,
        )
    )
    try:
        yield trackers
    except BaseException as error:
        stopped = isinstance(error, Interrupted | FitStopped) or not isinstance(error, Exception)
        trackers.finish("stopped" if stopped else "failed")
        raise
    if config.tracker.services:
        progress.step(f"handing the run to {config.tracker.services}")
    trackers.finish("finished")


def write_figures(folder: Path, tables: Mapping[str, ScoreTable]) -> None:
    """Write reliability diagram and confusion matrix of the model on each split that it scored."""
    for split, table in _splits_of(tables):
        for name, content in render_figures(table).items():
            write_text(folder / FIGURES / f"{split}-{name}", content)


def keep_results(trackers: Trackers, folder: Path, tables: Mapping[str, ScoreTable]) -> None:
    """Give trackers the metrics of a finished run on each split (``test/top_1``), and its files."""
    for split, table in _splits_of(tables):
        report = evaluate_table(table, config=EvaluationConfig(draws=0))
        kept = {name: m.value for name, m in report.metrics.items() if name not in _NOT_YET}
        trackers.metrics({f"{split}/{name}": value for name, value in kept.items()}, step=0)
    trackers.metrics(_calibrated(dict(_splits_of(tables))), step=0)
    for name in _FILES:
        trackers.artifact(folder / name)
    for file in sorted((folder / FIGURES).glob("*")):
        if file.suffix == ".svg":
            trackers.figure(file.stem, file)
        else:
            trackers.artifact(file, FIGURES)
    trackers.model(folder, _model_files(folder))


def _model_files(folder: Path) -> list[Path]:
    """Return what `classmark export` reads of a run: a copy of these files is a run to export."""
    patterns = (*_FILES, *_MODEL_FILES)
    return [p for name in patterns for p in sorted(folder.glob(name)) if p.is_file()]


def _calibrated(tables: Mapping[str, ScoreTable]) -> dict[str, float]:
    """Return the ECE on the test split as `classmark export` will calibrate: on the valid split."""
    valid, test = tables.get("valid"), tables.get("test")
    if valid is None or test is None:
        return {}
    curve = fit_curve(valid)
    try:
        policy = fit_policy(with_curve(valid, curve))
        calibrated = with_policy(with_curve(test, curve), policy)
        report = evaluate_table(calibrated, config=EvaluationConfig(draws=0))
    except EmptyEvaluation:
        return {}
    return {CALIBRATED_ECE: report.metrics["ece"].value}


def _splits_of(tables: Mapping[str, ScoreTable]) -> Iterator[tuple[str, ScoreTable]]:
    for name, table in tables.items():
        if name.startswith(_MODEL):
            yield name.removeprefix(_MODEL), table
