"""From a run to a bundle that classifies, and is refused once a byte of it has changed."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark import Classifier
from classmark.bundle import read_digest
from classmark.bundle.manifest import read_seal
from classmark.dataset import (
    DatasetConfig,
    SampleConfig,
    build_dataset,
    load_manifest,
    sample_dataset,
)
from classmark.dataset.folder import read_split
from classmark.dataset.sample.sample import sample_papers
from classmark.errors import BundleCorrupt, InvalidDataset, LabelMismatch, StorageFailed
from classmark.pipeline import ExportOptions, export_run, score_dataset
from classmark.records import SILENT, Paper, ScoreTable
from recording import Recording

pytestmark = pytest.mark.slow  # reason: fits models

TrainRun = Callable[..., Path]


@pytest.fixture
def copy_of_bundle(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "mine-1.0"))


def test_the_bundle_classifies_papers_of_the_dataset(bundle: Path, dataset: Path) -> None:
    classifier = Classifier(bundle)
    split = read_split(dataset, "test")
    papers = [
        Paper(title=t, abstract=a) for t, a in zip(split.titles, split.abstracts, strict=True)
    ]
    answers = classifier.classify(papers)
    labels = load_manifest(dataset).labels
    right = [a.primary == labels[i] for a, i in zip(answers, split.labels, strict=True)]
    assert np.mean(right) > 0.5
    assert classifier.model.name == "mine"


def test_the_manifest_carries_labels_numbers_and_provenance(bundle: Path, dataset: Path) -> None:
    seen = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    manifest = load_manifest(dataset)
    assert tuple(seen["labels"]) == manifest.labels
    assert set(seen["metrics"]) == {"all", *manifest.periods}
    assert 0.5 < seen["metrics"]["all"]["top_1"] <= seen["metrics"]["all"]["top_5"] <= 1
    provenance = seen["provenance"]
    assert provenance["dataset_digest"] == manifest.digest
    assert provenance["seed"] == 7
    assert provenance["generated"] is True
    assert {"command", "commit", "packages", "date"} <= set(provenance)
    assert provenance["config"]["kind"] == "linear"
    assert str(dataset.parent) not in json.dumps(provenance)
    assert seen["policy"]["scope_weights"] != [0.0, 0.0, 0.0]


def test_the_card_warns_that_the_papers_are_invented(bundle: Path) -> None:
    card = (bundle / "CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# mine 1.0\n")
    for part in ("invented sample papers", "| until-2017 |", "Made for a test.", "Weakest"):
        assert part in card


def test_exporting_again_gives_the_same_digest_and_needs_leave_to_replace(
    run_folder: Path, tmp_path: Path
) -> None:
    def export(overwrite: bool) -> None:
        export_run(
            run_folder,
            tmp_path / "m-1.0",
            ExportOptions(name="m", version="1.0", overwrite=overwrite),
        )

    export(False)
    before = read_digest(tmp_path / "m-1.0")
    with pytest.raises(StorageFailed, match=r"m-1\.0"):
        export(False)
    export(True)
    assert read_digest(tmp_path / "m-1.0") == before


def test_a_change_of_any_file_is_refused_and_the_file_is_named(copy_of_bundle: Path) -> None:
    names = [p for p in sorted(copy_of_bundle.rglob("*")) if p.is_file()]
    assert len(names) > 5
    for path in names:
        whole = path.read_bytes()
        for at in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(BundleCorrupt, match=path.name.replace(".", r"\.")):
                Classifier(copy_of_bundle)
        path.write_bytes(whole)
    assert Classifier(copy_of_bundle).model.version == "1.0"


def test_scores_of_a_split_are_those_of_the_classifier_with_its_policy(
    bundle: Path, dataset: Path, tmp_path: Path
) -> None:
    recording = Recording()
    table = score_dataset(str(bundle), dataset, "valid", recording)
    classifier, manifest = Classifier(bundle), load_manifest(dataset)
    split = read_split(dataset, "valid", manifest)
    assert sum(recording.counts) == len(table) == manifest.splits["valid"].papers
    assert table.ids == split.ids
    assert np.array_equal(table.primary, split.labels)
    assert table.listed[np.arange(len(table)), table.primary].all()
    assert table.listed.sum() == len(split.listed_indices)
    assert table.temperature == classifier.policy.temperature
    assert table.thresholds == classifier.policy.thresholds
    assert table.model.digest == read_digest(bundle)
    assert (tmp_path / "t.npz").write_bytes(table.to_bytes())
    assert ScoreTable.read(tmp_path / "t.npz").generated


def test_labels_that_only_the_dataset_has_are_unknown(
    bundle: Path, dataset: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    sample_dataset(other, SampleConfig(papers=300, seed=3))
    ours, theirs = load_manifest(dataset).labels, load_manifest(other).labels
    assert set(theirs) - set(ours)
    table = score_dataset(str(bundle), other, "test", SILENT)
    split = read_split(other, "test")
    for label, column in zip(split.labels, table.primary, strict=True):
        name = theirs[label]
        assert column == (ours.index(name) if name in ours else -1)


def test_a_model_without_any_label_of_the_dataset_is_refused(
    bundle: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Classifier(bundle)
    stranger.labels = ("xx.YY",)
    monkeypatch.setattr("classmark.pipeline.scoring.Classifier", lambda _: stranger)
    with pytest.raises(LabelMismatch, match=r"model mine has none of the \d+ labels of .*first: '"):
        score_dataset(str(bundle), dataset, "test", SILENT)


def test_a_dataset_that_changed_after_the_run_is_refused(run_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    seen = json.loads((run / "provenance.json").read_text())
    sample_dataset(tmp_path / "new", SampleConfig(papers=200, seed=9))
    (run / "provenance.json").write_text(json.dumps({**seen, "dataset": str(tmp_path / "new")}))
    output = tmp_path / "m-1.0"
    with pytest.raises(InvalidDataset, match=rf"digest .* {seen['dataset_digest'][:12]}.*again"):
        export_run(run, output, ExportOptions(name="m", version="1.0"))
    (tmp_path / "new" / "valid.parquet").write_bytes(b"changed")
    with pytest.raises(InvalidDataset, match=r"valid"):
        export_run(run, output, ExportOptions(name="m", version="1.0"))
    assert not output.exists()


def test_a_run_finds_its_dataset_from_anywhere_and_after_both_were_moved(
    dataset: Path, train_run: TrainRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(dataset, tmp_path / "here" / "data")
    monkeypatch.chdir(tmp_path / "here")
    run = train_run("runs_dir=runs", "model.epochs=1", "model.min_papers=20", data=Path("data"))
    run = run.absolute()
    seen = json.loads((run / "provenance.json").read_text())
    assert seen["dataset"] == "../../data"
    monkeypatch.chdir(tmp_path)
    export_run(run, tmp_path / "m-1.0", ExportOptions(name="m", version="1.0"))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "runs" / run.name
    export_run(moved, tmp_path / "m-2.0", ExportOptions(name="m", version="2.0"))


def test_a_dataset_that_is_gone_is_asked_for_and_can_be_named(
    run_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "far" / "away" / "from" / "it" / "run"))
    seen = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps({**seen, "dataset": "../gone"}))
    gone = re.escape(str(run.parent / "gone"))
    with pytest.raises(InvalidDataset, match=rf"is not at {gone}\. Say .* --dataset DIR"):
        export_run(run, tmp_path / "m-1.0", ExportOptions(name="m", version="1.0"))
    export_run(run, tmp_path / "m-1.0", ExportOptions(name="m", version="1.0", dataset=dataset))
    assert (tmp_path / "m-1.0").is_dir()


def test_a_run_of_an_earlier_version_finds_its_dataset_from_where_it_was_trained(
    run_folder: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(run_folder, tmp_path / "runs" / "run"))
    seen = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps({**seen, "dataset": dataset.name}))
    monkeypatch.chdir(dataset.parent)
    export_run(run, tmp_path / "m-1.0", ExportOptions(name="m", version="1.0"))


def test_two_fits_with_the_same_seed_have_the_same_digest(
    train_run: TrainRun, dataset: Path, tmp_path: Path
) -> None:
    """At other times, in other folders, by other commands, of a dataset in another place."""
    copy = Path(shutil.copytree(dataset, tmp_path / "elsewhere" / "data"))
    digests, seals = {}, {}
    for name, data, seed in (("a", dataset, 7), ("b", copy, 7), ("c", dataset, 8)):
        words = ("model.epochs=1", "model.min_papers=20", f"seed={seed}")
        run = train_run(*words, data=data, command=f"the command of {name}")
        output = tmp_path / name / "mine-1.0"
        export_run(run, output, ExportOptions(name="mine", version="1.0", about=f"For {name}."))
        seen = json.loads((run / "provenance.json").read_text())
        # As if it was done on another day.
        (run / "provenance.json").write_text(json.dumps({**seen, "date": f"2026-02-03 {name}"}))
        export_run(
            run,
            output,
            ExportOptions(name="mine", version="1.0", about=f"For {name}.", overwrite=True),
        )
        digests[name], seals[name] = read_digest(output), read_seal(output)
    assert digests["a"] == digests["b"] != digests["c"]
    assert seals["a"] != seals["b"]


def test_no_path_of_the_machine_gets_into_a_bundle(
    train_run: TrainRun, dataset: Path, tmp_path: Path
) -> None:
    command = f"classmark train dataset.path={dataset} runs_dir=~/r {tmp_path} 'x=C:\\me\\y'"
    run = train_run("model.epochs=1", "model.min_papers=20", command=command)
    output = tmp_path / "m-1.0"
    export_run(
        run, output, ExportOptions(name="m", version="1.0", command=f"classmark export {run}")
    )
    seen = json.loads((output / "bundle.json").read_text())
    name = tmp_path.name
    assert seen["provenance"]["command"] == (
        f"classmark train dataset.path=dataset runs_dir=r {name} x=y"
    )
    for path in output.rglob("*.*"):
        content = path.read_bytes()
        for folder in (tmp_path, dataset, run, Path.home()):
            assert len(folder.parts) < 3 or str(folder).encode() not in content


OWN = {
    "cs.LG": "Machine learning, general",
    "astro-ph.GA": "Galaxies | stars",
    "math.CO": "組合せ論",
    "q-bio.PE": "Ecology (plants & animals)",
}
NO_PAPERS = [
    "Shopping\n- milk\n- bread\n- two lemons\n- 200 g butter\n- washing-up liquid",
    "Eggs, flour, sugar, tomatoes, onions, toilet paper, cat food, a birthday card for Ruth",
    "Hi Tom,\nsorry, I am running late. Can you fetch the kids from school at four and put the "
    "casserole in the oven? I should be home by six. Love, Anna",
    "Dear all,\nplease hand in your timesheets by Friday noon, or they will be paid next month. "
    "The coffee machine on the second floor is broken again.\nBest wishes, the office",
    "import os\n\ndef main() -> int:\n    for name in os.listdir('.'):\n        print(name)\n"
    "    return 0\n\nif __name__ == '__main__':\n    raise SystemExit(main())",
    "<div class='row'><a href='/login'>Sign in</a><button onclick='go()'>Go</button></div>",
]


@pytest.fixture(scope="module")
def own_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of own labels, one to a paper, built from a table."""
    folder = tmp_path_factory.mktemp("own")
    with (folder / "papers.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Titel", "Text", "Fach"])
        for paper in sample_papers(SampleConfig(papers=4000, noise=0.0)):
            if paper.category_code in OWN:
                table.writerow([paper.title, paper.abstract, OWN[paper.category_code]])
    columns = {"title": "Titel", "abstract": "Text", "category_code": "Fach"}
    config = DatasetConfig(labels="free", columns=columns)
    build_dataset([folder / "papers.csv"], folder / "dataset", config)
    return folder / "dataset"


