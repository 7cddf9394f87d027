"""A run of the deep tier: what is in its folder, and which runs can be gone on with."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark.kernels.authors import AuthorArrays
from classmark.records import SILENT, Progress
from recording import Recording

pytest.importorskip("lightning")

from classmark.dataset import SampleConfig, load_manifest, read_split, sample_dataset
from classmark.errors import (
    EncoderNotFound,
    Interrupted,
    InvalidConfig,
    InvalidDataset,
    LabelMismatch,
    RunCorrupt,
    TrainingFailed,
)
from classmark.pipeline import compose_config, train, train_once
from classmark.pipeline.scoring import take_papers
from classmark.records import ScoreTable
from classmark.tracking.wandb import waiting_runs
from deep_models import HIDDEN, LAYERS, tiny_encoder
from wandb_file import read_records, values

__all__ = ["tiny_encoder"]
pytestmark = pytest.mark.slow  # reason: imports Lightning, fits a network

FIGURES = [
    f"{split}-{name}"
    for split in ("valid", "test")
    for name in ("reliability.svg", "confusion.svg", "confusion.csv")
]
DeepTrain = Callable[..., Path]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep") / "dataset"
    sample_dataset(folder, SampleConfig(papers=300), command="a test")
    return folder


@pytest.fixture(scope="module")
def deep_train(
    papers: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> DeepTrain:
    """Return a function that fits the tiny encoder for an epoch and returns the run folder."""

    def run(*overrides: str, runs: Path | None = None, progress: Progress = SILENT) -> Path:
        words = [
            "model=transformer",
            f"dataset.path={papers}",
            f"runs_dir={runs or tmp_path_factory.mktemp('runs')}",
            f"model.encoder={tiny_encoder}",
            "model.max_length=48",
            "model.threads=1",
            "model.epochs=1",
        ]
        chosen = {word.partition("=")[0]: word for word in (*words, *overrides)}
        config = compose_config(list(chosen.values()))
        return train(config, command="a test", progress=progress)

    return run


@pytest.fixture(scope="module")
def run_folder(deep_train: DeepTrain) -> Path:
    return deep_train("model.pooling=cls")


def record_of(folder: Path) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads((folder / "provenance.json").read_text())
    return seen


def test_the_folder_holds_what_export_reads_and_nothing_of_the_way_there(run_folder: Path) -> None:
    files = {p.relative_to(run_folder).as_posix() for p in run_folder.rglob("*") if p.is_file()}
    assert files == {
        *(f"authors/{field.name}.npy" for field in fields(AuthorArrays)),
        "config.yaml",
        "encoder/config.json",
        "encoder/tokenizer.json",
        "encoder/tokenizer_config.json",
        *(f"figures/{name}" for name in FIGURES),
        "log.csv",
        "metrics.csv",
        "provenance.json",
        "scores/model-test.npz",
        "scores/model-valid.npz",
        "weights/model.safetensors",
    }
    assert [p.name for p in run_folder.parent.iterdir()] == [run_folder.name]
    assert run_folder.name.startswith("transformer-")


def test_the_provenance_names_kind_encoder_and_dataset(
    run_folder: Path, papers: Path, tiny_encoder: Path
) -> None:
    seen, manifest = record_of(run_folder), load_manifest(papers)
    assert seen["kind"] == "transformer"
    assert seen["encoder"] == {
        "name": str(tiny_encoder), "source": "folder", "hidden_size": HIDDEN, "layers": LAYERS
    }  # fmt: skip
    assert (seen["pooling"], seen["max_length"]) == ("cls", 48)
    assert seen["dataset_digest"] == manifest.digest
    assert tuple(seen["labels"]) == manifest.labels
    assert seen["generated"] is True
    assert seen["best_epoch"] == 1
    assert {"torch", "lightning", "transformers", "numpy"} <= set(seen["packages"])
    assert (run_folder / seen["dataset"]).resolve() == papers.resolve()


def test_the_weights_are_those_of_the_encoder_and_a_head_and_give_the_scores(
    run_folder: Path, papers: Path
) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    from classmark.kernels.tokens import PairTokenizer

    states = load_file(run_folder / "weights" / "model.safetensors")
    assert {tensor.dtype for tensor in states.values()} == {torch.float32}
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(run_folder / "encoder"))
    of_encoder = {k.removeprefix("encoder."): v for k, v in states.items() if k[0] == "e"}
    encoder.load_state_dict(of_encoder)
    split = read_split(papers, "test", load_manifest(papers))
    tokenizer = PairTokenizer(run_folder / "encoder" / "tokenizer.json", 48)
    (tokens,) = tokenizer.encode([(split.titles[0], split.abstracts[0])])
    with torch.no_grad():
        hidden = encoder.eval()(
            input_ids=torch.tensor([tokens.ids.tolist()]),
            token_type_ids=torch.tensor([tokens.types.tolist()]),
        ).last_hidden_state[0, 0]
        logits = hidden @ states["head.weight"].T + states["head.bias"]
    table = ScoreTable.read(run_folder / "scores" / "model-test.npz")
    assert table.scores[0] == pytest.approx(logits.numpy(), abs=1e-5)
    assert table.known_share[0] == pytest.approx(tokens.whole_share)


def test_both_held_out_splits_are_scored_whole(run_folder: Path, papers: Path) -> None:
    manifest = load_manifest(papers)
    for name in ("valid", "test"):
        table = ScoreTable.read(run_folder / "scores" / f"model-{name}.npz")
        assert len(table) == manifest.splits[name].papers
        assert table.dataset_digest == manifest.digest
        assert table.split == name
        assert table.generated


def test_samples_and_lengths_are_cut_as_asked(deep_train: DeepTrain, papers: Path) -> None:
    run = deep_train("model.max_samples=40", "model.max_held_out=7", "model.max_length=16")
    seen = record_of(run)
    assert seen["papers"] == {"train": 40, "valid": 7, "test": 7}
    assert seen["steps"] == 2
    table = ScoreTable.read(run / "scores" / "model-test.npz")
    split = read_split(papers, "test", load_manifest(papers))
    rows = np.array([split.ids.index(name) for name in table.ids])
    assert table.primary.tolist() == split.labels[rows].tolist()
    taken = take_papers(split, rows)
    assert taken.titles == [split.titles[i] for i in rows]
    for place, row in enumerate(rows):
        listed = split.listed_indices[split.listed_indptr[row] : split.listed_indptr[row + 1]]
        assert np.flatnonzero(table.listed[place]).tolist() == sorted(listed.tolist())


def tracked_losses(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [
            row for row in csv.reader(file) if row[0] in ("train/loss", "valid/loss", "test/top_1")
        ]


def break_off(deep_train: DeepTrain, runs: Path, *overrides: str, at_step: int = 3) -> Path:
    def interrupt(_: str) -> None:  # called once a step, before its checkpoint is written
        if len(recording.notes) == at_step:
            raise Interrupted("interrupted.")

    recording = Recording(on_note=interrupt)
    with pytest.raises((Interrupted, KeyboardInterrupt)) as seen:
        deep_train(
            "model.checkpoint_minutes=0", *overrides, runs=runs,
            progress=recording,
        )  # fmt: skip
    return Path(str(seen.value).rpartition("resume=")[2])


def resume(*overrides: str) -> Path:
    return train(compose_config(list(overrides)), command="again")  # fmt: skip


def test_a_run_that_is_broken_off_says_how_to_go_on_and_does(
    deep_train: DeepTrain, run_folder: Path, tmp_path: Path, papers: Path, tiny_encoder: Path
) -> None:
    unfinished = break_off(deep_train, tmp_path, "model.pooling=cls")
    assert unfinished.name.endswith(".unfinished")
    assert [p.name for p in tmp_path.iterdir()] == [unfinished.name]
    with pytest.raises(InvalidConfig, match=r"model\.epochs is 9, but .* was begun with 1\. Leave"):
        resume("model=transformer", "model.pooling=cls", "model.epochs=9",
               f"model.encoder={tiny_encoder}", "model.max_length=48", "model.threads=1",
               "model.checkpoint_minutes=0", f"resume={unfinished}")  # fmt: skip
    moved = tmp_path / "moved"
    shutil.copytree(papers, moved)
    # The name that a killed process had reserved is free again.
    (tmp_path / f".{unfinished.stem}.taken").mkdir()
    finished = resume(f"resume={unfinished}", f"dataset.path={moved}")
    assert [p.name for p in tmp_path.iterdir() if "transformer" in p.name] == [finished.name]
    assert finished.name == unfinished.name.removesuffix(".unfinished")
    assert tracked_losses(finished) == tracked_losses(run_folder)
    weights = [
        (run / "weights" / "model.safetensors").read_bytes() for run in (finished, run_folder)
    ]
    assert weights[0] == weights[1]
    assert (finished / record_of(finished)["dataset"]).resolve() == moved.resolve()


def test_a_run_broken_off_before_its_first_checkpoint_leaves_nothing(
    deep_train: DeepTrain, tmp_path: Path
) -> None:
    break_off(deep_train, tmp_path, at_step=1)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_goes_on_with_its_own_labels_and_papers_only(
    deep_train: DeepTrain, tmp_path: Path
) -> None:
    unfinished = break_off(deep_train, tmp_path / "runs")
    fewer = tmp_path / "fewer"
    sample_dataset(fewer, SampleConfig(papers=200, seed=8, categories=28), command="a test")
    with pytest.raises(LabelMismatch, match=r"the run .* has \d+ labels, dataset .* has \d+ \("):
        resume(f"resume={unfinished}", f"dataset.path={fewer}")
    other = tmp_path / "other"
    sample_dataset(other, SampleConfig(papers=301), command="a test")
    with pytest.raises(InvalidDataset, match=r"dataset .* has digest .* begun on"):
        resume(f"resume={unfinished}", f"dataset.path={other}")
    with pytest.raises(LabelMismatch, match=r"the run .*unfinished has \d+ labels"):
        deep_train(f"model.start={unfinished}", f"dataset.path={fewer}")
    (unfinished / "run.json").write_text('{"kind": "transformer"}')
    with pytest.raises(RunCorrupt, match=r"run\.json: 'command' is missing"):
        compose_config([f"resume={unfinished}"])


def test_a_finished_run_or_another_folder_cannot_be_gone_on_with(
    run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfig, match=r"resume: .* is a finished run"):
        compose_config([f"resume={run_folder}"])
    with pytest.raises(InvalidConfig, match=r"resume: .* is not an unfinished run: it has no run"):
        compose_config([f"resume={tmp_path}"])


def test_a_fit_starts_from_a_finished_run_of_the_same_encoder(
    deep_train: DeepTrain, run_folder: Path, tmp_path: Path
) -> None:
    still = ("model.rate=1e-9", "model.head_rate=1e-9", "model.pooling=cls")
    again = deep_train(f"model.start={run_folder}", *still)
    tables = [ScoreTable.read(run / "scores" / "model-test.npz") for run in (run_folder, again)]
    assert tables[1].scores == pytest.approx(tables[0].scores, abs=1e-4)
    from deep_models import write_tiny_encoder

    write_tiny_encoder(tmp_path / "wide", hidden_size=16)
    with pytest.raises(LabelMismatch, match=r"do not fit this model: they are of another encoder"):
        deep_train(f"model.start={run_folder}", f"model.encoder={tmp_path / 'wide'}")
    with pytest.raises(InvalidConfig, match=r"model\.start: .* is not a run of model=transformer"):
        deep_train(f"model.start={tmp_path}")


def test_a_fit_that_fails_keeps_its_last_good_checkpoint_and_says_so(
    deep_train: DeepTrain, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=r"Lower model\.rate .* checkpoint is kept: model\.st"):
        deep_train(
            *("model.rate=10", "model.head_rate=10", "model.weight_decay=1", "model.clip=0"),
            *("model.epochs=40", "model.decay=constant", "model.checkpoint_minutes=0"),
            *("model.max_samples=64", "model.max_held_out=5"),
            runs=tmp_path,
        )
    (folder,) = tmp_path.iterdir()
    assert list((folder / "checkpoints").iterdir())


def test_an_unknown_encoder_leaves_no_run(deep_train: DeepTrain, tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFound, match=r"no encoder '\./absent'"):
        deep_train("model.encoder=./absent", runs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_packaged_encoder_is_fitted_on_a_few_papers(papers: Path, tmp_path: Path) -> None:
    config = compose_config(
        ["experiment=debug/limit", f"dataset.path={papers}", f"runs_dir={tmp_path}",
         "model.threads=1"]
    )  # fmt: skip
    run = train(config, command="a test")
    seen = record_of(run)
    assert seen["encoder"] == {
        "name": "packaged", "source": "packaged", "hidden_size": 384, "layers": 6
    }  # fmt: skip
    assert seen["papers"]["train"] == 64
    table = ScoreTable.read(run / "scores" / "model-test.npz")
    assert np.isfinite(table.scores).all()
    assert table.known_share.mean() > 0.5


def test_a_fit_made_once_resumes_what_was_broken_off(
    deep_train: DeepTrain, run_folder: Path, tmp_path: Path, papers: Path, tiny_encoder: Path
) -> None:
    unfinished = break_off(deep_train, tmp_path, "model.pooling=cls")
    with pytest.raises(InvalidConfig, match=r"resume=.* says what --once finds"):
        train_once(compose_config([f"resume={unfinished}"]), command="again")
    words = ["model=transformer", "model.pooling=cls", f"model.encoder={tiny_encoder}",
             "model.max_length=48", "model.threads=1", "model.epochs=1",
             "model.checkpoint_minutes=0"]  # fmt: skip
    config = compose_config([*words, f"dataset.path={papers}", f"runs_dir={tmp_path}"])
    finished = train_once(config, command="again")
    assert finished.name == unfinished.name.removesuffix(".unfinished")
    assert tracked_losses(finished) == tracked_losses(run_folder)
    assert train_once(config, command="again") == finished


def test_the_profile_of_a_deep_fit_is_in_its_run(deep_train: DeepTrain) -> None:
    folder = deep_train("experiment=debug/profiler") / "profile"
    assert "aten::" in (folder / "operations.txt").read_text()
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]


@pytest.mark.skipif(find_spec("wandb") is None, reason="W&B is not installed")
def test_weights_and_biases_keeps_every_step_of_a_deep_fit_and_its_model(
    deep_train: DeepTrain, tmp_path: Path
) -> None:
    run = deep_train("tracker=[csv,wandb]", "tracker.wandb=offline", runs=tmp_path)
    (folder,) = waiting_runs(tmp_path)
    records = list(read_records(*folder.glob("*.wandb")))
    rows = [values(one.history.item) for one in records if one.HasField("history")]
    kept = [
        [name, str(row["step"]), str(row[name])]
        for row in rows
        for name in ("train/loss", "valid/loss", "test/top_1")
        if name in row
    ]
    assert kept
    assert kept == [[name, step, value] for name, step, _, value in tracked_losses(run)]
    artifacts = [one.artifact for one in records if one.HasField("artifact")]
    (model,) = (one for one in artifacts if one.type == "model")
    assert "weights/model.safetensors" in {file.path for file in model.manifest.contents}
