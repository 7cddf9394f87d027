"""A fit under the eyes of its trackers: what they get, and how they hear of its end."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from classmark.evaluation import EvaluationConfig, evaluate_table
from classmark.pipeline import compose_config
from classmark.pipeline import tracked as module
from classmark.pipeline.run_folder import reserve_run_folder
from classmark.pipeline.tracked import tracked
from classmark.records import SILENT, RunStart, ScoreTable
from classmark.tracking import Trackers

TrainRun = Callable[..., Path]
START = RunStart(
    command="", seed=7, dataset="", dataset_digest="", labels=(), label_space="free", generated=True
)


def test_the_metrics_of_a_run_are_losses_and_results(run_folder: Path) -> None:
    with (run_folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [(row["name"], row["step"]) for row in rows if row["name"].endswith("/loss")]
    assert losses == [*(("parent/loss", str(e)) for e in (1, 2, 3)), ("model/loss", "1")]
    values = {row["name"]: float(row["value"]) for row in rows}
    for split in ("valid", "test"):
        table = ScoreTable.read(run_folder / "scores" / f"model-{split}.npz")
        metrics = evaluate_table(table, config=EvaluationConfig(draws=0)).metrics
        for name in ("top_1", "top_5", "macro_f1", "ece", "nll"):
            assert values[f"{split}/{name}"] == metrics[name].value


def test_a_run_has_its_figures(run_folder: Path) -> None:
    assert sorted(path.name for path in (run_folder / "figures").iterdir()) == [
        f"{split}-{name}"
        for split in ("test", "valid")
        for name in ("confusion.csv", "confusion.svg", "reliability.svg")
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "finished"), (ValueError, "failed"), (KeyboardInterrupt, "stopped")],
)
def test_trackers_hear_how_a_fit_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: type[BaseException] | None, status: str
) -> None:
    ends: list[str] = []

    class Listening(Trackers):
        def finish(self, status: str) -> None:
            ends.append(status)

    monkeypatch.setattr(module, "make_trackers", lambda *_: Listening())
    config = compose_config(["dataset.path=data", "tracker=csv"])
    raised = pytest.raises(error) if error else nullcontext()
    with raised, tracked(config, tmp_path, "linear-1", START, SILENT):
        if error:
            raise error
    assert ends == [status]


def test_a_name_that_a_fit_has_taken_goes_to_no_other(tmp_path: Path) -> None:
    runs = tmp_path / "new" / "runs"
    with reserve_run_folder(runs, "linear") as first, reserve_run_folder(runs, "linear") as second:
        assert first != second
        assert not first.exists()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from classmark.pipeline.run_folder import reserve_run_folder
from classmark.storage import atomic_folder
with reserve_run_folder(Path(sys.argv[1]), "linear") as folder, atomic_folder(folder) as temporary:
    (temporary / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_what_a_killed_run_left_is_removed_by_the_next_but_not_what_a_live_one_has(
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    done = subprocess.run([sys.executable, "-c", KILLED, str(runs)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(runs.iterdir())) == 2
    with reserve_run_folder(runs, "linear") as first:
        held = list(runs.iterdir())
        assert [path.name for path in held] == [f".{first.name}.taken"]
        with reserve_run_folder(runs, "linear") as second:
            assert first != second
            assert held[0].is_dir()
    assert not runs.exists() or list(runs.iterdir()) == []
