"""A release is made from a clean commit by one command, and goes on where it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import release
import report


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "manifest.json").write_text('{"digest": "d1"}')
    return tmp_path / "dataset"


def call(monkeypatch: pytest.MonkeyPatch, dataset: Path, work: Path, *words: str) -> None:
    given = ["release.py", "--dataset", str(dataset), "--work", str(work), *words]
    monkeypatch.setattr(sys, "argv", given)
    release.main()


def test_a_dry_run_lists_every_step_and_writes_nothing(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(monkeypatch, dataset, tmp_path / "work", "--dry-run")
    _, *lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [step.name for step in release.steps_of([], has_next=False)]
    assert all("to do" in line for line in lines)
    assert str(report.ROOT) not in "".join(lines)
    assert not (tmp_path / "work").exists()


def test_every_file_that_a_release_names_exists() -> None:
    assert (report.ROOT / release.NON_PAPERS).is_file()
    assert (report.ROOT / "benchmarks" / "card-fast.md").is_file()


def test_changes_refuse_a_release_and_an_unknown_step_is_named(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "the checkout has changes. Commit them."
    monkeypatch.setattr(release.Release, "refusal", lambda _: reason)
    with pytest.raises(SystemExit, match=f"error: {reason}"):
        call(monkeypatch, dataset, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    with pytest.raises(SystemExit, match=r"--only x is not a step. Choose from train, export"):
        call(monkeypatch, dataset, tmp_path / "work", "--only", "x")


def test_a_step_that_is_done_is_not_repeated_and_another_dataset_is_refused(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    (root / "reports").mkdir(parents=True)
    code = "from pathlib import Path; Path('a.json').write_text('{\"n\": 1}'); print('made')"
    step = release.Step(
        "one", lambda _: [sys.executable, "-c", code], (("a.json", "reports/a.json"),)
    )
    monkeypatch.setattr(release, "steps_of", lambda _, has_next: [step])
    monkeypatch.setattr(release, "ROOT", root)
    monkeypatch.setattr(release, "commit_of", lambda _: ("c1", False))
    refusal = release.Release.refusal
    monkeypatch.setattr(release.Release, "refusal", lambda _: None)
    call(monkeypatch, dataset, work)
    written: dict[str, Any] = json.loads((root / "reports" / "a.json").read_text())
    assert written["n"] == 1
    assert set(written["provenance"]) == set(report.FIELDS)
    (root / "reports" / "a.json").unlink()
    call(monkeypatch, dataset, work)
    assert not (root / "reports" / "a.json").exists()
    assert "to do" not in capsys.readouterr().out
    (dataset / "manifest.json").write_text('{"digest": "d2"}')
    assert "holds a release of" in str(refusal(release.Release(work, dataset)))
