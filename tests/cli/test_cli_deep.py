"""Deep models on the command line: export, classify, evaluate, and a cascade of two bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from deep_bundles import DeepFolders

pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_export_tells_the_precision_it_kept_and_the_bundle_classifies(
    deep: DeepFolders, tmp_path: Path
) -> None:
    bundle = tmp_path / "mine-1.0"
    words = ("export", deep.run, "--output", bundle, "--dataset", deep.dataset)
    result = run(*words, "--quantize", "int8", "--json")
    assert result.exit_code == 0, result.output
    seen = json.loads(result.stdout)
    assert seen["bundle"] == str(bundle)
    assert seen["precision"] == {"kept": "int8", "reason": "int8 was asked for"}
    assert "kept int8: int8 was asked for" in result.stderr
    answer = run("classify", "We prove a bound for sparse graphs.", "--model", bundle, "--jsonl")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["model"]["name"] == "mine"
    report = run("evaluate", "--model", bundle, "--dataset", deep.dataset)
    assert report.exit_code == 0, report.output


def test_an_unknown_precision_is_a_usage_error(deep: DeepFolders, tmp_path: Path) -> None:
    result = run("export", deep.run, "--output", tmp_path / "x-1.0", "--quantize", "int4")
    assert result.exit_code == 2
    assert "--quantize 'int4' must be one of auto, fp32, fp16, int8" in result.stderr


def test_export_prunes_and_says_what_that_loses(deep: DeepFolders, tmp_path: Path) -> None:
    words = ("export", deep.run, "--output", tmp_path / "mine-1.0", "--prune", "vocabulary=0.3")
    result = run(*words, "--quantize", "fp16", "--most-loss", "1", "--json")
    assert result.exit_code == 0, result.output
    seen = json.loads(result.stdout)
    assert seen["pruning"]["pruned"] == "vocabulary=0.3"
    assert f"pruned vocabulary=0.3: it {seen['pruning']['reason']}" in result.stderr
    assert seen["precision"]["kept"] == "fp16"
    refused = run(*words, "--overwrite")
    assert refused.exit_code == 1
    assert "120 labelled validation papers are too few" in " ".join(refused.stderr.split())


def test_a_folder_for_transformers_is_written_and_described(
    deep: DeepFolders, tmp_path: Path
) -> None:
    output = tmp_path / "mine-1.0"
    result = run("export", deep.run, "--format", "hf", "--output", output, "--json")
    assert result.exit_code == 0, result.output
    seen = json.loads(result.stdout)
    assert sorted(seen) == ["bytes", "folder", "metrics"]
    assert seen["folder"] == str(output)
    assert seen["bytes"] == sum(file.stat().st_size for file in output.iterdir())
    assert "comparing its answers with those of the run" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--format", "onnx"), "its model.onnx goes from tokens to logits"),
        (("--format", "hf", "--quantize", "int8"), "--format hf writes fp32"),
    ],
)
def test_a_format_that_an_encoder_cannot_have_is_refused(
    deep: DeepFolders, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    result = run("export", deep.run, "--output", tmp_path / "mine-1.0", *words)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
    assert not (tmp_path / "mine-1.0").exists()


def test_a_cascade_is_trained_exported_and_classifies(
    deep: DeepFolders, fast_bundle: Path, tmp_path: Path
) -> None:
    words = ["model=cascade", f"model.fast={fast_bundle}", f"model.deep={deep.int8}"]
    words += [f"dataset.path={deep.dataset}", f"runs_dir={tmp_path / 'runs'}"]
    trained = run("train", *words, "model.max_held_out=60")
    assert trained.exit_code == 0, trained.output
    assert "chose threshold" in trained.stderr
    folder = Path(trained.stdout.strip())
    bundle = deep.fp32.with_name("pair-1.0")
    exported = run("export", folder, "--output", bundle, "--threshold", "0.5")
    assert exported.exit_code == 0, exported.output
    answer = run("classify", "Sparse graphs.", "--model", bundle, "--jsonl", "--explain")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["explanation_method"] == "occlusion"
