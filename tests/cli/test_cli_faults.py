"""Every call of the system fails once, at each of its places: one line, and old or new is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from preload import build_preload

pytestmark = [
    pytest.mark.slow,  # reason: hundreds of forked commands
    pytest.mark.timeout(1_200),  # on a machine that does twenty other things
]

FAULTS = Path(__file__).with_name("faults.py")
# Of each case: functions that fail somewhere in it, so that a library that does nothing is noticed.
CASES = {
    "classify": {"open", "write", "rename", "fsync"},
    "classify in bulk": {"open", "write", "rename", "fsync", "mkdir", "fork", "pipe"},
    "build": {"open", "write", "rename", "fsync", "mkdir"},
    "export": {"open", "write", "rename", "fsync", "mkdir"},
    "keys create": {"open", "write", "rename", "fsync"},
    "keys revoke": {"open", "write", "rename", "fsync"},
    "keys list": {"open", "write"},
    "journal export": {"open", "write", "rename", "fsync"},
    "journal export parquet": {"open", "write", "rename", "fsync"},
    "journal export to stdout": {"open", "write"},
    "journal status": {"open", "write"},
    "journal path": {"write"},
    "journal forget": {"open", "write", "fsync", "truncate"},
    "journal": {"open", "write", "fsync", "truncate", "mmap"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_preload(tmp_path_factory.mktemp("preload"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with papers, a run and a journal."""
    from typer.testing import CliRunner

    from classmark.cli.app import app
    from classmark.dataset import SampleConfig, sample_csv, sample_dataset
    from classmark.journal import Journal, JournalConfig

    sys.path.insert(0, str(Path(__file__).parents[1] / "journal"))
    from journal_events import PATIENCE_S, prediction

    folder = tmp_path_factory.mktemp("inputs")
    sample_csv(folder / "papers.csv", SampleConfig(papers=300))
    for seed, name in enumerate(("some.csv", "others.csv")):
        sample_csv(folder / name, SampleConfig(papers=3, seed=seed))
    sample_dataset(folder / "dataset", SampleConfig(papers=300))
    words = ("experiment=debug", f"dataset.path={folder / 'dataset'}", "model.min_papers=3")
    trained = CliRunner().invoke(app, ["train", *words, f"runs_dir={folder}"])
    Path(trained.stdout.strip()).rename(folder / "run")
    path = folder / "journal" / "journal.sqlite"
    journal = Journal(JournalConfig(path=path, keep_text=True))
    for n in range(4):
        assert journal.record(prediction(text=f"the text of paper {n}"))
    assert journal.flush(PATIENCE_S)
    journal.close(PATIENCE_S)
    return folder


def faults_of(case: str, library: Path, inputs: Path, work: Path) -> list[dict[str, Any]]:
    """Return what came of every fault."""
    for entry in inputs.iterdir():
        (work / entry.name).symlink_to(entry)
    (work / "faults").mkdir()
    done = subprocess.run(
        [sys.executable, str(FAULTS), str(library), case, str(work / "faults")],
        cwd=work,
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "CLASSMARK_HOME": str(work / "home"),
            "PYTHONPATH": str(FAULTS.parents[1]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {fault["fault"].split()[0] for fault in found} >= CASES[case]
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case != "journal"])
def test_a_call_that_fails_is_one_line_and_leaves_old_or_new(
    library: Path, inputs: Path, tmp_path: Path, case: str
) -> None:
    wrong = []
    for found in faults_of(case, library, inputs, tmp_path):
        lines = [line for line in found["errors"].splitlines() if line.startswith("error: ")]
        is_said = found["code"] == 1 and len(lines) == 1
        is_silent = found["code"] == 0 and not lines
        whole = set(found["state"].split(" ")) <= ({"new"} if is_silent else {"old", "new"})
        unclear = "Traceback" in found["errors"] or "internal error" in found["errors"]
        unclear |= is_said and "EMFILE" in found["fault"] and "ulimit -n" not in lines[0]
        if unclear or not (is_said or is_silent) or not whole or found["left"]:
            wrong.append(found)
    assert wrong == []


def test_a_call_that_fails_once_costs_a_journal_nothing(
    library: Path, inputs: Path, tmp_path: Path
) -> None:
    found = faults_of("journal", library, inputs, tmp_path)
    states = Counter((fault["code"], fault["state"]) for fault in found)
    assert list(states) == [(0, "new")]
