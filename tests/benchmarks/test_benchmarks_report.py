"""The one writer of reports: what every report says of how it was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import report

COMMAND = [sys.executable, str(report.ROOT / "benchmarks" / "x.py"), "--data", "/secret/papers"]


def test_the_provenance_has_every_field_and_no_path_of_the_machine() -> None:
    facts = report.finished(report.provenance(COMMAND))
    assert tuple(facts) == report.FIELDS
    assert facts["command"] == "python benchmarks/x.py --data papers"
    assert facts["kernel"] in {"numpy", "c", "c-avx2"}
    assert {"classmark", "numpy"} <= set(facts["packages"])
    assert set(facts["load_average"]) == {"before", "after"}
    assert all(facts[name] is not None for name in ("cpu", "cores", "python", "date"))


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a test", "-c", "user.email=a@test"]
    command = ["git", "-C", str(folder), *identity, *words]
    subprocess.run(command, check=True, capture_output=True)


def test_a_checkout_is_dirty_if_its_code_has_changes_but_not_by_a_new_report(
    tmp_path: Path,
) -> None:
    assert report.commit_of(tmp_path) == (None, None)
    for folder in ("src", "benchmarks/reports"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src" / "code.py").write_text("one = 1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "Begin")
    (tmp_path / "benchmarks" / "reports" / "new.json").write_text("{}")
    commit, dirty = report.commit_of(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    (tmp_path / "src" / "code.py").write_text("one = 2\n")
    assert report.commit_of(tmp_path) == (commit, True)


def test_lists_of_numbers_take_one_line(tmp_path: Path) -> None:
    written = {"points": [[1, 2.5], [-3, 4e-05]], "words": ["a", "b"], "none": [], "x": [None]}
    report.write_report(written, tmp_path / "new" / "report.json")
    text = (tmp_path / "new" / "report.json").read_text()
    assert "  [1, 2.5],\n  [-3, 4e-05]\n" in text
    assert json.loads(text) == written


def run(monkeypatch: pytest.MonkeyPatch, *words: str, **options: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["x.py", *words])
    flags: Mapping[str, dict[str, Any]] = {"--n": {"type": int, "default": 100}}
    report.run_benchmark("Measures x.", lambda given: {"n": given.n}, flags, **options)


def test_tiny_takes_small_values_unless_others_are_given_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, n, tiny in (
        ([], 100, None),
        (["--tiny"], 2, True),
        (["--tiny", "--n", "3"], 3, True),
    ):
        run(monkeypatch, *words, tiny={"n": 2})
        said = capsys.readouterr()
        written = json.loads(said.out)
        assert (written["n"], written.get("tiny")) == (n, tiny)
        assert written["provenance"]["recorded"] == report.BY_THE_RUN
        assert written["provenance"]["cpu"] in said.err


def test_a_plot_is_drawn_of_the_report_with_its_provenance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plot(result: dict[str, Any], path: Path) -> None:
        path.write_text(f"{result['n']} on {result['provenance']['cores']}")

    run(monkeypatch, "--plot", str(tmp_path / "new" / "x.svg"), plot=plot)
    assert (tmp_path / "new" / "x.svg").read_text().startswith("100 on ")
    assert "provenance" in json.loads(capsys.readouterr().out)


def test_a_stale_file_is_named_with_its_remedy_or_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["x.py", "--check"])
    with pytest.raises(SystemExit, match=r"stale: page.md. Run python x.py."):
        report.write_or_check({path: "new"}, "python x.py")
    assert not path.exists()
    monkeypatch.setattr(sys, "argv", ["x.py"])
    report.write_or_check({path: "new"}, "python x.py")
    monkeypatch.setattr(sys, "argv", ["x.py", "--check"])
    report.write_or_check({path: "new"}, "python x.py")
