"""Author tables of other models: without an author, of encoders and of cascades."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from authored_papers import SECRET, words_of
from classmark import Classifier, Paper
from classmark.bundle import load_bundle
from classmark.cli.app import app
from classmark.pipeline import ExportOptions, compose_config, export_run, train
from classmark.wire import TextAlone

pytestmark = pytest.mark.slow  # reason: fits models


def forget(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", "forget-author", *map(str, words)])


def test_a_forgotten_author_counts_as_unknown_and_others_as_before(
    authored_bundle: Path, tmp_path: Path
) -> None:
    before = Classifier(authored_bundle)
    name = f"a. {SECRET}{words_of(before.labels[0])}"
    made = forget(
        name.upper(), "--model", authored_bundle, "--output", tmp_path / "mine-1.1", "--json"
    )
    assert made.exit_code == 0, made.stderr
    after = Classifier(tmp_path / "mine-1.1")
    facts = json.loads(made.stdout)
    assert facts["forgotten"] == 1
    assert facts["entries"] > 1
    assert facts["digest"] == after.model.digest != before.model.digest
    assert (after.model.name, after.model.version) == ("mine", "1.1")
    card = (tmp_path / "mine-1.1" / "CARD.md").read_text()
    assert card.startswith("# mine 1.1\n")
    assert "## Forgotten authors" in card
    measured = [folder / "measured.json" for folder in (authored_bundle, tmp_path / "mine-1.1")]
    assert measured[0].read_bytes() == measured[1].read_bytes()

    paper = {"title": "A short text", "abstract": "of little use"}
    forgotten = {**paper, "authors": [name]}
    assert "authors" in before.classify(forgotten).evidence
    assert after.classify(forgotten).ranked == after.classify(paper).ranked
    assert after.classify(forgotten).evidence == ("title", "abstract")
    others = [
        Paper(title="A short text", authors=(f"{initial}. {SECRET}{words_of(label)}",))
        for label in before.labels
        for initial in "abcdefg"
    ]
    known = [paper for paper in others if paper.authors[0] != name]
    assert len(known) == len(others) - 1
    assert np.array_equal(before.score(known).scores, after.score(known).scores)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Nobody Known", "does not know 'Nobody Known'; 0 other names share"),
        (f"Abraham {SECRET}cslg", "does not know .*; 1 other names share"),
        ("12", "does not know '12'"),
    ],
)
def test_an_author_that_is_not_there_cannot_be_forgotten(
    authored_bundle: Path, tmp_path: Path, name: str, problem: str
) -> None:
    known = f"a. {SECRET}cslg"
    made = forget(known, name, "--model", authored_bundle, "--output", tmp_path / "mine-1.1")
    assert made.exit_code == 1
    assert re.search(problem.replace("; 1", "; 0"), " ".join(made.stderr.split()))
    alone = forget(name, "--model", authored_bundle, "--output", tmp_path / "mine-1.1")
    assert re.search(problem, " ".join(alone.stderr.split()))
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_table_has_nobody_to_forget(bundle: Path, tmp_path: Path) -> None:
    made = forget("Ada Sieve", "--model", bundle, "--output", tmp_path / "mine-1.1")
    assert made.exit_code == 1
    assert "has no table of authors" in " ".join(made.stderr.split())


def test_a_model_is_not_replaced_by_the_one_without_an_author(authored_bundle: Path) -> None:
    made = forget(
        f"a. {SECRET}cslg", "--model", authored_bundle, "--output", authored_bundle, "--overwrite"
    )
    assert made.exit_code == 1
    assert Classifier(authored_bundle).model.name == "authored"


@pytest.fixture(scope="module")
def deep_bundle(authored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lightning", reason="deep bundles are made with torch")
    from deep_models import write_tiny_encoder

    root = tmp_path_factory.mktemp("deep")
    write_tiny_encoder(root / "tiny")
    words = ["model=transformer", f"model.encoder={root / 'tiny'}", f"dataset.path={authored}"]
    words += [f"runs_dir={root / 'runs'}", "model.epochs=1", "model.max_samples=200"]
    run = train(compose_config([*words, "model.max_length=24", "model.threads=1"]), command="test")
    options = ExportOptions(name="encoded", version="1.0", quantize="fp32")
    export_run(run, root / "encoded-1.0", options)
    return root / "encoded-1.0"


@pytest.fixture(scope="module")
def cascade(authored: Path, authored_bundle: Path, deep_bundle: Path) -> Path:
    words = ["model=cascade", f"model.fast={authored_bundle}", f"model.deep={deep_bundle}"]
    words += [f"dataset.path={authored}", f"runs_dir={deep_bundle.parent / 'runs'}"]
    run = train(compose_config(words), command="test")
    folder = authored_bundle.with_name("both-1.0")
    shutil.copytree(deep_bundle, folder.with_name(deep_bundle.name))
    export_run(run, folder, ExportOptions(name="both", version="1.0", threshold=0.3))
    return folder


@pytest.mark.parametrize("kind", ["deep_bundle", "cascade"])
def test_deep_models_and_cascades_use_authors_too(
    kind: str, authored: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    metrics = json.loads((folder / "bundle.json").read_text())["metrics"]
    assert metrics["all with authors"]["top_1"] > metrics["all"]["top_1"] + 0.1
    classifier = Classifier(folder)
    paper = {"title": "A short text", "abstract": "of little use"}
    alone = classifier.classify(paper)
    code = next(code for code in classifier.labels if code != alone.ranked[0].code)
    known = {**paper, "authors": [f"A. {SECRET}{words_of(code)}"]}
    answer = classifier.classify(known, explain=True)
    assert answer.ranked[0].code == code
    assert answer.text_alone == TextAlone(alone.ranked[0].code, alone.probability)
    assert classifier.classify(known, authors=False) == alone
    assert any(SECRET in evidence.term for evidence in answer.explanation or ())
    first, second = answer.ranked[:2]
    assert math.fsum(e.weight for e in answer.explanation or ()) == pytest.approx(
        math.log(first.probability / second.probability), abs=1e-4
    )


def test_a_cascade_takes_the_table_of_its_fast_model(cascade: Path, authored_bundle: Path) -> None:
    tables = [load_bundle(folder).arrays for folder in (cascade, authored_bundle)]
    for name in (name for name in tables[1] if name.startswith("author_")):
        assert np.array_equal(tables[0][name], tables[1][name])
