"""From a dataset that names authors to a bundle that uses them, and back to text alone."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from authored_papers import SECRET, TrainRun, written
from classmark import Classifier, Paper
from classmark.bundle import load_bundle
from classmark.cli.app import app
from classmark.dataset import (
    DatasetConfig,
    SampleConfig,
    build_dataset,
    iter_authors,
    load_manifest,
    read_split,
    sample_dataset,
)
from classmark.errors import BundleIncompatible, RunCorrupt
from classmark.journal import Journal, JournalConfig, read_predictions
from classmark.pipeline import ExportOptions, export_run
from classmark.records import AuthorFacts, LinearPart, RunRecord
from classmark.service import ServiceSettings
from classmark.service.answering.answerer import Answerer, AnswerOptions, Question
from classmark.service.metrics import Metrics
from classmark.wire import TextAlone
from spoilt_bundles import npy, rewrite, setting

pytestmark = pytest.mark.slow  # reason: fits models


def test_a_dataset_gives_back_the_names_that_its_papers_came_with(authored: Path) -> None:
    lines = (authored.parent / "papers.jsonl").read_text(encoding="utf-8").splitlines()
    came = {r["id"]: tuple(r["authors"]) for r in map(json.loads, lines)}
    manifest = load_manifest(authored)
    for split in manifest.splits:
        ids = read_split(authored, split, manifest, texts=False).ids
        kept = dict(zip(ids, iter_authors(authored, split, manifest), strict=True))
        assert kept == {id: came[id] for id in ids}


def test_the_authors_of_invented_papers_are_worth_a_table(
    train_run: TrainRun, tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    sample_dataset(dataset, SampleConfig(papers=4000), command="a test")
    manifest, _ = export_run(
        train_run(data=dataset), tmp_path / "m-1.0", ExportOptions(name="m", version="1.0")
    )
    metrics = manifest.metrics
    assert metrics["all with authors"]["top_1"] > metrics["all"]["top_1"] + 0.01


def test_a_run_keeps_fingerprints_and_no_name(authored_run: Path, authored_bundle: Path) -> None:
    part = RunRecord.read(authored_run).part
    assert isinstance(part, LinearPart)
    assert part.authors.entries > part.authors.names > 24
    for folder in (authored_run, authored_bundle):
        for path in folder.rglob("*"):
            assert not path.is_file() or SECRET.lower() not in path.read_bytes().lower().decode(
                "latin-1"
            )


def test_known_authors_make_answers_better(authored: Path, authored_bundle: Path) -> None:
    metrics = json.loads((authored_bundle / "bundle.json").read_text())["metrics"]
    assert metrics["all with authors"]["top_1"] > metrics["all"]["top_1"] + 0.1
    assert set(metrics) >= {f"{name} with authors" for name in load_manifest(authored).periods}


def test_an_answer_without_known_authors_is_that_of_the_text(authored_bundle: Path) -> None:
    classifier = Classifier(authored_bundle)
    plain = {"title": "A short text", "abstract": "of little use"}
    alone = classifier.classify(plain)
    assert classifier.classify({**plain, "authors": ["Nobody Known"]}) == alone
    code = next(label for label in classifier.labels if label != alone.ranked[0].code)
    word = "".join(c for c in code.lower() if c.isalpha())
    moved = classifier.classify({**plain, "authors": f"A. {SECRET}{word}"})
    assert moved.ranked[0].code == code


def test_an_answer_says_what_it_is_based_on(authored_bundle: Path) -> None:
    classifier = Classifier(authored_bundle)
    plain = {"title": "A short text", "abstract": "of little use"}
    code = next(c for c in classifier.labels if c != classifier.classify(plain).ranked[0].code)
    known = {**plain, "authors": [f"A. {SECRET}{''.join(filter(str.isalpha, code.lower()))}"]}
    unknown = {"title": "", "abstract": "of little use", "authors": ["Nobody Known"]}

    alone, moved, other = classifier.classify([plain, known, unknown])
    assert alone.evidence == ("title", "abstract")
    assert moved.evidence == ("title", "abstract", "authors")
    assert other.evidence == ("abstract",)
    assert moved.ranked[0].code == code
    assert moved.text_alone == TextAlone(alone.ranked[0].code, alone.probability)
    assert alone.text_alone is None
    assert other.text_alone is None
    assert classifier.classify(known) == moved
    assert classifier.classify(known, authors=False) == alone


def test_the_command_says_what_an_answer_is_based_on(authored_bundle: Path, tmp_path: Path) -> None:
    word = "".join(filter(str.isalpha, Classifier(authored_bundle).labels[0].lower()))
    record = {"id": "7", "title": "A short text", "authors": [f"A. {SECRET}{word}"]}
    file = tmp_path / "papers.jsonl"
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")

    def classify(*options: str | Path) -> str:
        words = ("classify", file, "--model", authored_bundle, *options)
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 0, done.stderr
        return done.stdout

    [known] = map(json.loads, classify("--jsonl").splitlines())
    assert known["evidence"] == ["title", "authors"]
    [alone] = map(json.loads, classify("--jsonl", "--no-authors").splitlines())
    assert alone["evidence"] == ["title"]
    assert known["text_alone"]["code"] == alone["ranked"][0]["code"]
    table = [" ".join(line.split()) for line in classify("--explain").splitlines()]
    assert "based on title, authors" in table
    assert f"text alone {alone['ranked'][0]['code']} {alone['probability']:.2f}" in table
    for name, options in (("with", ()), ("without", ("--no-authors",))):
        for ending in ("jsonl", "csv", "parquet"):
            classify("--workers", "1", "--output", tmp_path / f"{name}.{ending}", *options)
    assert json.loads((tmp_path / "without.jsonl").read_text()) == alone
    assert json.loads((tmp_path / "with.jsonl").read_text()) == known
    assert known["ranked"][0]["code"] in (tmp_path / "with.csv").read_text()
    assert known["ranked"][0]["code"] not in (tmp_path / "without.csv").read_text().split(",")[2:]
    pages = [pq.read_table(tmp_path / f"{name}.parquet") for name in ("with", "without")]
    assert pages[0]["probability"][0] != pages[1]["probability"][0]


def test_the_journal_keeps_that_authors_were_used_but_no_name(
    authored_bundle: Path, tmp_path: Path
) -> None:
    classifier = Classifier(authored_bundle)
    word = "".join(filter(str.isalpha, classifier.labels[0].lower()))
    known, unknown = (f"a. {SECRET}{word}",), (f"{SECRET} Nobody",)
    path = tmp_path / "journal.sqlite"
    journal = Journal(JournalConfig(path=path))
    answerer = Answerer(classifier, ServiceSettings(), Metrics(), journal=journal)
    asked = [
        [Question(Paper(title="A title", authors=names))] for names in (known, unknown, (), known)
    ]
    together = [question for questions in asked for question in questions]
    given = [
        answerer.answer_many(questions, AnswerOptions(top=1), lambda: None)
        for questions in [*asked, together]
    ]
    assert journal.close(60.0) == 0
    kept = {p.event.prediction_id: p.event.used_authors for p in read_predictions(path)}
    assert kept == {a.prediction_id: "authors" in a.evidence for some in given for a in some}
    assert [kept[a.prediction_id] for a in given[-1]] == [True, False, False, True]
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_model_of_many_own_labels_has_a_table_of_authors(
    train_run: TrainRun, tmp_path: Path
) -> None:
    labels = [f"Shelf {i}; übrig" for i in range(260)]
    records = [
        {
            "id": f"{i}-{n}",
            "title": f"About theme{chr(97 + i % 20)} and topic{n}",
            "abstract": f"The theme{chr(97 + i % 20)} of method{n % 7}, number{i}x{n}.",
            "category_code": label,
            "published_date": f"{2000 + n}-01-01",
            "authors": [f"{chr(97 + n % 2)}. {SECRET}{chr(97 + i // 26)}{chr(97 + i % 26)}"],
        }
        for i, label in enumerate(labels)
        for n in range(16)
    ]
    source = tmp_path / "papers.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    config = DatasetConfig(labels="free", min_papers=5, valid_share=0.2, test_share=0.1)
    build_dataset([source], tmp_path / "dataset", config)
    folder = tmp_path / "own-1.0"
    manifest, _ = export_run(
        train_run(data=tmp_path / "dataset"), folder, ExportOptions(name="own", version="1.0")
    )
    assert manifest.label_space == "free"
    assert manifest.metrics["all with authors"]["top_1"] > manifest.metrics["all"]["top_1"] + 0.3
    arrays = load_bundle(folder).arrays
    assert arrays["author_labels"].dtype == np.uint16
    assert int(arrays["author_labels"].max()) == 259
    paper = {"title": "About themet and topic3", "authors": [f"a. {SECRET}jz"]}
    answer = Classifier(folder).classify(paper, explain=True)
    assert answer.ranked[0].code == labels[259]
    assert answer.evidence == ("title", "authors")
    assert any(labels[259] in evidence.term for evidence in answer.explanation or ())


def test_an_explanation_lists_what_the_authors_change(authored_bundle: Path) -> None:
    classifier = Classifier(authored_bundle)
    paper = {"title": "A short text", "abstract": "of little use"}
    known = {**paper, "authors": f"A. {SECRET}cslg"}
    with_authors, alone = classifier.classify([known, paper], explain=True)
    first, second = with_authors.ranked[:2]
    terms = {evidence.term: evidence.weight for evidence in with_authors.explanation}
    [author] = [term for term in terms if SECRET in term]
    assert re.fullmatch(rf"A\. {SECRET}cslg: \d+ earlier papers: cs\.LG \d+(, .*)?", author)
    assert math.fsum(terms.values()) == pytest.approx(
        math.log(first.probability / second.probability), abs=1e-4
    )
    assert not any(SECRET in evidence.term for evidence in alone.explanation)
    raw = classifier.score([Paper(title="A short text", authors=(f"A. {SECRET}cslg",))])
    [anonymous] = classifier.answers([Paper(title="A short text")], raw, explain=True)
    assert "(authors)" in {evidence.term for evidence in anonymous.explanation or ()}


def test_a_batch_gives_each_paper_the_answer_that_it_gets_alone(authored_bundle: Path) -> None:
    classifier = Classifier(authored_bundle)
    papers = [
        Paper(title=f"Text {i}", authors=(f"B. {SECRET}{word}",) if i % 3 else ())
        for i, word in enumerate(["cslg", "mathco", "quantph", "csds"] * 5)
    ]
    together = classifier.classify(papers)
    assert together == [classifier.classify(paper) for paper in papers]


def test_authors_that_say_nothing_give_no_table(train_run: TrainRun, tmp_path: Path) -> None:
    run = train_run(data=written(tmp_path, helpful=False))
    manifest, _ = export_run(run, tmp_path / "m-1.0", ExportOptions(name="m", version="1.0"))
    assert not manifest.authors
    assert not any(name.startswith("arrays/author_") for name in manifest.files)


def test_a_dataset_without_authors_trains_as_before_and_its_model_ignores_them(
    train_run: TrainRun, authored: Path, authored_bundle: Path, tmp_path: Path
) -> None:
    lines = (authored.parent / "papers.jsonl").read_text(encoding="utf-8").splitlines()
    records = [{k: v for k, v in json.loads(line).items() if k != "authors"} for line in lines]
    source = tmp_path / "papers.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    config = DatasetConfig(valid_share=0.2, test_share=0.1, periods=("2015-12-31",))
    build_dataset([source], tmp_path / "dataset", config)
    run, folder = train_run(data=tmp_path / "dataset"), tmp_path / "plain-1.0"
    manifest, _ = export_run(run, folder, ExportOptions(name="plain", version="1.0"))
    part = RunRecord.read(run).part
    assert isinstance(part, LinearPart)
    assert part.authors == AuthorFacts()
    assert not manifest.authors
    plain, known = load_bundle(folder).arrays, load_bundle(authored_bundle).arrays
    assert set(known) - set(plain) >= {"author_labels", "join_context"}
    different = [name for name, array in plain.items() if not np.array_equal(array, known[name])]
    assert all(name.startswith("reference_") for name in different)  # the answers with authors

    classifier, text = Classifier(folder), {"title": "A short text", "abstract": "of little use"}
    answer = classifier.classify({**text, "authors": [f"A. {SECRET}cslg"]})
    assert answer == classifier.classify(text)
    assert answer.evidence == ("title", "abstract")


def test_a_fit_without_a_table_is_asked_for_by_its_size(
    train_run: TrainRun, authored: Path
) -> None:
    part = RunRecord.read(train_run("model.max_author_entries=0", data=authored)).part
    assert isinstance(part, LinearPart)
    assert part.authors == AuthorFacts()


def test_a_run_whose_table_is_damaged_is_named(authored_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(authored_run, tmp_path / "run"))
    (run / "authors" / "labels.npy").unlink()
    with pytest.raises(RunCorrupt, match=r"authors/labels\.npy.*missing"):
        export_run(run, tmp_path / "m-1.0", ExportOptions(name="m", version="1.0"))


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("author_labels", lambda a: np.full_like(a, 200), "author_labels with numbers from 200"),
        ("author_variants", lambda a: a * 0, "author_variants that does not sum to"),
        ("author_prior", lambda a: a + np.float32(np.nan), "author_prior with numbers from nan"),
        ("author_profile", lambda a: a[:-1], "author_profile of int16"),
        ("join_context", lambda a: a * 0, "join_context with numbers from 0"),
        ("join_sides", lambda a: a.astype(np.float64), "join_sides of float64"),
    ],
)
def test_arrays_that_no_table_can_have_are_refused(
    authored_bundle: Path,
    tmp_path: Path,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    problem: str,
) -> None:
    folder = Path(shutil.copytree(authored_bundle, tmp_path / "authored-1.0"))
    changed = change(np.load(folder / "arrays" / f"{name}.npy"))
    rewrite(folder, files={f"arrays/{name}.npy": npy(changed)})
    with pytest.raises(BundleIncompatible, match=problem):
        Classifier(folder)


def test_keys_of_another_version_are_refused(authored_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(authored_bundle, tmp_path / "authored-1.0"))
    authors = json.loads((folder / "bundle.json").read_text())["authors"]
    rewrite(folder, setting("authors", to={**authors, "version": "9"}))
    with pytest.raises(BundleIncompatible, match=r"keys of authors of version '9'.*has '1'"):
        Classifier(folder)
