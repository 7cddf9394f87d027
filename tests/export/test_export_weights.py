"""Weights in half precision: half the bytes, nearly the same logits."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="encoders are exported from torch")

import onnx

from classmark.export.onnx import network_scorer, to_onnx, torch_logits
from classmark.export.weights import halve_network
from classmark.pipeline.transformer.export import read_network
from classmark.records import RunRecord
from deep_bundles import DeepFolders

pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds

PAPERS = [("Sparse graphs", "We prove a bound."), ("", "a"), ("On", "word " * 400)]
HALF_TOLERANCE = 2e-2


def test_halved_weights_give_nearly_the_same_logits_in_half_the_bytes(deep: DeepFolders) -> None:
    network = read_network(deep.run, RunRecord.read(deep.run))
    plain = to_onnx(network)
    halved = halve_network(plain)
    given = network_scorer(network, halved, "fp16").score(PAPERS).scores
    difference = np.abs(given - torch_logits(network, PAPERS)).max()
    assert 0 < difference < HALF_TOLERANCE
    assert len(halved) < 0.65 * len(plain)


def test_a_weight_that_half_precision_cannot_hold_stays(deep: DeepFolders) -> None:
    network = read_network(deep.run, RunRecord.read(deep.run))
    loaded = onnx.load_from_string(to_onnx(network))
    largest = max(loaded.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = onnx.numpy_helper.to_array(largest).copy()
    array[-1, -1] = 1e6
    largest.CopyFrom(onnx.numpy_helper.from_array(array, largest.name))
    halved = onnx.load_from_string(halve_network(loaded.SerializeToString()))
    kinds = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    assert kinds[largest.name] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in kinds.values()
    onnx.checker.check_model(halved)


def test_a_weight_that_is_looked_up_and_multiplied_is_read_both_ways() -> None:
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime import InferenceSession

    table = np.linspace(-1, 1, 2048, dtype=np.float32).reshape(64, 32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["rows", "turned"], ["out"]),
        ],
        "tied",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    halved = halve_network(model.SerializeToString())
    ids = np.array([0, 5, 63])
    (given,) = InferenceSession(halved, providers=["CPUExecutionProvider"]).run(None, {"ids": ids})
    rounded = table.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(given, rounded[ids] @ rounded.T, atol=1e-5)
