"""Every call of the system fails once, at each of its places: one line, and old or new is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
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


@pytest.fixture(scope="module")
def faults(
    inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[dict[str, Any]]]:
    """Return what gives the faults of a case; one process tries those of all cases."""
    folder = tmp_path_factory.mktemp("faults")
    library = build_preload(folder)
    for entry in inputs.iterdir():
        (folder / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, str(FAULTS), str(library), str(folder / "work"), *CASES],
        cwd=folder,
        env={
            **os.environ,
            "LD_PRELOAD": str(library),
            "CLASSMARK_HOME": str(folder / "home"),
            "PYTHONPATH": str(FAULTS.parents[1]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    tried = [json.loads(line) for line in done.stdout.splitlines()]

    def of(case: str) -> list[dict[str, Any]]:
        found = [fault for fault in tried if fault["case"] == case]
        assert {fault["fault"].split()[0] for fault in found} >= CASES[case]
        return found

    return of


@pytest.mark.parametrize("case", [case for case in CASES if case != "journal"])
def test_a_call_that_fails_is_one_line_and_leaves_old_or_new(
    faults: Callable[[str], list[dict[str, Any]]], case: str
) -> None:
    wrong = []
    for found in faults(case):
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
    faults: Callable[[str], list[dict[str, Any]]],
) -> None:
    states = Counter((fault["code"], fault["state"]) for fault in faults("journal"))
    assert list(states) == [(0, "new")]
