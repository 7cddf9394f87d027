"""A deep bundle or a cascade with right digests: it fits together, or is refused in a sentence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from classmark import Classifier
from classmark.bundle import load_bundle
from classmark.errors import BundleIncompatible, ClassmarkError
from classmark.kernels.cascade import find_member
from classmark.kernels.encoder import load_scorer
from deep_bundles import DeepFolders, copy_of, write_cascade
from spoilt_bundles import Change, rewrite, setting

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds

TEXT = "We prove a bound on sparse graphs."


def edited(edit: Callable[[Any], object]) -> Callable[[Path], dict[str, bytes]]:
    """Return a change of the network of a bundle."""

    def change(folder: Path) -> dict[str, bytes]:
        model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
        edit(model)
        return {"model.onnx": model.SerializeToString()}

    return change


def with_nan(model: Any) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1:
            values = np.full(tensor.dims, math.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def with_fixed_length(model: Any) -> None:
    for item in model.graph.input:
        item.type.tensor_type.shape.dim[1].dim_value = 8


def with_strange_operator(model: Any) -> None:
    model.graph.node[0].domain = "evil.example"
    model.opset_import.add(domain="evil.example", version=1)


def with_other_output(model: Any) -> None:
    name = model.graph.output[0].name
    model.graph.node.add(op_type="Cast", input=[name], output=["other"]).attribute.add(
        name="to", type=onnx.AttributeProto.INT, i=onnx.TensorProto.DOUBLE
    )
    del model.graph.output[:]
    model.graph.output.add(name="other").type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def tokenizer_with(change: Change) -> Callable[[Path], dict[str, bytes]]:
    def changed(folder: Path) -> dict[str, bytes]:
        tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
        change(tokenizer)
        return {"tokenizer.json": json.dumps(tokenizer).encode()}

    return changed


def unchanged(_: Path) -> dict[str, bytes]:
    return {}


@pytest.mark.parametrize(
    ("files", "change", "problem"),
    [
        (edited(with_nan), None, "logits that are not finite numbers"),
        (edited(with_fixed_length), None, "with n and t free"),
        (edited(with_strange_operator), None, "cannot load the network"),
        (edited(with_other_output), None, "gives None logits"),
        (edited(lambda m: m.graph.ClearField("node")), None, "cannot load the network"),
        (lambda _: {"model.onnx": b""}, None, "cannot load the network"),
        (lambda _: {"model.onnx": b"\x18\0\0\0ORTM" + b"\0" * 64}, None, "is not an ONNX model"),
        (
            tokenizer_with(lambda t: t["model"]["vocab"].update({"zzz": 99_999})),
            None,
            "the network and its tokenizer do not fit",
        ),
        (
            tokenizer_with(lambda t: t["post_processor"].update(sep=["[SEP]", 4_000_000_000])),
            None,
            "do not fit",
        ),
        (tokenizer_with(lambda t: t["model"]["vocab"].pop("[UNK]")), None, "do not fit"),
        (tokenizer_with(setting("model", to=7)), None, "lacks what an encoder needs"),
        (unchanged, setting("parameters", "max_length", to=4096), "do not fit"),
        (unchanged, setting("parameters", "max_length", to=10**9), "max_length 1000000000"),
        (unchanged, setting("parameters", "max_length", to=True), "max_length True"),
        (unchanged, setting("parameters", "max_length", to="48"), "max_length '48'"),
        (unchanged, setting("parameters", "precision", to=["int8"]), r"is in \['int8'\]"),
        (unchanged, setting("parameters", "inputs", to="input_ids"), "has inputs 'input_ids'"),
        (unchanged, setting("parameters", "inputs", to=[["x"]]), r"has inputs \[\['x'\]\]"),
        (unchanged, lambda v: v["parameters"].pop("curve"), "lacks the parameter 'curve'"),
        (unchanged, lambda v: v["labels"].pop(), "needs 23 thresholds"),
    ],
)
def test_a_deep_bundle_whose_parts_do_not_fit_is_refused(
    deep: DeepFolders,
    tmp_path: Path,
    files: Callable[[Path], dict[str, bytes]],
    change: Change | None,
    problem: str,
) -> None:
    folder = copy_of(deep.fp32, tmp_path)
    rewrite(folder, change or (lambda _: None), files(folder))
    with pytest.raises(BundleIncompatible, match=problem):
        Classifier(folder)


def test_weights_in_a_hidden_file_are_refused(deep: DeepFolders, tmp_path: Path) -> None:
    folder = copy_of(deep.fp32, tmp_path)
    model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
    outside = tmp_path / "outside"
    outside.mkdir()
    options = {"save_as_external_data": True, "location": ".weights", "size_threshold": 0}
    onnx.save_model(model, str(outside / "model.onnx"), **options)
    rewrite(folder, files={"model.onnx": (outside / "model.onnx").read_bytes()})
    (outside / ".weights").rename(folder / ".weights")
    with pytest.raises(ClassmarkError, match=r"\.weights is hidden and does not belong"):
        Classifier(folder)
    (folder / ".weights").rename(tmp_path / ".weights")
    with pytest.raises(BundleIncompatible, match="keeps weights in another file"):
        Classifier(folder)


def test_a_fork_answers_from_what_was_read_whatever_became_of_the_file(
    deep: DeepFolders, tmp_path: Path
) -> None:
    folder = copy_of(deep.int8, tmp_path)
    scorer = load_scorer(load_bundle(folder))
    expected = scorer.score([("", TEXT)]).scores.tobytes()
    for name in ("model.onnx", "tokenizer.json"):
        os.truncate(folder / name, 0)
    assert scorer.score([("", TEXT)]).scores.tobytes() == expected
    read, write = os.pipe()
    child = os.fork()
    if not child:
        same = scorer.score([("", TEXT)]).scores.tobytes() == expected
        os.write(write, b"same" if same else b"other")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"same"
    os.waitpid(child, 0)


@pytest.fixture
def cascade(deep: DeepFolders, fast_bundle: Path, tmp_path: Path) -> Path:
    """Return a cascade of copies that a test may spoil."""
    parts = {"fast": copy_of(fast_bundle, tmp_path), "deep": copy_of(deep.int8, tmp_path)}
    write_cascade(tmp_path / "both-1.0", parts)
    assert Classifier(tmp_path / "both-1.0").classify(TEXT).ranked
    return tmp_path / "both-1.0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (setting("parameters", "fast", "name", to="../quick"), "names its fast model as"),
        (setting("parameters", "fast", "version", to="1.0/../x"), "names its fast model as"),
        (setting("parameters", "deep", "digest", to="ab"), "names its deep model as"),
        (setting("parameters", "deep", "digest", to=7), "names its deep model as 7|'digest': 7"),
        (setting("parameters", "deep", to=None), "names its deep model as None"),
        (setting("parameters", "deep", "digest", to="0" * 64), "was made with deepint@1.0 of"),
        (lambda v: v["parameters"].pop("mix"), "has the parameters"),
        (setting("parameters", "mix", to=2), "has mix 2, it must be a number within 0..1"),
        (setting("parameters", "threshold", to="0.5"), "has threshold '0.5'"),
        (setting("parameters", "threshold", to=-1), "has threshold -1"),
    ],
)
def test_a_cascade_that_names_its_parts_badly_is_refused(
    cascade: Path, change: Change, problem: str
) -> None:
    rewrite(cascade, change)
    with pytest.raises(BundleIncompatible, match=problem):
        Classifier(cascade)


def test_a_part_that_is_replaced_after_it_was_found_is_refused(
    cascade: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmark.kernels import cascade as module

    def find_then_replace(folder: Path, seen: dict[str, str]) -> Path:
        found = find_member(folder, seen)
        if seen["name"] == "quick":
            rewrite(found, setting("policy", "temperature", to=3.0))
        return found

    monkeypatch.setattr(module, "find_member", find_then_replace)
    with pytest.raises(BundleIncompatible, match=r"was made with quick@1\.0 of digest"):
        Classifier(cascade)
