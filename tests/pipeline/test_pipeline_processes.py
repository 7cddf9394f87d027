"""Several processes, on one machine or on two, make the run that one makes, and resume it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from classmark.records import SILENT, Progress
from recording import Recording

pytest.importorskip("lightning")

import torch
from safetensors.torch import load_file

from classmark.dataset import SampleConfig, sample_dataset
from classmark.errors import InvalidConfig, WorkerFailed
from classmark.pipeline import compose_config, train
from classmark.records import RunRecord, ScoreTable, TransformerPart
from classmark.training.transformer.processes import processors
from deep_models import tiny_encoder

__all__ = ["tiny_encoder"]
pytestmark = [
    pytest.mark.slow,  # reason: imports Lightning in several processes, fits a network
    pytest.mark.timeout(900),  # reason: each process imports torch and Lightning by itself
    pytest.mark.skipif(processors() < 2, reason="two processes need two processors"),
]

TOLERANCE = 1e-5
"""Largest difference of a weight: sums are rounded in another order."""
N_STEPS = 16
BY_TWO = "model.devices=2"
Fit = Callable[..., Path]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "dataset"
    sample_dataset(folder, SampleConfig(papers=300), command="a test")
    return folder


@pytest.fixture(scope="module")
def words(papers: Path, tiny_encoder: Path) -> list[str]:
    """Return a fit of two epochs of 8 steps, the last of them with a single batch.

    Its encoder has dropout, and its rates move every weight far more than the tolerance.
    """
    return [
        *("model=transformer", f"dataset.path={papers}", f"model.encoder={tiny_encoder}"),
        *("model.max_length=48", "model.threads=1", "model.device=cpu", "tracker=csv"),
        *("model.epochs=2", "model.rate=0.001", "model.head_rate=0.01"),
        *("model.checkpoint_minutes=0", "model.encoder_dropout=0.2"),
    ]


@pytest.fixture(scope="module")
def fit(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Return a function that makes the fit, or resumes one, and returns the run folder."""

    def run(*overrides: str, runs: Path | None = None, progress: Progress = SILENT) -> Path:
        resumed = any(word.startswith("resume=") for word in overrides)
        start = [] if resumed else [*words, f"runs_dir={runs or tmp_path_factory.mktemp('runs')}"]
        return train(compose_config([*start, *overrides]), command="a test", progress=progress)

    return run


@pytest.fixture(scope="module")
def by_one(fit: Fit) -> Path:
    return fit()


@pytest.fixture(scope="module")
def by_two(fit: Fit) -> Path:
    return fit(BY_TWO)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(run / "weights" / "model.safetensors"))


def difference(run: Path, other: Path) -> float:
    """Return the largest difference of a weight of two runs."""
    first, second = weights_of(run), weights_of(other)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def log_of(run: Path) -> list[list[str]]:
    return [line.split(",")[:3] for line in (run / "log.csv").read_text().splitlines()]


def part_of(run: Path) -> TransformerPart:
    return RunRecord.read(run).part_as(TransformerPart)


def test_the_fit_moves_weights_far_more_than_processes_may_differ(
    by_one: Path, tiny_encoder: Path
) -> None:
    before, after = dict(load_file(tiny_encoder / "model.safetensors")), weights_of(by_one)
    # No paper reaches the pooler, and attention does not depend on the bias of its keys.
    fitted = [name for name in before if "pooler" not in name and "key.bias" not in name]
    moved = [float((after[f"encoder.{n}"] - before[n]).abs().max()) for n in fitted]
    assert min(moved) > 100 * TOLERANCE


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_give_the_weights_of_one(
    fit: Fit, by_one: Path, by_two: Path, strategy: str
) -> None:
    run = by_two if strategy == "ddp" else fit(BY_TWO, "model.strategy=fsdp")
    assert difference(run, by_one) < TOLERANCE
    assert log_of(run) == log_of(by_one)
    assert part_of(run).steps == N_STEPS
    for split in ("valid", "test"):
        scores, expected = (
            ScoreTable.read(folder / "scores" / f"model-{split}.npz") for folder in (run, by_one)
        )
        assert scores.ids == expected.ids
        assert abs(scores.scores - expected.scores).max() < 100 * TOLERANCE
    assert sorted(p.name for p in run.parent.iterdir()) == [run.name], "another process wrote"


def test_workers_that_make_batches_change_no_weight(fit: Fit, by_two: Path) -> None:
    assert difference(fit(BY_TWO, "model.workers=1"), by_two) == 0


