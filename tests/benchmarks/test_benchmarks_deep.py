"""The deep tier is measured beside torch, by itself and behind servers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs classmark[deep]")

import distributed
from classmark.training.transformer.processes import processors
from deep_bundles import DeepFolders, deep
from deep_models import tiny_encoder

__all__ = ["deep", "tiny_encoder"]
pytestmark = pytest.mark.slow  # reason: servers that import torch


def test_the_network_is_measured_in_torch_and_onnx_and_behind_both_servers(
    deep: DeepFolders, tmp_path: Path, run_benchmark: Callable[..., dict[str, Any]]
) -> None:
    plot = tmp_path / "deep.svg"
    found = run_benchmark(
        "deep.py", "--run", deep.run, "--bundle", deep.fp32, "--plot", plot, "--tiny"
    )
    assert list(found["kernels"]) == ["torch fp32", "ONNX fp32", "ONNX int8"]
    assert found["kernels"]["torch fp32"]["times_torch"] == 1
    served = found["serving"]
    assert served["plain"]["papers_per_s"] > 0
    assert served["classmark"]["papers_per_s"] > 0
    assert served["overload"]["sent_per_s"] > 0
    assert plot.read_text().startswith("<?xml")


def test_every_format_is_loaded_with_every_number_of_workers(
    tiny_encoder: Path, tmp_path: Path, run_benchmark: Callable[..., dict[str, Any]]
) -> None:
    plot = tmp_path / "loading.svg"
    found = run_benchmark(
        "loading.py", "--encoder", tiny_encoder, "--work", tmp_path, "--plot", plot, "--tiny"
    )
    cells = {(c["format"], c["workers"], c["bucketed"]): c for c in found["loading"]}
    assert len(cells) == 4 * len(found["workers"]) * 2
    assert all(cell["papers_per_s"] > 0 for cell in cells.values())
    assert cells["arrays", 0, True]["padding"] < cells["arrays", 0, False]["padding"]
    assert {fit["workers"] for fit in found["fit"]} == {0, 1, 2}
    assert plot.read_text().startswith("<?xml")


@pytest.mark.skipif(processors() < 2, reason="two processes need two processors")
def test_two_processes_are_measured_and_more_are_derived(
    tiny_encoder: Path, tmp_path: Path, run_benchmark: Callable[..., dict[str, Any]]
) -> None:
    plot = tmp_path / "distributed.svg"
    found = run_benchmark("distributed.py", "--encoder", tiny_encoder, "--plot", plot, "--tiny")
    assert found["devices"] == 2
    assert all(mode["cpu_s"] > 0 for mode in found["measured"].values())
    for hardware in found["derived"]:
        in_all, each = hardware["papers_a_step_fixed"], hardware["papers_a_process_fixed"]
        assert in_all[0]["efficiency"] == each[0]["efficiency"] == 1
        assert in_all[-1]["efficiency"] < each[-1]["efficiency"] < 1
    assert plot.read_text().startswith("<?xml")


def test_a_ring_sends_almost_twice_the_gradients_however_many_processes() -> None:
    slow = distributed.HARDWARE[0]
    link = dataclasses.replace(slow, bytes_per_s=1e6, latency_s=0.0)
    taken = [distributed.exchange_model_s(n, 1_000_000, link) for n in (2, 4, 64)]
    assert taken == pytest.approx([1.0, 1.5, 1.96875])
