"""An ONNX model in a bundle holds all of its weights, wherever in the graph they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classmark.bundle import load_bundle, write_bundle
from classmark.bundle.onnx import PARTS, onnx_problem
from classmark.errors import BundleIncompatible, InvalidConfig
from classmark.records import BundleManifest
from spoilt_bundles import rewrite

onnx = pytest.importorskip("onnx", reason="models are made with the package onnx")

EXTERNAL = "keeps weights in another file"


def external() -> Any:
    tensor = onnx.TensorProto(name="w", dims=[4], data_type=onnx.TensorProto.FLOAT)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=".weights")
    return tensor


def inside() -> Any:
    return onnx.TensorProto(name="w", dims=[1], data_type=1, float_data=[1.0], doc_string="x" * 300)


def in_attribute(**value: Any) -> Any:
    """Return a graph with a node that has one attribute."""
    attribute = onnx.AttributeProto(name="value", **value)
    return onnx.GraphProto(node=[onnx.NodeProto(op_type="Constant", attribute=[attribute])])


def sparse(values: Any, indices: Any) -> Any:
    return onnx.SparseTensorProto(values=values, indices=indices)


def in_graph(graph: Any) -> Any:
    return onnx.ModelProto(ir_version=8, graph=graph)


def in_function(function: Any) -> Any:
    return onnx.ModelProto(ir_version=8, functions=[function])


PLACES: dict[str, Callable[[Any], Any]] = {
    "initializer": lambda t: in_graph(onnx.GraphProto(initializer=[inside(), t])),
    "sparse values": lambda t: in_graph(onnx.GraphProto(sparse_initializer=[sparse(t, inside())])),
    "sparse indices": lambda t: in_graph(onnx.GraphProto(sparse_initializer=[sparse(inside(), t)])),
    "attribute": lambda t: in_graph(in_attribute(t=t)),
    "list of an attribute": lambda t: in_graph(in_attribute(tensors=[inside(), t])),
    "sparse attribute": lambda t: in_graph(in_attribute(sparse_tensor=sparse(t, inside()))),
    "subgraph": lambda t: in_graph(in_attribute(g=onnx.GraphProto(initializer=[t]))),
    "subgraph of a subgraph": lambda t: in_graph(in_attribute(graphs=[in_attribute(t=t)])),
    "function": lambda t: in_function(onnx.FunctionProto(node=in_attribute(t=t).node)),
    "default of a function": lambda t: in_function(
        onnx.FunctionProto(attribute_proto=[onnx.AttributeProto(name="value", t=t)])
    ),
    "training": lambda t: onnx.ModelProto(
        training_info=[onnx.TrainingInfoProto(algorithm=onnx.GraphProto(initializer=[t]))]
    ),
}


def model_with(place: str, tensor: Any) -> Any:
    """Return a model with a tensor in one place of its graph."""
    return PLACES[place](tensor)


@pytest.mark.parametrize("place", PLACES)
def test_weights_in_another_file_are_found_wherever_they_are_named(place: str) -> None:
    assert onnx_problem(model_with(place, inside()).SerializeToString()) is None
    problem = onnx_problem(model_with(place, external()).SerializeToString())
    assert problem is not None
    assert problem.startswith(EXTERNAL)


def test_a_location_that_is_marked_without_a_path_or_named_without_a_mark_is_found_too() -> None:
    for tensor in (external(), external()):
        tensor.ClearField("external_data")
        assert onnx_problem(model_with("initializer", tensor).SerializeToString()) is not None
    tensor = external()
    tensor.ClearField("data_location")
    assert onnx_problem(model_with("initializer", tensor).SerializeToString()) is not None


def test_a_second_graph_that_a_reader_would_merge_is_looked_at() -> None:
    first = model_with("initializer", inside()).SerializeToString()
    second = model_with("initializer", external()).SerializeToString()
    assert onnx_problem(first + second) is not None


def test_the_table_names_every_way_to_a_tensor_that_the_installed_onnx_has() -> None:
    def reaches_tensor(descriptor: Any, seen: tuple[str, ...] = ()) -> bool:
        return descriptor.name == "TensorProto" or any(
            reaches_tensor(field.message_type, (*seen, descriptor.name))
            for field in descriptor.fields
            if field.message_type is not None and field.message_type.name not in seen
        )

    waiting, found = [onnx.ModelProto.DESCRIPTOR], {}
    while waiting:
        descriptor = waiting.pop()
        if descriptor.name in found:
            continue
        parts = [
            field
            for field in descriptor.fields
            if field.message_type is not None and reaches_tensor(field.message_type)
        ]
        found[descriptor.name] = {field.number: field.message_type.name for field in parts}
        waiting += [field.message_type for field in parts]
    assert found == PARTS
    numbers = {f.name: f.number for f in onnx.TensorProto.DESCRIPTOR.fields}
    assert (numbers["external_data"], numbers["data_location"]) == (13, 14)


@pytest.mark.parametrize(
    "content",
    [
        b"no network",
        b"\x0b",  # a group begins
        b"\x02\x01",  # field 0
        b"\xba\x80\x80\x80\x80\x01\x00",  # field 7 after a cut to 32 bits
        b"\x3a\x05\x00",  # a graph longer than the file
        b"\x38\x01",  # a graph that is a number
        b"\x80" * 12,  # a number without an end
        b"\x09\x00",  # a number of 64 bits that is cut off
    ],
)
def test_what_is_not_protocol_buffers_is_not_left_to_another_reader(content: bytes) -> None:
    assert onnx_problem(content) == "is not an ONNX model"


@pytest.mark.slow
def test_the_check_of_a_hostile_model_ends() -> None:
    graph = b""
    for _ in range(200):
        attribute = b"\x32" + varint(len(graph)) + graph
        node = b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    deep = b"\x3a" + varint(len(graph)) + graph
    many = b"\x08\x01" * 1_100_000
    for content in (deep, many):
        assert onnx_problem(content) == "is too deeply nested or has too many fields to be checked"


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def test_a_bundle_with_weights_elsewhere_is_neither_written_nor_loaded(
    tmp_path: Path, manifest: Callable[..., BundleManifest]
) -> None:
    content = model_with("initializer", external()).SerializeToString()
    described = manifest(kind="transformer")
    with pytest.raises(InvalidConfig, match=rf"model\.onnx {EXTERNAL}.*Save it with all"):
        write_bundle(tmp_path / "b", described, {}, {"model.onnx": content})
    assert not (tmp_path / "b").exists()
    sound = model_with("initializer", inside()).SerializeToString()
    write_bundle(tmp_path / "b", described, {}, {"model.onnx": sound})
    assert load_bundle(tmp_path / "b").content("model.onnx") == sound
    rewrite(tmp_path / "b", files={"model.onnx": content})
    with pytest.raises(BundleIncompatible, match=rf"model\.onnx {EXTERNAL}.*Export the model"):
        load_bundle(tmp_path / "b")
