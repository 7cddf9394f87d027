"""The deep fit by Ray Train on a cluster of two nodes makes the run of one process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import psutil
import torch
from safetensors.torch import load_file

from classmark.dataset import SampleConfig, sample_dataset
from classmark.errors import ClassmarkError, InvalidConfig, UsageError
from classmark.pipeline import compose_config, train
from classmark.records import RunRecord
from deep_models import tiny_encoder

__all__ = ["tiny_encoder"]
pytestmark = [
    pytest.mark.slow,  # reason: a cluster, and Lightning in several processes
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: make test-ray"),
]

TOLERANCE = 1e-5
"""Largest difference of a weight: sums are rounded in another order."""


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "dataset"
    sample_dataset(folder, SampleConfig(papers=300), command="a test")
    return folder


@pytest.fixture(scope="module")
def words(papers: Path, tiny_encoder: Path) -> list[str]:
    return [
        *("model=transformer", f"dataset.path={papers}", f"model.encoder={tiny_encoder}"),
        *("model.max_length=48", "model.threads=1", "model.device=cpu", "tracker=csv"),
        *("model.epochs=1", "model.rate=0.001", "model.head_rate=0.01"),
        *("model.batch_size=8", "model.accumulation=4", "model.checkpoint_minutes=0"),
    ]


def fit(words: list[str], runs: Path, *more: str) -> Path:
    return train(compose_config([*words, f"runs_dir={runs}", *more]), command="a test")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights" / "model.safetensors")


def check_same(there: Path, here: Path) -> None:
    """Check that two runs have the same weights, but for rounding."""
    ours, theirs = weights(here), weights(there)
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < TOLERANCE
    assert RunRecord.read(there).part == RunRecord.read(here).part


def test_two_nodes_make_the_run_of_one_process(
    make_nodes: Callable[[], Any], words: list[str], tmp_path: Path
) -> None:
    here = fit(words, tmp_path / "here")
    nodes = make_nodes()
    nodes.add()
    there = fit(
        words, tmp_path / "there", "trainer.engine=ray", f"trainer.address={nodes.address}",
        "trainer.workers=2",
    )  # fmt: skip
    assert there.parent == tmp_path / "there"
    check_same(there, here)
    assert [path.name for path in (tmp_path / "there").iterdir()] == [there.name]
    assert "RANK" not in os.environ


@pytest.mark.timeout(600)
def test_a_fit_that_loses_a_process_resumes_from_its_checkpoint(
    make_nodes: Callable[[], Any], words: list[str], tmp_path: Path
) -> None:
    words = [*words, "model.epochs=3"]
    here = fit(words, tmp_path / "here")
    nodes = make_nodes()
    nodes.add()
    lost: list[str] = []

    def lose_a_process() -> None:
        written = (tmp_path / "there").glob
        while not any(written("*.unfinished/checkpoints/step-00000005")):
            time.sleep(0.05)
        worker = next(p for p in psutil.process_iter() if "TrainWorker" in " ".join(p.cmdline()))
        lost.append(worker.name())
        worker.kill()

    threading.Thread(target=lose_a_process, daemon=True).start()
    there = fit(
        words, tmp_path / "there", "trainer.engine=ray", f"trainer.address={nodes.address}",
        "trainer.workers=2",
    )  # fmt: skip
    assert len(lost) == 1
    check_same(there, here)
    assert [path.name for path in (tmp_path / "there").iterdir()] == [there.name]


def test_what_stops_a_fit_on_a_cluster_is_said_as_here(
    nodes: Any, words: list[str], tmp_path: Path
) -> None:
    ray = ("trainer.engine=ray", f"trainer.address={nodes.address}")
    with pytest.raises(InvalidConfig, match=r"trainer.workers is 9, the cluster has 2 CPUs"):
        fit(words, tmp_path / "runs", *ray, "trainer.workers=9")
    with pytest.raises(ClassmarkError, match=r"model.max_length is 4096"):
        fit(words, tmp_path / "runs", *ray, "trainer.workers=1", "model.max_length=4096")
    with pytest.raises(InvalidConfig, match=r"trainer.engine=ray is for model=transformer"):
        fit([words[1], "tracker=csv"], tmp_path / "runs", *ray)
    with pytest.raises(UsageError, match=r"unknown engine 'spark'. Choose one of: local, ray"):
        fit(words, tmp_path / "runs", "trainer.engine=spark")
