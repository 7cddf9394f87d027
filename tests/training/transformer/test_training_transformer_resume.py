"""A fit that is broken off anywhere goes on to the same losses, from the last good checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recording import Recording

pytest.importorskip("lightning")

import torch
from deep_fits import DeepRun, column

from classmark.errors import CheckpointCorrupt, Interrupted
from classmark.training.transformer.checkpoint import list_checkpoints, read_start, step_of

pytestmark = pytest.mark.slow  # reason: imports Lightning, fits a network


@pytest.fixture(scope="module")
def plain(deep_run: DeepRun) -> Any:
    """Return a fit with every option as it comes, to compare others with."""
    return deep_run()


def gives_up(at_step: int) -> Recording:
    """Return a user who presses Ctrl-C while some step is shown."""

    def interrupt(_: str) -> None:
        if len(recording.notes) == at_step:
            raise Interrupted("interrupted.")

    recording = Recording(on_note=interrupt)
    return recording


EVERY_STEP = ("model.checkpoint_minutes=0", "model.epochs=3")


@pytest.mark.parametrize("at_step", [2, 7, 18])
def test_a_fit_that_is_broken_off_anywhere_ends_with_the_same_losses(
    deep_run: DeepRun, tmp_path: Path, at_step: int
) -> None:
    whole, expected, _ = deep_run(*EVERY_STEP, "model.checkpoint_minutes=9")
    with pytest.raises(Interrupted):
        deep_run(*EVERY_STEP, folder=tmp_path, progress=gives_up(at_step))
    kept = step_of(list_checkpoints(tmp_path / "checkpoints")[0])
    assert kept == at_step - 1
    fitted, rows, _ = deep_run(*EVERY_STEP, folder=tmp_path)
    assert [(r["stage"], r["step"]) for r in rows] == [(r["stage"], r["step"]) for r in expected]
    assert column(rows, "loss") == column(expected, "loss")
    assert column(rows, "loss", "valid") == column(expected, "loss", "valid")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, fitted.model.state_dict()[name]), name


@pytest.mark.parametrize("at", ["measuring epoch 2", "epoch 2 of 2: "])
def test_a_fit_broken_off_while_an_epoch_is_measured_measures_it_again(
    deep_run: DeepRun, tmp_path: Path, plain: Any, at: str
) -> None:
    def break_off(text: str) -> None:
        if text.startswith(at):
            raise Interrupted("interrupted.")

    with pytest.raises(Interrupted):
        deep_run(folder=tmp_path, progress=Recording(on_step=break_off))
    recording = Recording()
    fitted, rows, _ = deep_run(folder=tmp_path, progress=recording)
    assert column(rows, "loss", "valid") == column(plain[1], "loss", "valid")
    assert "every step was made before the interruption" in recording.steps
    assert fitted.state.best_epoch == plain[0].state.best_epoch


def break_off_at(step: int, deep_run: DeepRun, folder: Path) -> list[Path]:
    with pytest.raises(Interrupted):
        deep_run(*EVERY_STEP, folder=folder, progress=gives_up(step))
    return list_checkpoints(folder / "checkpoints")


def test_a_damaged_checkpoint_is_passed_over_for_the_last_good_one(
    deep_run: DeepRun, tmp_path: Path
) -> None:
    newest, older = break_off_at(9, deep_run, tmp_path)
    weights = newest / "tensors.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    recording = Recording()
    _, rows, _ = deep_run(*EVERY_STEP, folder=tmp_path, progress=recording)
    assert "step-00000008 is damaged, trying the checkpoint before it" in recording.steps
    assert f"going on after step {step_of(older)}" in recording.steps
    assert column(rows, "loss") == column(deep_run("model.epochs=3")[1], "loss")


def test_a_fit_whose_checkpoints_are_all_damaged_is_refused(
    deep_run: DeepRun, tmp_path: Path
) -> None:
    for path in break_off_at(4, deep_run, tmp_path):
        (path / "state.json").write_text("{}")
    with pytest.raises(CheckpointCorrupt, match=r"no checkpoint in .* can be read, all are damag"):
        deep_run(*EVERY_STEP, folder=tmp_path)


def test_another_fit_starts_from_the_weights_of_a_broken_off_one(
    deep_run: DeepRun, tmp_path: Path
) -> None:
    break_off_at(9, deep_run, tmp_path)
    start = read_start(tmp_path)
    still = ("model.rate=1e-9", "model.head_rate=1e-9", "model.epochs=1")
    fitted, _, _ = deep_run(*still, start=(start, tmp_path))
    assert torch.allclose(fitted.model.state_dict()["head.weight"], start["head.weight"], atol=1e-6)
