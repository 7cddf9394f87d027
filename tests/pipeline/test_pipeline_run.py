"""A run folder: the same seed gives the same weights, and the folder tells where they are from."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from classmark import __version__
from classmark import dataset as datasets
from classmark.dataset import DatasetConfig, build_dataset, load_manifest
from classmark.errors import InvalidConfig, InvalidDataset, RunCorrupt, RunNotFound, TrainingFailed
from classmark.kernels.calibration import log_softmax
from classmark.pipeline import compose_config, train
from classmark.pipeline import run_folder as run_folders
from classmark.pipeline.linear.export import WEIGHTS, read_weights
from classmark.pipeline.run_folder import describe_environment
from classmark.records import SILENT, LinearPart, RunRecord, ScoreTable
from classmark.storage import sha256_file
from classmark.training import LinearWeights, read_occurrences, to_sparse
from recording import Recording

pytestmark = pytest.mark.slow  # reason: fits models

TrainRun = Callable[..., Path]


def _read(run: Path) -> LinearWeights:
    return read_weights(run, len(RunRecord.read(run).labels))


def digests(run: Path) -> list[str]:
    return [sha256_file(run / "weights" / f"{name}.npy") for name in WEIGHTS]


@pytest.fixture
def copy_of_run(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_parts_of_papers_make_titles_alone_say_more(train_run: TrainRun, dataset: Path) -> None:
    split = datasets.read_split(dataset, "test", load_manifest(dataset))
    titles = read_occurrences([(title, "") for title in split.titles], SILENT)

    def loss(weight: float) -> float:
        fitted = _read(train_run("model.parts_share=1.0", f"model.parts_weight={weight}"))
        log_p = log_softmax(fitted.score(to_sparse(titles, fitted.keys)), 1.0)
        return float(-log_p[np.arange(len(split)), split.labels].mean())

    assert loss(1.0) < loss(0.0) - 0.1


def test_the_same_seed_gives_the_same_files_on_any_number_of_threads(
    train_run: TrainRun, run_folder: Path
) -> None:
    assert digests(train_run("model.threads=1")) == digests(run_folder)


def test_a_fit_out_of_core_gives_the_same_weights_and_scores(
    train_run: TrainRun, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmark.pipeline.linear.fit.MAPPED_FROM_PAPERS", 1)
    mapped = train_run()
    assert digests(mapped) == digests(run_folder)
    for scores in sorted((run_folder / "scores").iterdir()):
        assert sha256_file(mapped / "scores" / scores.name) == sha256_file(scores)
    assert [path.name for path in mapped.parent.iterdir()] == [mapped.name]


def test_an_interrupted_fit_out_of_core_leaves_nothing_on_disk(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(step: str) -> None:
        if step.startswith("fitting the model"):
            raise KeyboardInterrupt

    monkeypatch.setattr("classmark.pipeline.linear.fit.MAPPED_FROM_PAPERS", 1)
    config = compose_config([f"dataset.path={dataset}", f"runs_dir={tmp_path / 'runs'}"])
    recording = Recording(on_step=interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, command="a test", progress=recording)
    assert recording.steps[0].endswith("training papers (features on disk)")
    assert list(tmp_path.iterdir()) == []


def test_another_seed_gives_other_weights(train_run: TrainRun, run_folder: Path) -> None:
    assert digests(train_run("seed=8"))[1:] != digests(run_folder)[1:]


def test_the_provenance_says_what_was_fitted_on_what(run_folder: Path, dataset: Path) -> None:
    record, manifest = RunRecord.read(run_folder), load_manifest(dataset)
    assert (record.kind, record.command, record.seed) == ("linear", "classmark train in-a-test", 7)
    assert record.dataset_digest == manifest.digest
    assert record.labels == manifest.labels
    assert record.generated is True
    features = record.part_as(LinearPart).features
    assert features.kept == 1500 < features.parent
    assert record.packages["numpy"] == np.__version__
    assert "" not in (record.python, record.platform, record.date)
    assert record.fit_seconds is not None
    weights = _read(run_folder)
    assert weights.embedding.shape == (1500, 128)
    assert np.array_equal(weights.keys, np.unique(weights.keys))


def test_the_configuration_and_the_losses_are_kept(run_folder: Path) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(run_folder / "config.yaml"))
    assert config["model"]["max_features"] == 1500
    assert config["seed"] == 7
    with (run_folder / "log.csv").open(encoding="utf-8") as file:
        log = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in log] == [
        *(("parent", str(epoch)) for epoch in (1, 2, 3)),
        ("model", "1"),
    ]
    assert float(log[2]["loss"]) < float(log[0]["loss"])


def test_both_stages_are_scored_on_valid_and_test_far_above_chance(
    run_folder: Path, dataset: Path
) -> None:
    manifest = load_manifest(dataset)
    names = {path.stem for path in (run_folder / "scores").iterdir()}
    assert names == {f"{s}-{n}" for s in ("parent", "model") for n in ("valid", "test")}
    for name in names:
        table = ScoreTable.read(run_folder / "scores" / f"{name}.npz")
        assert len(table) == manifest.splits[name.split("-")[1]].papers
        assert table.generated
        assert table.dataset_digest == manifest.digest
        assert (table.scores.argmax(axis=1) == table.primary).mean() > 0.5


def test_a_vocabulary_that_is_small_enough_is_not_pruned(train_run: TrainRun) -> None:
    run = train_run("model.max_features=100000", "model.min_papers=20", "model.epochs=1")
    features = RunRecord.read(run).part_as(LinearPart).features
    assert features.kept == features.parent


def test_the_weight_of_a_period_changes_the_fit(train_run: TrainRun) -> None:
    small = ("model.max_features=100000", "model.min_papers=20", "model.epochs=1")
    plain = train_run(*small)
    assert digests(train_run(*small, "model.period_weights.from-2018=1")) == digests(plain)
    assert digests(train_run(*small, "model.period_weights.from-2018=3")) != digests(plain)


def test_the_weight_of_a_period_that_the_dataset_lacks_is_refused(train_run: TrainRun) -> None:
    lacks = r"model\.period_weights\.from-2020: .* no such period, it has until-2017, from-2018\."
    with pytest.raises(InvalidConfig, match=lacks):
        train_run("model.period_weights.from-2020=3")


def test_runs_of_one_second_get_folders_of_their_own(
    train_run: TrainRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = ("model.min_papers=50", "model.epochs=1", f"runs_dir={tmp_path / 'runs'}")
    monkeypatch.setattr("classmark.pipeline.run_folder.datetime", StandingClock)
    assert [train_run(*small).name for _ in range(3)] == [
        "linear-20260102-030405",
        "linear-20260102-030405-2",
        "linear-20260102-030405-3",
    ]


class StandingClock:
    """A clock that stands still."""

    @staticmethod
    def now(zone: tzinfo) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)


def test_papers_of_one_category_make_no_dataset(tmp_path: Path) -> None:
    line = {
        "id": "p",
        "title": "A study of rings",
        "abstract": "We study the rings and their ideals at length.",
        "categories": "math.RA",
        "published": "2015-01-01",
    }
    source = tmp_path / "one.jsonl"
    source.write_text(json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(InvalidDataset, match=r"the dataset has one category \('math.RA'\)"):
        build_dataset([source], tmp_path / "one", DatasetConfig(min_papers=1))


def test_a_training_split_of_one_label_is_refused(
    train_run: TrainRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_one_label(*arguments: Any, **options: Any) -> Any:
        split = datasets.read_split(*arguments, **options)
        split.labels[:] = 0
        return split

    monkeypatch.setattr("classmark.pipeline.linear.fit.read_split", read_one_label)
    with pytest.raises(InvalidDataset, match=r"has 1 label\(s\); a model needs at least 2"):
        train_run()


def test_too_few_frequent_terms_are_refused(train_run: TrainRun) -> None:
    with pytest.raises(TrainingFailed, match=r"no two terms occur in 5000 training papers"):
        train_run("model.min_papers=5000")


def test_no_dataset_is_refused(train_run: TrainRun, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"is not a dataset folder"):
        train_run(data=tmp_path / "absent")


@pytest.mark.parametrize("name", ["provenance.json", "weights/head.npy"])
@pytest.mark.parametrize("damage", [None, b"", b"[1"])
def test_a_damaged_run_is_refused(copy_of_run: Path, name: str, damage: bytes | None) -> None:
    path = copy_of_run / name
    path.unlink() if damage is None else path.write_bytes(damage)
    no_run = damage is None and name == "provenance.json"
    wanted = RunNotFound if no_run else RunCorrupt
    message = r"is not a finished run: it has no p.*`classmark train`" if no_run else name
    with pytest.raises(wanted, match=message):
        _read(copy_of_run)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (
            "head",
            lambda a: a[:, 1:],
            r"weights/head\.npy: it is float32 .* must be float32 \(128,",
        ),
        ("bias", lambda a: a.astype(np.float64), r"weights/bias\.npy: it is float64"),
        (
            "keys",
            lambda a: a[:0],
            r"weights/embedding\.npy: .* must be float32 \(0, 128",
        ),
        ("embedding", lambda a: np.full_like(a, np.nan), "numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(
    copy_of_run: Path, name: str, change: Callable[[Any], Any], problem: str
) -> None:
    path = copy_of_run / "weights" / f"{name}.npy"
    np.save(path, change(np.load(path)))
    with pytest.raises(RunCorrupt, match=problem):
        _read(copy_of_run)


@pytest.mark.parametrize("text", ["{}", "[]", "3"])
def test_a_provenance_without_its_facts_is_refused(copy_of_run: Path, text: str) -> None:
    (copy_of_run / "provenance.json").write_text(text)
    with pytest.raises(RunCorrupt, match=r"provenance\.json: (it holds|'features' is missing)"):
        _read(copy_of_run)


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(run_folders.subprocess, "run", fail)
    monkeypatch.setattr(run_folders, "_PACKAGES", ("numpy", "no-such-package"))
    seen = describe_environment()
    assert seen["commit"] is None
    assert seen["packages"] == {"classmark": __version__, "numpy": np.__version__}