@pytest.fixture(scope="module")
def own_bundle(train_run: TrainRun, own_dataset: Path, tmp_path_factory: Any) -> Path:
    """Return a bundle of own labels, exported without any option."""
    folder = Path(tmp_path_factory.mktemp("models") / "own-1.0")
    export_run(train_run(data=own_dataset), folder, ExportOptions(name="own", version="1.0"))
    return folder


def test_an_own_model_abstains_on_texts_that_are_no_papers_without_an_option(
    own_bundle: Path, own_dataset: Path
) -> None:
    classifier = Classifier(own_bundle)
    assert [answer.reason for answer in classifier.classify(NO_PAPERS)] == ["out_of_scope"] * 6
    split = read_split(own_dataset, "test")
    answers = classifier.classify(
        [Paper(title=t, abstract=a) for t, a in zip(split.titles, split.abstracts, strict=True)]
    )
    assert len(answers) > 40
    assert np.mean([answer.reason == "accepted" for answer in answers]) > 0.9


def test_bundle_and_card_say_what_the_model_takes_for_no_paper(own_bundle: Path) -> None:
    seen = json.loads((own_bundle / "bundle.json").read_text(encoding="utf-8"))
    other_texts = seen["provenance"]["other_texts"]
    assert other_texts["source"] == "invented by classmark"
    assert other_texts["fitted"] > 100
    assert other_texts["rejected"] > 0.8
    assert other_texts["lost"] < 0.1
    card = (own_bundle / "CARD.md").read_text(encoding="utf-8")
    assert "| out of scope | fitted on 140 other texts (invented by classmark): " in card


def test_a_model_of_papers_with_one_label_each_suggests_no_cross_list(
    own_bundle: Path, own_dataset: Path
) -> None:
    titles = read_split(own_dataset, "test").titles
    answers = Classifier(own_bundle).classify([{"title": title} for title in titles])
    assert [answer.cross_lists for answer in answers] == [()] * len(titles)
