"""Papers whose authors tell their category, and the dataset, run and bundle made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from classmark.pipeline import ExportOptions, export_run

TrainRun = Callable[..., Path]
SECRET = "Verysecretsurname"


def written(folder: Path, *, helpful: bool) -> Path:
    """A dataset whose papers each have an author of their category, or of none."""
    from classmark.dataset import DatasetConfig, SampleConfig, build_dataset, sample_papers

    papers = sample_papers(SampleConfig(papers=3000, categories=24, noise=0.0, drift=0.0))
    lines = []
    for i, paper in enumerate(papers):
        family = paper.category_code if helpful else chr(97 + i % 24)
        word = "".join(c for c in str(family).lower() if c.isalpha())
        name = f"{chr(97 + i % 7)}. {SECRET}{word}"
        record = {
            "id": paper.id,
            "title": paper.title,
            "abstract": " ".join(paper.abstract.split()[:6]),
            "category_code": paper.category_code,
            "categories": list(paper.categories),
            "published_date": paper.published_date,
            "authors": [name],
        }
        lines.append(json.dumps(record) + "\n")
    source = folder / "papers.jsonl"
    source.write_text("".join(lines), encoding="utf-8")
    config = DatasetConfig(valid_share=0.2, test_share=0.1, periods=("2015-12-31",))
    build_dataset([source], folder / "dataset", config)
    return folder / "dataset"


@pytest.fixture(scope="session")
def authored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("authored"), helpful=True)


@pytest.fixture(scope="session")
def authored_run(train_run: TrainRun, authored: Path) -> Path:
    return train_run(data=authored)


@pytest.fixture(scope="session")
def authored_bundle(authored_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "authored-1.0"
    export_run(authored_run, folder, ExportOptions(name="authored", version="1.0"))
    return folder


def words_of(label: str) -> str:
    """Return what the surname of a label's authors ends with."""
    return "".join(filter(str.isalpha, label.lower()))
