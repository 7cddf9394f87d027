"""From an index of papers to one that counts as evidence, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from classmark import Classifier, Index
from classmark.dataset import DatasetConfig, SampleConfig, build_dataset, sample_papers

pytestmark = pytest.mark.slow  # reason: processes that calibrate on hundreds of papers


def run(*words: Any, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "classmark", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Papers of categories that are called by the name of another, so that the model is wrong."""
    folder = tmp_path_factory.mktemp("renamed")
    papers = list(sample_papers(SampleConfig(papers=2000, categories=24, noise=0.0, drift=0.0)))
    codes = sorted({str(paper.category_code) for paper in papers})
    other = dict(zip(codes, codes[1:] + codes[:1], strict=True))
    lines = [
        {
            "id": paper.id,
            "title": paper.title,
            "abstract": paper.abstract,
            "category_code": other[str(paper.category_code)],
            "published_date": paper.published_date,
        }
        for paper in papers
    ]
    source = folder / "papers.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    build_dataset([source], folder / "dataset", DatasetConfig(valid_share=0.5, test_share=0.1))
    run("index", "build", folder / "dataset", "--output", folder / "index")
    return folder


def test_a_calibrated_index_answers_better_than_the_model_alone(renamed: Path) -> None:
    lines = run("index", "calibrate", renamed / "index", renamed / "dataset").stdout.splitlines()
    assert lines[0].startswith("text alone    asked: top-1 0.")
    assert lines[1] == "with authors  not asked: top-1 0.000 -> 0.000 on 0 unsure papers"
    evidence = Index.open(renamed / "index").manifest.evidence
    assert evidence is not None
    assert evidence.authors is None  # the papers of this dataset name none
    assert json.loads(run("index", "info", renamed / "index", "--json").stdout)["calibrated"]
    classifier, right = Classifier(index=renamed / "index"), [0, 0]
    lines = (renamed / "papers.jsonl").read_text(encoding="utf-8").splitlines()
    papers = [json.loads(line) for line in lines[:300]]
    alone, joined = Classifier().classify(papers), classifier.classify(papers)
    for paper, *answers in zip(papers, alone, joined, strict=True):
        for i, answer in enumerate(answers):
            right[i] += answer.ranked[0].code == paper["category_code"]
    assert right[1] > right[0] + 30
    text = papers[0]["abstract"]
    [line] = run("classify", text, "--index", renamed / "index", "--jsonl").stdout.splitlines()
    assert json.loads(line) == classifier.classify(text).to_dict()


def test_calibrating_again_gives_the_same_weights(renamed: Path) -> None:
    options = ("index", "calibrate", renamed / "index", renamed / "dataset", "--json")
    first, weights = run(*options).stdout, Index.open(renamed / "index").manifest.evidence
    gains = json.loads(first)
    assert gains["text"]["helps"]
    assert gains["text"]["top_1_after"] > gains["text"]["top_1_before"]
    assert run(*options).stdout == first
    again = Index.open(renamed / "index").manifest.evidence
    assert weights is not None
    assert again is not None
    assert asdict(weights) == asdict(again)


def test_an_index_that_does_not_help_stays_as_it_was(renamed: Path, tmp_path: Path) -> None:
    papers = tmp_path / "other.jsonl"
    papers.write_text('{"id": "a", "abstract": "We colour sparse graphs."}\n')
    run("index", "build", papers, "--output", tmp_path / "index")
    before = (tmp_path / "index" / "index.json").read_bytes()
    done = run("index", "calibrate", tmp_path / "index", renamed / "dataset", code=1)
    assert "do not help with those of split valid" in done.stderr
    assert (tmp_path / "index" / "index.json").read_bytes() == before
    done = run("classify", "Graphs.", "--index", tmp_path / "index", code=2)
    assert "is not calibrated" in done.stderr


def test_several_processes_answer_with_an_index_as_one_does(renamed: Path, tmp_path: Path) -> None:
    words = ("classify", renamed / "papers.jsonl", "--index", renamed / "index", "--output")
    run(*words, tmp_path / "one.jsonl")
    run(*words, tmp_path / "two.jsonl", "--workers", 2)
    answers = (tmp_path / "one.jsonl").read_bytes()
    assert b'"neighbours"' in answers
    assert (tmp_path / "two.jsonl").read_bytes() == answers


def test_a_cluster_takes_no_index(renamed: Path, tmp_path: Path) -> None:
    done = run(
        *("classify", renamed / "papers.jsonl", "--index", renamed / "index"),
        *("--engine", "ray", "--output", tmp_path / "out.jsonl"),
        code=2,
    )
    assert "--index is read on this machine only" in done.stderr
