"""Embeddings that were made elsewhere, frozen, under a logistic head that is fitted here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer_kinds import Job, Rows, Scorer, Scores, as_text
from peer_papers import Papers
from peer_tfidf import load_head, save_head

EMBEDDING_HEAD = {"C": 1.0, "max_iter": 300, "tol": 1e-3}


def _fit_embedding_head(job: Job, vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Fit logistic regression on standardised vectors; the standardising is folded into it."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    head = LogisticRegression(**EMBEDDING_HEAD)
    head.fit((vectors - mean) / scale, job.papers.split("train").labels)
    head.coef_ = head.coef_ / scale
    head.intercept_ = head.intercept_ - head.coef_ @ mean
    save_head(head, job)
    return {"dimensions": vectors.shape[1], "head": EMBEDDING_HEAD}


def _wordllama() -> Callable[[list[str]], NDArray[np.float32]]:
    import wordllama

    # Its wheel holds the tokenizer in the folder where a cache would have it.
    inside = Path(wordllama.__file__).parent
    encoder = wordllama.WordLlama.load(cache_dir=inside, disable_download=True)
    return lambda texts: np.asarray(encoder.embed(texts, norm=True), dtype=np.float32)


def fit_wordllama(job: Job) -> dict[str, Any]:
    """Fit a head on the mean of the static token embeddings inside the package."""
    job.watch.run()
    settings = _fit_embedding_head(job, _wordllama()(job.papers.texts("train")))
    job.watch.pause()
    return {"embeddings": "wordllama l2_supercat, 256 dimensions, in its wheel", **settings}


def load_wordllama(model: Path) -> Scorer:
    """Return the scores of the head on static embeddings."""
    embed, head = _wordllama(), load_head(model)
    return lambda rows: head(embed(as_text(rows)))


def fit_minilm(job: Job) -> dict[str, Any]:
    """Fit a head on cached embeddings of the frozen encoder; their cost counts."""
    from peer_embed import MAX_TOKENS, MODEL, read_embeddings

    vectors, cost = read_embeddings(job.papers.texts("train"), job.embeddings)
    job.watch.run()
    settings = _fit_embedding_head(job, vectors)
    job.watch.pause()
    head_cpu_s = round(job.watch.cpu_s, 1)
    job.watch.add(**cost)
    encoder = f"{MODEL}, frozen, mean of the tokens, at most {MAX_TOKENS}"
    return {"encoder": encoder, "head_cpu_s": head_cpu_s, **settings}


def load_minilm(model: Path) -> Scorer:
    """Return the scores of encoder and head."""
    from peer_embed import embed, load_encoder

    tokenizer, encoder = load_encoder()
    head = load_head(model)

    def score(rows: Rows) -> Scores:
        vectors = embed(as_text(rows), tokenizer, encoder).astype(np.float32)
        return head(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    return score


def score_cached_minilm(model: Path, papers: Papers, split: str, embeddings: Path) -> Scores:
    """Return the scores of a split from its cached embeddings."""
    from peer_embed import read_embeddings

    return load_head(model)(read_embeddings(papers.texts(split), embeddings)[0])
