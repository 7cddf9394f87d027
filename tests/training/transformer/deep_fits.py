"""What tests of the deep tier share: a tiny encoder, invented papers, and fits of a second."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark.pipeline import compose_config
from classmark.records import SILENT
from classmark.training import TransformerConfig

DeepRun = Callable[..., Any]

# One thread: on a busy machine two wait for each other longer than they compute.
QUICK = (
    "model=transformer",
    "dataset.path=data",
    "model.threads=1",
    "model.device=cpu",
    "model.max_length=32",
    "model.epochs=2",
    "model.batch_size=8",
    "model.accumulation=1",
    "model.rate=0.001",
    "model.head_rate=0.01",
)


def quick_config(*overrides: str) -> TransformerConfig:
    """Return options of a small fit; an override replaces the quick value of its key."""
    chosen = {word.partition("=")[0]: word for word in (*QUICK, *overrides)}
    model = compose_config(list(chosen.values())).model
    assert isinstance(model, TransformerConfig)
    return model


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Papers of three labels that words tell apart, as raw pairs with their truth."""

    pairs: list[tuple[str, str]]
    labels: np.ndarray
    listed_indptr: np.ndarray
    listed_indices: np.ndarray


TOPICS = (("prime number", "theorem"), ("dark matter", "galaxy"), ("neural network", "learning"))


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    random = np.random.default_rng(5)
    labels = np.arange(48, dtype=np.int16) % 3
    pairs = [
        (f"a study of {TOPICS[k][0]}", " ".join([*TOPICS[k]] * int(random.integers(1, 9))))
        for k in labels
    ]
    listed = [[k, (k + 1) % 3] if i % 4 == 0 else [k] for i, k in enumerate(labels)]
    return Corpus(
        pairs,
        labels,
        np.concatenate([[0], np.cumsum([len(columns) for columns in listed])]).astype(np.int64),
        np.array([column for columns in listed for column in columns], dtype=np.int16),
    )


@pytest.fixture(scope="session")
def deep_run(
    tiny_encoder: Path,
    corpus: Corpus,
    tmp_path_factory: pytest.TempPathFactory,
) -> DeepRun:
    """Return a function that fits the tiny encoder and returns (fitted, log rows, folder)."""
    from classmark.kernels.tokens import PairTokenizer
    from classmark.training.transformer import (
        Targets,
        TransformerFit,
        Valid,
        fit_transformer,
        load_encoder,
        paper_weights,
        tokenise,
    )

    def run(
        *overrides: str,
        folder: Path | None = None,
        encoder: Path = tiny_encoder,
        seed: int = 7,
        **changes: Any,
    ) -> tuple[Any, list[dict[str, str]], Path]:
        config = quick_config(*overrides)
        folder = folder or tmp_path_factory.mktemp("fit")
        loaded = load_encoder(str(encoder), config.encoder_dropout)
        tokenizer = PairTokenizer(loaded.tokenizer_json, config.max_length)
        papers = tokenise(tokenizer, corpus.pairs, SILENT)
        targets = Targets(
            labels=corpus.labels,
            listed_indptr=corpus.listed_indptr,
            listed_indices=corpus.listed_indices,
            n_labels=3,
            smoothing=config.label_smoothing,
            cross_list_share=config.cross_list_share,
            weights=paper_weights(corpus.labels, 3, config.class_weights),
        )
        fit = TransformerFit(
            config=config,
            seed=seed,
            folder=folder,
            encoder=loaded,
            papers=papers,
            targets=targets,
            valid=Valid(papers, corpus.labels),
        )
        fit = dataclasses.replace(fit, **changes)
        fitted = fit_transformer(fit)
        return fitted, read_log(folder), folder

    return run


def read_log(folder: Path) -> list[dict[str, str]]:
    """Return the lines of a run's log."""
    import csv

    with (folder / "log.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str, stage: str = "train") -> list[float]:
    """Return a column of the lines of a stage, as numbers."""
    return [float(row[name]) for row in rows if row["stage"] == stage]