def kills_another(at_step: int) -> Recording:
    """Return a progress that kills the other process when some step is shown."""

    def kill(_: str) -> None:
        if len(recording.notes) == at_step:
            (other,) = multiprocessing.active_children()
            other.kill()
            other.join()

    recording = Recording(on_note=kill)
    return recording


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [
        (["model.strategy=ddp"], [BY_TWO]),
        (["model.strategy=ddp"], ["model.devices=1"]),
        (["model.strategy=ddp"], ["model.strategy=fsdp"]),
        (["model.strategy=fsdp"], [BY_TWO, "model.strategy=ddp"]),
    ],
)
def test_a_run_that_lost_a_process_is_resumed_to_the_same_weights(
    fit: Fit, by_two: Path, tmp_path: Path, begun: list[str], resumed: list[str]
) -> None:
    with pytest.raises(WorkerFailed, match=r"process 1 of the fit was ended by signal 9\. The run"):
        fit(BY_TWO, *begun, runs=tmp_path, progress=kills_another(11))
    (unfinished,) = tmp_path.glob("*.unfinished")
    with pytest.raises(InvalidConfig, match=r"model\.\w+ is .*, but transformer-.* was begun with"):
        fit(f"resume={unfinished}", *resumed, "model.rate=0.5")
    recording = Recording()
    run = fit(f"resume={unfinished}", *resumed, progress=recording)
    assert "going on after step 10" in recording.steps
    assert log_of(run) == log_of(by_two)
    same = begun == ["model.strategy=ddp"] and resumed == [BY_TWO]
    assert difference(run, by_two) <= (0 if same else TOLERANCE)


# Two machines: network namespaces of this one, joined by a cable.

ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = "29511"
CABLE = "cable"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def end(machine: str) -> None:
    """Kill every process of a machine at once."""
    for pid in ip("netns", "pids", machine).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@pytest.fixture(scope="module")
def machines() -> Iterator[list[str]]:
    """Return the names of two network namespaces that see each other and nothing else."""
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux, root and the command `ip` (iproute2)")
    names = [f"classmark-{os.getpid()}-{i}" for i in (0, 1)]
    with ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            ip("-n", names[0], "link", "add", CABLE, "type", "veth",
               "peer", "name", CABLE, "netns", names[1])  # fmt: skip
        except subprocess.CalledProcessError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"this system makes no network namespaces: {error.stderr.strip()}")
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", CABLE)
            for device in ("lo", CABLE):
                ip("-n", name, "link", "set", device, "up")
        yield names


@contextmanager
def torchrun(machines: list[str], words: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start `classmark train` by torchrun on each machine; end what is left in the end."""
    started = []
    for rank, name in enumerate(machines):
        command = [
            *("ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank)),
            *("--master-addr", ADDRESSES[0], "--master-port", PORT, "-m", "classmark"),
        ]
        started.append(
            subprocess.Popen(
                [*command, "train", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "GLOO_SOCKET_IFNAME": CABLE},
            )
        )
    try:
        yield started
    finally:
        for name, process in zip(machines, started, strict=True):
            end(name)
            process.communicate()


def wait_for(found: Callable[[], Any], processes: list[subprocess.Popen[str]]) -> None:
    """Wait until something is there; a process that ends before is an error."""
    while not found():
        for process in processes:
            if process.poll() is not None:
                raise AssertionError(f"it ended: {process.communicate()}")
        time.sleep(0.01)


def test_two_machines_of_which_one_dies_resume_to_the_weights_of_an_unbroken_run(
    machines: list[str], words: list[str], by_two: Path, tmp_path: Path
) -> None:
    with torchrun(machines, [*words, f"runs_dir={tmp_path}"]) as both:
        wait_for(lambda: list(tmp_path.glob("*.unfinished/checkpoints/step-00000005")), both)
        end(machines[1])
        _, said = both[0].communicate(timeout=600)
    assert both[0].returncode != 0
    assert "process 0 of 2 has lost another one" in said
    (unfinished,) = tmp_path.glob("*.unfinished")
    assert f"The run is kept: start all processes again with resume={unfinished}" in said
    with torchrun(machines, [f"resume={unfinished}"]) as both:
        results = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    (run,) = tmp_path.iterdir()
    assert results[0][0].splitlines()[-1] == str(run)
    assert results[1][0] == "", "the second machine printed a result too"
    assert "going on after step" in results[0][1]
    assert log_of(run) == log_of(by_two)
    assert difference(run, by_two) == 0
