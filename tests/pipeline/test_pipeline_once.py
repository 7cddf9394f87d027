"""``classmark train --once``: the same command, repeated, ends in one run."""

from __future__ import annotations

from pathlib import Path

from classmark.pipeline import compose_config, train_once

_COMMAND = "classmark train --once in-a-test"


def _once(dataset: Path, runs: Path, *overrides: str) -> Path:
    words = [f"dataset.path={dataset}", f"runs_dir={runs}", "model.max_features=500", *overrides]
    return train_once(compose_config(words), command=_COMMAND)


def test_a_fit_that_has_finished_is_not_repeated(dataset: Path, tmp_path: Path) -> None:
    first = _once(dataset, tmp_path)

    assert _once(dataset, tmp_path) == first
    assert [run.name for run in tmp_path.iterdir()] == [first.name]


def test_another_fit_or_a_damaged_run_does_not_count(dataset: Path, tmp_path: Path) -> None:
    first = _once(dataset, tmp_path)
    second = _once(dataset, tmp_path, "seed=8")
    (first / "provenance.json").write_text("{")

    assert len({first, second, _once(dataset, tmp_path)}) == 3
