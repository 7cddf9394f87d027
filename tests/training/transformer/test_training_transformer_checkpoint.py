"""Checkpoints hold everything Lightning gives, without pickle, whole or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from classmark.errors import CheckpointCorrupt
from classmark.training.transformer.checkpoint import (
    SafeCheckpointIO,
    checkpoint_path,
    drop_old_checkpoints,
    list_checkpoints,
    read_checkpoints,
    step_of,
)

pytestmark = pytest.mark.slow  # reason: imports Lightning

STATE: dict[str, Any] = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)},
    "optimiser": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "betas": (0.9, 0.999)},
    "lists": [1, 2.5, None, True, "text", [], ()],
    "rate": 1e-300,
    "not_a_number": float("inf"),
    "array": np.arange(3, dtype=np.uint32),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = checkpoint_path(tmp_path, 12)
    SafeCheckpointIO().save_checkpoint(STATE, path)
    return path


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return bool(left.dtype == right.dtype) and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def test_what_is_read_is_what_was_written(saved: Path) -> None:
    assert same(STATE, SafeCheckpointIO().load_checkpoint(saved))
    assert sorted(p.name for p in saved.iterdir()) == ["state.json", "tensors.safetensors"]


def test_weights_that_share_their_memory_are_written_too(tmp_path: Path) -> None:
    tied = torch.ones(3)
    SafeCheckpointIO().save_checkpoint({"a": tied, "b": tied}, tmp_path / "c")
    assert SafeCheckpointIO().load_checkpoint(tmp_path / "c")["b"].tolist() == [1, 1, 1]


def test_what_needs_a_pickle_is_refused_and_the_old_checkpoint_stays(saved: Path) -> None:
    with pytest.raises(TypeError, match="a checkpoint cannot hold a set"):
        SafeCheckpointIO().save_checkpoint({"a": {1}}, saved)
    assert same(STATE, SafeCheckpointIO().load_checkpoint(saved))
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_damaged_checkpoint_is_refused_by_name(saved: Path, name: str, damage: str) -> None:
    path, whole = saved / name, (saved / name).read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] + (b"" if damage == "cut" else b"\x7f" * 9))
    with pytest.raises(CheckpointCorrupt, match=r"the checkpoint .*step-00000012 cannot be read"):
        SafeCheckpointIO().load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 9}, "format version is 9"),
        ({"checkpoint": {"set": []}}, "unknown kind 'set'"),
        ({"checkpoint": {"tensor": "000999"}}, "it lacks '000999'"),
        ({"checkpoint": [1]}, "holds no state"),
    ],
)
def test_a_checkpoint_of_another_make_is_refused(
    saved: Path, change: dict[str, Any], reason: str
) -> None:
    state = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps({**state, **change}))
    with pytest.raises(CheckpointCorrupt, match=reason):
        SafeCheckpointIO().load_checkpoint(saved)


def test_the_newest_come_first_and_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        SafeCheckpointIO().save_checkpoint({"step": step}, checkpoint_path(tmp_path, step))
    (tmp_path / ".step-00000200.part").mkdir()
    drop_old_checkpoints(tmp_path)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [100, 10]
    (checkpoint_path(tmp_path, 100) / "state.json").unlink()
    (_, newest), (_, older) = read_checkpoints(tmp_path)
    assert isinstance(newest, CheckpointCorrupt)
    assert older == {"step": 10}
    SafeCheckpointIO().remove_checkpoint(checkpoint_path(tmp_path, 10))
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [100]
    assert list_checkpoints(tmp_path / "absent") == []
