"""The weights of a graph in fewer bits: int8, or half precision that is read into fp32."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from classmark.errors import MissingExtra
from classmark.storage import scratch_folder

_SMALL = 1024
"""Tensors of fewer numbers stay in fp32: norms, biases, constants."""


def quantise_network(model: bytes) -> bytes:
    """Return the network with weights in int8, per channel, activations as they come.

    Embeddings too: they are half of MiniLM, and cost no accuracy that could be measured.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtra("exporting an encoder", "deep") from error
    with scratch_folder() as folder:
        before, after = folder / "fp32.onnx", folder / "int8.onnx"
        before.write_bytes(model)
        with quiet_quantiser():
            quantize_dynamic(
                before,
                after,
                per_channel=True,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            )
        return after.read_bytes()


def halve_network(model: bytes) -> bytes:
    """Return the network with weights in fp16; it still computes in fp32.

    onnxruntime has no fp16 on most CPUs, so each weight is read into fp32, once, when the network
    is loaded. Of an embedding only the rows that a paper needs are read.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("exporting an encoder", "deep") from error
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    for tensor in list(graph.initializer):
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < _SMALL:
            continue
        with np.errstate(over="ignore"):
            halved = array.astype(np.float16)
        if np.isfinite(halved).all():
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(halved, name))
            _read_into_fp32(graph, name)
    return bytes(loaded.SerializeToString())


@contextmanager
def quiet_quantiser() -> Iterator[None]:
    """Silence the quantiser, which recommends a step that changes nothing here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _read_into_fp32(graph: Any, name: str) -> None:
    """Cast a weight where it is used: what is looked up in it, or all of it."""
    from onnx import TensorProto, helper

    users = [node for node in graph.node if name in node.input]
    lookups = [node for node in users if node.op_type == "Gather" and node.input[0] == name]
    for node in lookups:
        found = node.output[0]
        node.output[0] = f"{found}_half"
        cast = helper.make_node("Cast", [node.output[0]], [found], to=TensorProto.FLOAT)
        graph.node.insert(list(graph.node).index(node) + 1, cast)
    if len(lookups) < len(users):
        whole = f"{name}_whole"
        for node in users:
            for place, given in enumerate(node.input):
                if given == name and node not in lookups:
                    node.input[place] = whole
        graph.node.insert(0, helper.make_node("Cast", [name], [whole], to=TensorProto.FLOAT))
