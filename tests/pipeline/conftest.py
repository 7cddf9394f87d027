"""One small dataset, one run and one bundle, made once for all tests of the offline path."""

from __future__ import annotations

from pathlib import Path

import pytest

from authored_papers import TrainRun, authored, authored_bundle, authored_run
from classmark.dataset import SampleConfig, sample_dataset
from classmark.evaluation.robustness import OtherTexts
from classmark.pipeline import ExportOptions, compose_config, export_run, train

NON_PAPERS = ["2 eggs, 200 g flour", "ring me when you are home", "terms of sale apply to all"] * 4

__all__ = ["authored", "authored_bundle", "authored_run"]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    config = SampleConfig(papers=1200, categories=24, noise=0.0)
    sample_dataset(folder, config, periods=("2017-12-31",), command="a test")
    return folder


@pytest.fixture(scope="session")
def train_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainRun:
    """Return a function that fits a small model and returns its run folder."""

    def run(
        *overrides: str, data: Path = dataset, command: str = "classmark train in-a-test"
    ) -> Path:
        runs = tmp_path_factory.mktemp("runs")
        config = compose_config(
            [
                f"dataset.path={data}",
                f"runs_dir={runs}",
                "model.max_features=1500",
                "model.min_papers=3",
                "model.epochs=3",
                *overrides,
            ]
        )
        return train(config, command=command)

    return run


@pytest.fixture(scope="session")
def run_folder(train_run: TrainRun) -> Path:
    return train_run()


@pytest.fixture(scope="session")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mine-1.0"
    export_run(
        run_folder,
        folder,
        ExportOptions(
            name="mine",
            version="1.0",
            about="## Limits\n\nMade for a test.",
            non_papers=OtherTexts("a test", tuple(NON_PAPERS)),
            command="classmark export in-a-test",
        ),
    )
    return folder
