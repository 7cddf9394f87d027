"""The deep tier is measured beside torch, by itself and behind servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs classmark[deep]")

from deep_bundles import DeepFolders, deep

__all__ = ["deep"]
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
