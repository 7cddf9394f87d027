"""Run folders read back: what was fitted, and its result. Needs no tracker."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from classmark.errors import MissingExtra, RunCorrupt, RunNotFound
from classmark.records import CascadePart, RunRecord
from classmark.records.run import damaged_run
from classmark.storage import folder_place, is_remote, local_copy
from classmark.tracking.csvfile import METRICS_FILE
from classmark.tracking.tracker import flat


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A finished run.

    Attributes:
        name: of its folder.
        folder: where it is on this machine.
        place: where it is: the folder, or its address in a bucket.
        record: what its record file holds.
        metrics: the last value of every metric of ``metrics.csv``; of a cascade its chosen point
            on each split; empty if there is neither.
    """

    name: str
    folder: Path
    place: str
    record: RunRecord
    metrics: dict[str, float]

    def config(self) -> dict[str, str]:
        """Return its configuration, keys with dots.

        Raises:
            MissingExtra, RunCorrupt: as ``read_config`` says.
        """
        return {key: str(value) for key, value in flat(read_config(self.folder))}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a run."""
        record = self.record
        return {
            "name": self.name,
            "kind": record.kind,
            "date": record.date,
            "dataset": record.dataset,
            "dataset_digest": record.dataset_digest,
            "commit": record.commit,
            "command": record.command,
            "seconds": record.fit_seconds,
            "folder": self.place,
            "metrics": self.metrics,
        }


def list_runs(runs_dir: Path) -> tuple[list[RunSummary], list[RunCorrupt]]:
    """Return the finished runs of a folder, the newest first, and what is wrong with the others.

    Raises:
        RunNotFound: there is no such folder.
    """
    if not runs_dir.is_dir():
        raise RunNotFound(
            f"{runs_dir} is not a folder of runs. Say where they are with --runs-dir DIR."
        )
    runs: list[RunSummary] = []
    damaged: list[RunCorrupt] = []
    for folder in sorted(runs_dir.iterdir()):
        if not (folder / RunRecord.FILE).is_file():
            continue
        try:
            runs.append(read_summary(folder))
        except RunCorrupt as error:
            damaged.append(error)
        except RunNotFound:
            continue  # it was deleted this moment
    return sorted(runs, key=lambda run: (run.record.date, run.name), reverse=True), damaged


def find_run(run: str, runs_dir: Path) -> RunSummary:
    """Return a run by the name of its folder, or by its path, which may be in a bucket.

    Raises:
        RunNotFound: it is neither.
        RunCorrupt: its files are damaged.
    """
    for folder in [folder_place(run)] if is_remote(run) else (runs_dir / run, Path(run)):
        if (folder / RunRecord.FILE).is_file():
            return read_summary(folder)
    raise RunNotFound(
        f"{run!r} is neither a run in {runs_dir} nor the folder of one. "
        "See `classmark runs list` for the names."
    )


def read_summary(folder: Path) -> RunSummary:
    """Return the summary of a run from its folder, which may be in a bucket.

    Raises:
        RunNotFound: it is not the folder of a run.
        RunCorrupt: its files are damaged.
    """
    place, folder = str(folder), local_copy(folder)
    record = RunRecord.read(folder)
    metrics = _points(record.part) if isinstance(record.part, CascadePart) else {}
    try:
        metrics |= _last_metrics(folder / METRICS_FILE)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged_run(folder, METRICS_FILE, f"{type(error).__name__} {error}") from error
    name = folder.resolve().name
    return RunSummary(name=name, folder=folder, place=place, record=record, metrics=metrics)


def _points(part: CascadePart) -> dict[str, float]:
    names = {"top_1": "accuracy", "deep_share": "deep_share", "cpu_ms": "cpu_ms", "loss": "loss"}
    return {
        f"{split}/{name}": getattr(point, field)
        for split, point in part.chosen.items()
        for name, field in names.items()
    }


def read_config(folder: Path) -> dict[str, Any]:
    """Return ``config.yaml`` of a run folder, nested.

    Raises:
        MissingExtra: the packages that read it are not installed.
        RunCorrupt: it is missing or damaged.
    """
    if find_spec("omegaconf") is None:
        raise MissingExtra("reading config.yaml", "train")
    from omegaconf import DictConfig, OmegaConf

    file = folder / "config.yaml"
    try:
        config = OmegaConf.load(file)
    except Exception as error:  # YAML has a tree of errors of its own
        raise damaged_run(folder, file.name, " ".join(str(error).split())) from error
    if not isinstance(config, DictConfig):
        raise damaged_run(folder, file.name, "it is not a group of keys")
    composed: Any = OmegaConf.to_container(config)
    return dict(composed)


def _last_metrics(file: Path) -> dict[str, float]:
    """Return the last value of each name; a torn last line is left out."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["value"]]
    return {row["name"]: float(row["value"]) for row in rows}
