"""Run folders read back: what each was told and what came of it. Needs no tracker."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from classmark.errors import MissingExtra, RunNotFound
from classmark.tracking.config import flat
from classmark.tracking.csvfile import METRICS_FILE

_PROVENANCE = "provenance.json"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A finished run.

    Attributes:
        name: of its folder.
        kind: of its model.
        date: ISO date and time (UTC) of its end.
        dataset: the way from the run to its dataset.
        dataset_digest: of the dataset's manifest.
        commit: of the code, ``+`` at its end if it was changed; None outside a checkout.
        command: the command line.
        seconds: that the fit took.
        folder: where it is.
        metrics: the last value of every metric of ``metrics.csv``, empty if there is none.
    """

    name: str
    kind: str
    date: str
    dataset: str
    dataset_digest: str
    commit: str | None
    command: str
    seconds: float
    folder: Path
    metrics: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a run."""
        return {**asdict(self), "folder": str(self.folder)}


def list_runs(runs_dir: Path) -> list[RunSummary]:
    """Return the finished runs of a folder, the newest first.

    Raises:
        RunNotFound: there is no such folder.
    """
    if not runs_dir.is_dir():
        raise RunNotFound(
            f"{runs_dir} is no folder of runs. Say where they are with --runs-dir DIR."
        )
    runs = [read_summary(path.parent) for path in runs_dir.glob(f"*/{_PROVENANCE}")]
    return sorted(runs, key=lambda run: (run.date, run.name), reverse=True)


def find_run(run: str, runs_dir: Path) -> RunSummary:
    """Return a run by the name of its folder, or by its path.

    Raises:
        RunNotFound: it is neither, or its files are damaged.
    """
    for folder in (runs_dir / run, Path(run)):
        if (folder / _PROVENANCE).is_file():
            return read_summary(folder)
    raise RunNotFound(
        f"{run!r} is neither a run in {runs_dir} nor the folder of one. "
        "See `classmark runs list` for the names."
    )


def read_summary(folder: Path) -> RunSummary:
    """Return what a run folder says of itself.

    Raises:
        RunNotFound: its files are damaged.
    """
    try:
        told = json.loads((folder / _PROVENANCE).read_text(encoding="utf-8"))
        return RunSummary(
            name=folder.resolve().name,
            kind=told.get("kind", "linear"),
            date=told["date"],
            dataset=told["dataset"],
            dataset_digest=told["dataset_digest"],
            commit=told["commit"],
            command=told["command"],
            seconds=float(told["fit_seconds"]),
            folder=folder,
            metrics=dict(_last_metrics(folder / METRICS_FILE)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunNotFound(
            f"the run {folder} cannot be read: {type(error).__name__} {error}. Delete it or train "
            "again."
        ) from error


def read_config(run: RunSummary) -> dict[str, str]:
    """Return the configuration of a run, keys with dots.

    Raises:
        MissingExtra: the packages that read it are not installed.
        RunNotFound: it is missing or damaged.
    """
    if find_spec("omegaconf") is None:
        raise MissingExtra("reading config.yaml", "train")
    from omegaconf import DictConfig, OmegaConf

    file = run.folder / "config.yaml"
    try:
        config = OmegaConf.load(file)
    except Exception as error:  # YAML has a tree of errors of its own
        raise RunNotFound(f"{file} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(config, DictConfig):
        raise RunNotFound(f"{file} is no configuration. Train again.")
    composed: Any = OmegaConf.to_container(config)
    return dict(flat(composed))


def _last_metrics(file: Path) -> Iterator[tuple[str, float]]:
    """Yield every line: the last of a name is what a dict keeps; a torn last line is left out."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["value"]:
                yield row["name"], float(row["value"])
