"""Fits of the fast tier at the ends of years, each kept in the work folder.

A fit is `classmark train` with its own defaults on a dataset of its own; what stays of it is its
score table of the test papers. A second run finds the tables of the first.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from classmark.evaluation import fit_temperature
from classmark.records import ScoreTable
from classmark.storage import atomic_file, write_json
from peer_papers import build_dataset, first_ranked

N_VALID = 1_000


@dataclass(frozen=True)
class Task:
    """A fit to make: a series (``all`` or ``recent``), a year, and its papers by split."""

    series: str
    until: int
    splits: dict[str, pl.DataFrame]
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return a name that changes with the papers and the options of the fit."""
        ids = {name: frame["id"].to_list() for name, frame in self.splits.items()}
        facts = json.dumps([ids, self.options])
        return f"{self.series}-{self.until}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Fit:
    """A finished fit: what it cost, the categories it has seen, its scores of the test papers."""

    series: str
    until: int
    cost: dict[str, Any]
    table: ScoreTable


def plan_fit(
    pool: pl.DataFrame, test: pl.DataFrame, until: int, n: int | None, options: tuple[str, ...]
) -> Task:
    """Return the fit on the papers of a pool to the end of a year, or on the newest n of them.

    Args:
        pool: papers that are not for testing, with ``year``, in order of time.
        test: the test papers of all years.
        until: last year of the fit.
        n: how many papers are fitted on; None: all.
        options: overrides of `classmark train`.
    """
    known = pool.filter(pl.col("year") <= until)
    n_valid = min(N_VALID, (n or len(known)) // 10)
    if n is not None:
        known = known.tail(n + n_valid)
    valid = first_ranked(known, n_valid)
    train = known.join(valid, on="id", how="anti", maintain_order="left")
    splits = {"train": train, "valid": valid, "test": test}
    series = "all" if n is None else "recent"
    return Task(series, until, {name: f.drop("year") for name, f in splits.items()}, options)


def fit(task: Task, work: Path, periods: str, space: str) -> Fit:
    """Return a fit, made now or found in the work folder."""
    table_path, cost_path = work / f"{task.key}.npz", work / f"{task.key}.json"
    if not (table_path.exists() and cost_path.exists()):
        print(f"fitting {task.series} until {task.until}", file=sys.stderr)
        table, cost = _train(task, work, periods, space)
        with atomic_file(table_path) as file:
            file.write(table.to_bytes())
        write_json(cost_path, cost)
    return Fit(
        task.series, task.until, json.loads(cost_path.read_text()), ScoreTable.read(table_path)
    )


def _train(task: Task, work: Path, periods: str, space: str) -> tuple[ScoreTable, dict[str, Any]]:
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        folder = Path(temporary)
        options = ("--labels", space, "--periods", periods)
        papers = build_dataset(task.splits, folder / "dataset", *options)
        command = [sys.executable, "-m", "classmark", "train", f"dataset.path={papers.folder}"]
        # The result does not depend on the threads; the CPU-seconds do.
        command += [f"runs_dir={folder / 'runs'}", "model.threads=1", *task.options]
        wall, cpu = time.monotonic(), _children_cpu_s()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cost = {"cpu_s": round(_children_cpu_s() - cpu, 1)}
        cost["wall_s"] = round(time.monotonic() - wall, 1)
        run = Path(done.stdout.split()[-1])
        valid, test = (
            ScoreTable.read(run / "scores" / f"model-{s}.npz") for s in ("valid", "test")
        )
        manifest = papers.manifest
        shutil.rmtree(run)
    labels = task.splits["train"]["category_code"].unique().sort().to_list()
    facts = {**cost, "papers": manifest.splits["train"].papers, "labels": labels}
    dates = task.splits["train"]["published_date"]
    facts |= {"first_day": dates.min(), "last_day": dates.max()}
    temperature = fit_temperature(valid.scores, valid.primary)
    return ScoreTable(**{**test.__dict__, "temperature": temperature}), facts


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
