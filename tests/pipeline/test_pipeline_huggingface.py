"""A run as a folder of Transformers: its pipeline, its card, a fit that starts from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from classmark import Classifier
from classmark.dataset import load_manifest, read_split
from classmark.errors import InvalidConfig, ParityFailed, StorageFailed
from classmark.papers import normalise
from classmark.pipeline import ExportOptions, compose_config, export_run, train
from classmark.pipeline.transformer.huggingface import TOLERANCE, check_pipeline
from classmark.records import Paper, RunRecord
from deep_bundles import DeepFolders
from deep_runs import write_deep_run

pytestmark = pytest.mark.slow  # reason: imports torch and Transformers
CLASSIFY = """
import json, sys
from transformers import pipeline
classify = pipeline("text-classification", model=sys.argv[1], top_k=None, device="cpu")
given = json.load(sys.stdin)
print(json.dumps(classify(given, truncation="only_second", batch_size=4)))
assert not any(name.partition(".")[0] == "classmark" for name in sys.modules)
"""


def options(name: str, **changes: Any) -> ExportOptions:
    return ExportOptions(name=name, version="1.0", format="hf", **changes)


@pytest.fixture(scope="module")
def folder(deep: DeepFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub") / "mine-1.0"
    export_run(deep.run, place, options("mine"))
    return place


def papers_of(dataset: Path) -> list[tuple[str, str]]:
    split = read_split(dataset, "test", load_manifest(dataset))
    return list(zip(split.titles, split.abstracts, strict=True))[:20]


def classify_elsewhere(folder: Path, papers: list[tuple[str, str]]) -> list[dict[str, float]]:
    """Return the answers of a Python that has neither a network nor classmark loaded."""
    given = [{"text": title, "text_pair": abstract} for title, abstract in papers]
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY, str(folder)],
        input=json.dumps(given),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    return [{ranked["label"]: ranked["score"] for ranked in row} for row in rows]


def test_the_pipeline_of_transformers_gives_the_probabilities_of_the_bundle(
    folder: Path, deep: DeepFolders
) -> None:
    papers = [(normalise(t), normalise(a)) for t, a in papers_of(deep.dataset)]
    papers += [("", "Graphs."), ("Graphs", "We colour them. " * 400)]
    bundle = Classifier(deep.fp32)  # of few papers, so that it has no curve
    answers = bundle.classify(
        [Paper(title=title, abstract=abstract) for title, abstract in papers],
        top=len(bundle.labels),
    )
    for given, answer in zip(classify_elsewhere(folder, papers), answers, strict=True):
        expected = {ranked.code: ranked.probability for ranked in answer.ranked}
        assert given == pytest.approx(expected, abs=TOLERANCE)
        assert given.keys() == expected.keys()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_each_pooling_that_transformers_has_is_exported(
    deep: DeepFolders, tmp_path: Path, pooling: str
) -> None:
    # Its answers are compared with those of the run before the folder is there.
    run = write_deep_run(tmp_path / "run", deep.dataset, deep.encoder, pooling=pooling)
    export_run(run, tmp_path / "mine-1.0", options("mine"))
    config = json.loads((tmp_path / "mine-1.0" / "config.json").read_text("utf-8"))
    assert config["classifier_pooling"] == pooling


def test_a_pooling_that_transformers_lacks_is_refused_before_any_work(
    deep: DeepFolders, tmp_path: Path
) -> None:
    run = write_deep_run(tmp_path / "run", deep.dataset, deep.encoder, pooling="max")
    with pytest.raises(InvalidConfig, match=r"no class of Transformers has model\.pooling=max"):
        export_run(run, tmp_path / "mine-1.0", options("mine"))
    assert not (tmp_path / "mine-1.0").exists()


@pytest.mark.parametrize("kind", ["DistilBert", "Electra"])
def test_other_encoders_without_a_pooled_vector_are_exported(
    deep: DeepFolders, tmp_path: Path, kind: str
) -> None:
    import transformers

    encoder = Path(shutil.copytree(deep.encoder, tmp_path / "encoder"))
    config = transformers.AutoConfig.from_pretrained(encoder)
    small = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}
    if kind == "Electra":
        small = {"embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2}
        small |= {"intermediate_size": 64, "num_attention_heads": 2}
    made = getattr(transformers, f"{kind}Config")(vocab_size=config.vocab_size, **small)
    getattr(transformers, f"{kind}Model")(made).save_pretrained(encoder)
    run = write_deep_run(tmp_path / "run", deep.dataset, encoder)
    export_run(run, tmp_path / "mine-1.0", options("mine"))
    seen = json.loads((tmp_path / "mine-1.0" / "config.json").read_text("utf-8"))
    assert seen["text_config"]["model_type"] == kind.lower()


def test_an_encoder_that_the_class_cannot_hold_is_refused(
    deep: DeepFolders, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(deep.run, tmp_path / "run"))
    file = run / "encoder" / "config.json"
    config = json.loads(file.read_text("utf-8")) | {"model_type": "roberta"}
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r"an encoder of type 'roberta' also gives a pooled"):
        export_run(run, tmp_path / "mine-1.0", options("mine", dataset=deep.dataset))


def test_the_folder_holds_no_pickle_and_the_same_run_gives_the_same_bytes(
    folder: Path, deep: DeepFolders, tmp_path: Path
) -> None:
    export_run(deep.run, tmp_path / "mine-1.0", options("mine"))
    names = ["README.md", "config.json", "model.safetensors"]
    names += ["tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        assert (tmp_path / "mine-1.0" / name).read_bytes() == (folder / name).read_bytes()
        assert (folder / name).stat().st_mode == (folder / "README.md").stat().st_mode


def test_a_folder_that_exists_is_replaced_on_request_only(
    folder: Path, deep: DeepFolders, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "mine-1.0"))
    with pytest.raises(StorageFailed, match=r"mine-1\.0"):
        export_run(deep.run, copy, options("mine"))
    (copy / "stale").touch()
    export_run(deep.run, copy, options("mine", overwrite=True))
    assert not (copy / "stale").exists()


def test_the_card_has_metadata_that_the_hub_reads(folder: Path, deep: DeepFolders) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["classmark", "arxiv"]
    bundle = json.loads((deep.fp32 / "bundle.json").read_text("utf-8"))
    report = bundle["metrics"]["all"]
    results = {result.metric_name: result for result in card.data.eval_results or []}
    assert results["top_1"].metric_value == report["top_1"]
    assert results["top_1"].dataset_revision == RunRecord.read(deep.run).dataset_digest
    assert "Fitted on invented sample papers" in card.text
    assert "accepted" not in card.text


def test_weights_that_changed_on_the_way_are_noticed(
    folder: Path, deep: DeepFolders, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    from classmark.pipeline.transformer.export import read_network

    copy = Path(shutil.copytree(folder, tmp_path / "mine-1.0"))
    states = load_file(copy / "model.safetensors")
    states["classifier.bias"][0] += 1
    save_file(states, copy / "model.safetensors", metadata={"format": "pt"})
    record = RunRecord.read(deep.run)
    network = read_network(deep.run, record)
    with pytest.raises(ParityFailed, match=r"differs from the run by 0\.\d+ in a probability"):
        check_pipeline(copy, network, record.labels, papers_of(deep.dataset), 1.0)


def test_a_fit_starts_from_the_encoder_in_the_folder(
    folder: Path, deep: DeepFolders, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    words = [f"model.encoder={folder}", "model.trained_layers=0", "model.max_samples=40"]
    words += ["model.max_held_out=20", "model.epochs=1", "model.max_length=48", "model.threads=1"]
    words += [f"dataset.path={deep.dataset}", f"runs_dir={tmp_path / 'runs'}"]
    config = compose_config(["model=transformer", "model.encoder_dropout=0.3", *words])
    run = train(config, command="a test")
    before = load_file(deep.run / "weights" / "model.safetensors")
    after = load_file(run / "weights" / "model.safetensors")
    of_encoder = [n for n in before if n.startswith("encoder.") and ".pooler." not in n]
    assert sorted(of_encoder) == sorted(name for name in after if name.startswith("encoder."))
    assert all(torch.equal(before[name], after[name]) for name in of_encoder)
    seen = json.loads((run / "encoder" / "config.json").read_text("utf-8"))
    assert seen["hidden_dropout_prob"] == 0.3
    export_run(run, tmp_path / "again-1.0", options("again"))


def test_a_fit_starts_from_a_classifier_that_somebody_else_saved(
    deep: DeepFolders, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoConfig, BertForSequenceClassification

    from classmark.training.transformer import load_encoder

    config = AutoConfig.from_pretrained(deep.encoder, num_labels=3)
    theirs = BertForSequenceClassification(config)
    theirs.save_pretrained(tmp_path / "theirs")
    shutil.copyfile(deep.encoder / "tokenizer.json", tmp_path / "theirs" / "tokenizer.json")
    encoder = load_encoder(str(tmp_path / "theirs"))
    given, expected = encoder.network.state_dict(), theirs.bert.state_dict()
    assert all(torch.equal(given[name], expected[name]) for name in expected)
