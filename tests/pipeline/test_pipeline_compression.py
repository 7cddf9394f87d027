"""Each option that makes a transformer smaller: a bundle that loads and answers as its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="encoders are exported from torch")

from classmark import Classifier
from classmark.bundle import load_bundle, read_manifest
from classmark.dataset import load_manifest, read_split
from classmark.errors import InvalidConfig, ParityFailed
from classmark.export.onnx import torch_logits
from classmark.kernels.encoder import load_scorer
from classmark.pipeline import ExportOptions, export_run
from classmark.pipeline.export import open_run
from classmark.pipeline.transformer.export import prepare
from classmark.records import SILENT
from classmark.training.transformer import load_encoder
from deep_bundles import DeepFolders

pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds

TOLERANCES = {"fp32": 1e-4, "fp16": 2e-3, "int8": 0.2}
"""Of the largest logit, between the bundle and the torch network that it was made of."""
EVERYTHING = "vocabulary=0.3,layers=1,heads=1"


def options(**changes: Any) -> ExportOptions:
    return ExportOptions(name="small", version="1.0", **{"most_loss": 1.0, **changes})


def papers_of(dataset: Path) -> list[tuple[str, str]]:
    split = read_split(dataset, "test", load_manifest(dataset))
    return list(zip(split.titles, split.abstracts, strict=True))[:40]


@pytest.mark.parametrize(
    ("prune", "quantize"),
    [
        ("", "fp16"),
        ("", "int8"),
        ("vocabulary=0.3", "fp32"),
        ("layers=1", "fp32"),
        ("heads=1", "fp32"),
        (EVERYTHING, "int8"),
    ],
)
def test_each_option_gives_a_smaller_bundle_that_answers_as_its_torch_counterpart(
    deep: DeepFolders, tmp_path: Path, prune: str, quantize: Any
) -> None:
    chosen, output = options(prune=prune, quantize=quantize), tmp_path / "small-1.0"
    manifest, report = export_run(deep.run, output, chosen)
    network = prepare(open_run(deep.run, tmp_path / "none-1.0", chosen, SILENT)).network
    papers = papers_of(deep.dataset)
    given = load_scorer(load_bundle(output)).score(papers).scores
    expected = torch_logits(network, papers)
    difference = np.abs(given - expected).max() / np.abs(expected).max()
    assert difference < TOLERANCES[quantize]
    graph = output / "model.onnx"
    assert graph.stat().st_size < (deep.fp32 / "model.onnx").stat().st_size
    assert manifest.parameters["precision"] == quantize
    assert Classifier(output).classify("Sparse graphs\nWe prove a bound.").ranked
    facts = manifest.provenance.get("pruning")
    assert (facts or {"pruned": ""})["pruned"] == prune
    assert report.config.get("pruning") == facts
    card = (output / "CARD.md").read_text("utf-8")
    assert (f"| pruned | {prune}: it loses " in card) == bool(prune)


def test_a_pruned_network_is_refused_if_it_may_lose_more_than_is_allowed(
    deep: DeepFolders, tmp_path: Path
) -> None:
    output = tmp_path / "small-1.0"
    with pytest.raises(
        ParityFailed,
        match=r"--prune layers=1: what it loses cannot be judged: 120 labelled .* too few",
    ):
        export_run(deep.run, output, options(prune="layers=1", most_loss=0.005))
    with pytest.raises(
        ParityFailed, match=r"may lose more than 0\.03: it loses .* 120 papers\)\. Prune less"
    ):
        export_run(deep.run, output, options(prune="vocabulary=0.95", most_loss=0.03))
    assert not output.exists()


def test_a_pruned_encoder_for_transformers_can_be_fitted_further(
    deep: DeepFolders, tmp_path: Path
) -> None:
    output = tmp_path / "small-1.0"
    export_run(deep.run, output, options(prune="vocabulary=0.3,layers=1", format="hf"))
    encoder = load_encoder(str(output))
    whole = load_encoder(str(deep.encoder))
    assert encoder.network.config.num_hidden_layers == 1
    n_whole = whole.network.config.vocab_size
    assert encoder.network.config.vocab_size == n_whole - int(0.3 * n_whole)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prune": "heads=1", "format": "hf"}, "--prune heads is of bundles"),
        ({"quantize": "fp16", "format": "hf"}, "--quantize fp16 is of bundles"),
        ({"prune": "layers=two"}, "'layers=two' is not one of"),
        ({"prune": "vocabulary=1.2"}, r"the share 1\.2 must be between 0 and 1"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_work(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        options(**changes)


@pytest.mark.parametrize(
    ("prune", "reason"),
    [
        ("layers=2", "the encoder has 2 layers"),
        ("heads=3", "4 heads in 2 layers"),
        ("vocabulary=0.99", "neither special nor single characters"),
    ],
)
def test_more_than_the_encoder_has_is_refused(
    deep: DeepFolders, tmp_path: Path, prune: str, reason: str
) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        export_run(deep.run, tmp_path / "small-1.0", options(prune=prune))


def test_a_bundle_is_not_exported_again(deep: DeepFolders, tmp_path: Path) -> None:
    assert read_manifest(deep.int8).parameters["precision"] == "int8"
    with pytest.raises(InvalidConfig, match="is a bundle, which is exported already"):
        export_run(deep.int8, tmp_path / "small-1.0", options(quantize="int8"))
