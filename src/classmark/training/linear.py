"""Fits a linear model: an embedding of hashed terms and a softmax head, by row-wise AdaGrad.

The parent is fitted on every frequent feature. The features that matter most to it (summed squared
share of the hidden vectors, times the size of their logits) stay, and are refined from its weights:
rows are rounded to two bits in every forward pass, steps go to the numbers behind. That gives back
most of what cutting and rounding take (docs/log.md). The inner loops run in C where the kernel is.

Sources: Duchi et al. 2011, "Adaptive Subgradient Methods", for the step size, one rate a row;
Bengio et al. 2013, arXiv:1308.3432, for the gradient that passes straight through the rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import TrainingFailed
from classmark.kernels.featuriser import KERNEL
from classmark.kernels.linear import DIM
from classmark.records import SILENT, Progress
from classmark.tracking import Trackers
from classmark.training.config import LinearConfig
from classmark.training.pace import FitPace
from classmark.training.vocabulary import SparsePapers

_FIRST_SQUARES = 5e-3
_SCORE_CHUNK = 20_000
_RANK_CHUNK = 1 << 22
_RELEASE_BATCHES = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LinearWeights:
    """A fitted fast model in float32.

    Attributes:
        keys: uint64 [f], sorted: the features.
        embedding: float32 [f, 128].
        head: float32 [128, k].
        bias: float32 [k].
    """

    keys: NDArray[np.uint64]
    embedding: Floats
    head: Floats
    bias: Floats

    def select(self, features: NDArray[np.intp]) -> LinearWeights:
        """Return the weights of some features, by index in ascending order."""
        return LinearWeights(self.keys[features], self.embedding[features], self.head, self.bias)

    def carried_over(
        self, keys: NDArray[np.uint64], columns: NDArray[np.intp], seed: int
    ) -> LinearWeights:
        """Return weights for other features and labels: those that are known keep theirs.

        Rows of new features are zero, the head of a new label is drawn as at the start of a fit.

        Args:
            keys: uint64 [f], sorted: the features.
            columns: integers [k], which label here each label there is; -1 for a new one.
            seed: of the draw.
        """
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        embedding = np.where(
            (self.keys[places] == keys)[:, None], self.embedding[places], np.float32(0)
        )
        drawn = _first_head(np.random.default_rng(seed), len(columns))
        head = np.where(columns >= 0, self.head[:, columns], drawn)
        bias = np.where(columns >= 0, self.bias[columns], self.bias.min())
        return LinearWeights(keys, embedding, head, bias)

    def score(self, papers: SparsePapers) -> Floats:
        """Return the logits of papers: float32 [n, k]."""
        parts = []
        for first in range(0, len(papers), _SCORE_CHUNK):
            rows = np.arange(first, min(first + _SCORE_CHUNK, len(papers)), dtype=np.int64)
            parts.append(sum_rows(papers, rows, self.embedding) @ self.head + self.bias)
            papers.release()
        return np.concatenate(parts) if parts else np.zeros((0, len(self.bias)), np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearFit:
    """What a fit needs.

    Attributes:
        papers: n training papers over f features.
        keys: the f features.
        labels: int16 [n], 0 .. n_labels - 1.
        weights: float32 [n], weight of each paper in the loss.
        config: steps and regularisation.
        n_labels: columns of the head.
        seed: of order, dropout and the first head.
        start: weights of the same features to continue from, by ``refine_epochs`` and
            ``refine_rate``; the rows of the result are then as ``round_rows`` gives them.
        is_warm: the start is of another fit: ``warm_epochs`` and ``warm_rate`` count, and rows stay
            whole.
        stage: what trackers call the fit.
        progress: of papers, loss and speed.
        trackers: keep the loss of every epoch.
        each_epoch: gets the number of each epoch, from 1, and the weights at its end, which the
            next one changes.
    """

    papers: SparsePapers
    keys: NDArray[np.uint64]
    labels: NDArray[np.int16]
    weights: Floats
    config: LinearConfig
    n_labels: int
    seed: int
    start: LinearWeights | None = None
    is_warm: bool = False
    stage: str = "model"
    progress: Progress = SILENT
    trackers: Trackers = field(default_factory=Trackers)
    each_epoch: Callable[[int, LinearWeights], None] | None = None

    @property
    def epochs(self) -> int:
        """Return the passes over the papers."""
        if self.start is None:
            return self.config.epochs
        return self.config.warm_epochs if self.is_warm else self.config.refine_epochs


def fit_linear(fit: LinearFit) -> tuple[LinearWeights, list[float]]:
    """Return weights fitted to the labels of papers, and the mean loss of each epoch in nats.

    From a start the weights are refined, with rows of two bits; from a warm one with whole rows.

    Raises:
        TrainingFailed: the loss is not a number.
    """
    config, papers = fit.config, fit.papers
    descent = _Descent(fit)
    n_steps = fit.epochs * -(-len(papers) // config.batch_size)
    step, losses, started = 0, [], time.monotonic()
    with ThreadPoolExecutor(config.threads) as pool:
        for epoch in range(1, fit.epochs + 1):
            order = descent.random.permutation(len(papers)).astype(np.int64)
            loss = 0.0
            for first in range(0, len(order), config.batch_size):
                batch = order[first : first + config.batch_size]
                of_batch = descent.step(batch, 1 - step / n_steps, pool)
                loss += of_batch
                step += 1
                if step % _RELEASE_BATCHES == 0:
                    papers.release()
                n_seen = (epoch - 1) * len(order) + first + len(batch)
                _show(fit, n_seen, len(batch), of_batch, time.monotonic() - started)
            if not np.isfinite(loss):
                raise TrainingFailed(
                    f"the loss is {loss} in epoch {epoch}. Lower model.rate (now {config.rate}), "
                    f"model.refine_rate (now {config.refine_rate}) or model.head_rate (now "
                    f"{config.head_rate})."
                )
            losses.append(loss / len(order))
            fit.trackers.metrics({f"{fit.stage}/loss": losses[-1]}, step=epoch, epoch=epoch)
            if fit.each_epoch is not None:
                fit.each_epoch(epoch, descent.weights())
    embedding = round_rows(descent.embedding) if descent.rounded else descent.embedding
    return LinearWeights(fit.keys, embedding, descent.head, descent.bias), losses


def _show(fit: LinearFit, n_seen: int, n_batch: int, loss: float, seconds: float) -> None:
    """Show the papers of a batch, their summed loss, and how far the fit is."""
    n_papers, speed = len(fit.papers), n_seen / max(1e-9, seconds)
    pace = FitPace(
        share=n_seen / (n_papers * fit.epochs),
        epoch=1 + (n_seen - 1) // n_papers,
        epochs=fit.epochs,
        loss=loss / n_batch,
        papers_per_second=speed,
        seconds_left=(n_papers * fit.epochs - n_seen) / speed,
    )
    fit.progress.advance(n_batch)
    fit.progress.note(str(pace))


def rank_by_importance(weights: LinearWeights, papers: SparsePapers) -> NDArray[np.intp]:
    """Return the features by falling importance: int [f].

    Importance is the feature's summed squared values times the squared length of its logits,
    without what it adds to all labels alike (the softmax does not see that).
    """
    mass = np.zeros(len(weights.keys))
    for first in range(0, len(papers.columns), _RANK_CHUNK):
        chunk = slice(first, first + _RANK_CHUNK)
        np.add.at(mass, papers.columns[chunk], papers.values[chunk].astype(np.float64) ** 2)
        papers.release()
    head = weights.head - weights.head.mean(axis=1, keepdims=True)
    metric = (head @ head.T).astype(np.float32)
    length = np.einsum("ij,ij->i", weights.embedding @ metric, weights.embedding)
    return np.argsort(-mass * length, kind="stable")


def sum_rows(
    papers: SparsePapers,
    rows: NDArray[np.int64],
    embedding: Floats,
    pool: ThreadPoolExecutor | None = None,
    *,
    rounded: bool = False,
) -> Floats:
    """Return the value-weighted sum of the embedding for some papers: float32 [len(rows), 128].

    Args:
        papers: n papers over f features.
        rows: int64, which of the papers.
        embedding: float32 [f, 128].
        pool: where the two halves run; here if None.
        rounded: sum the rows as ``round_rows`` gives them.
    """
    if KERNEL is None:
        return _sum_rows_in_numpy(papers, rows, embedding, rounded=rounded)
    sums = np.empty((len(rows), embedding.shape[1]), dtype=np.float32)

    def run(part: slice) -> None:
        KERNEL.sum_rows(
            papers.columns,
            papers.values,
            papers.starts,
            rows[part],
            embedding,
            sums[part],
            embedding.shape[1],
            rounded,
        )

    half = len(rows) // 2
    parts = [slice(0, half), slice(half, len(rows))]
    list((pool.map if pool else map)(run, parts))
    return sums


def _first_head(random: np.random.Generator, n_labels: int) -> NDArray[np.float32]:
    """Return the head that a fit begins with: float32 [128, k]."""
    drawn = random.standard_normal((DIM, n_labels), dtype=np.float32)
    return np.asarray(drawn / np.float32(np.sqrt(DIM)), dtype=np.float32)


class _Descent:
    """Weights on their way, with the state of AdaGrad."""

    def __init__(self, fit: LinearFit) -> None:
        self.fit, self.config, start = fit, fit.config, fit.start
        self.rounded = start is not None and not fit.is_warm
        self.random = np.random.default_rng(fit.seed)
        if start is None:
            self._rate = self.config.rate
            self.embedding = np.zeros((len(fit.keys), DIM), dtype=np.float32)
            self.head: NDArray[Any] = _first_head(self.random, fit.n_labels)
            self.bias = np.zeros(fit.n_labels, dtype=np.float32)
        else:
            self._rate = self.config.warm_rate if fit.is_warm else self.config.refine_rate
            self.embedding = start.embedding.copy()
            self.head, self.bias = start.head.copy(), start.bias.copy()
        self._row_squares = np.full(len(fit.keys), _FIRST_SQUARES, dtype=np.float32)
        self._head_squares = np.full_like(self.head, _FIRST_SQUARES)
        self._bias_squares = np.full_like(self.bias, _FIRST_SQUARES)

    def step(self, batch: NDArray[np.int64], share_left: float, pool: ThreadPoolExecutor) -> float:
        """Take one step and return the summed loss of the batch before it, in nats."""
        kept = 1 - self.config.hidden_dropout
        mask = (self.random.random((len(batch), DIM), dtype=np.float32) < kept) / np.float32(kept)
        papers = self.fit.papers
        hidden = sum_rows(papers, batch, self.embedding, pool, rounded=self.rounded) * mask
        gradient, loss = _softmax_gradient(
            hidden @ self.head + self.bias, self.fit.labels[batch], self.config.label_smoothing
        )
        gradient *= self.fit.weights[batch, None]
        back = np.ascontiguousarray((gradient @ self.head.T) * mask, dtype=np.float32)
        rate = self.config.head_rate * share_left
        n = np.float32(len(batch))
        _adagrad(self.head, self._head_squares, np.divide(hidden.T @ gradient, n), rate)
        _adagrad(self.bias, self._bias_squares, gradient.mean(axis=0), rate)
        self._update_rows(batch, back, self._rate * share_left, pool)
        return loss

    def weights(self) -> LinearWeights:
        """Return the weights as they are now; nothing is copied."""
        return LinearWeights(self.fit.keys, self.embedding, self.head, self.bias)

    def _update_rows(
        self, batch: NDArray[np.int64], gradients: Floats, rate: float, pool: ThreadPoolExecutor
    ) -> None:
        if KERNEL is None:
            self._update_rows_in_numpy(batch, gradients, rate)
            return
        papers, parts = self.fit.papers, self.config.threads

        def run(part: int) -> None:
            KERNEL.update_rows(
                papers.columns,
                papers.values,
                papers.starts,
                batch,
                self.embedding,
                gradients,
                self._row_squares,
                DIM,
                rate,
                self.config.weight_decay,
                part,
                parts,
            )

        list(pool.map(run, range(parts)))

    def _update_rows_in_numpy(
        self, batch: NDArray[np.int64], gradients: Floats, rate: float
    ) -> None:
        x, touched = _touched(self.fit.papers, batch, len(self.embedding))
        squares = x.power(2).T @ (gradients**2).mean(axis=1)
        self._row_squares[touched] += squares
        step = rate / np.sqrt(self._row_squares[touched] + 1e-12)
        papers_of_row = np.diff(x.tocsc().indptr)
        kept = np.maximum(1 - self.config.weight_decay * step, 0) ** papers_of_row
        rows = self.embedding[touched] * kept[:, None] - step[:, None] * (x.T @ gradients)
        self.embedding[touched] = rows


def _sum_rows_in_numpy(
    papers: SparsePapers, rows: NDArray[np.int64], embedding: Floats, *, rounded: bool
) -> Floats:
    x, touched = _touched(papers, rows, len(embedding))
    numbers = round_rows(embedding[touched]) if rounded else embedding[touched]
    return np.asarray(x @ numbers, dtype=np.float32)


def _touched(
    papers: SparsePapers, rows: NDArray[np.int64], n_features: int
) -> tuple[Any, NDArray[np.intp]]:
    """Return some papers over the features that occur in them, and these features."""
    from scipy.sparse import csr_array

    whole = csr_array(
        (papers.values, papers.columns, papers.starts), shape=(len(papers), n_features)
    )
    some = whole[rows].tocsc()
    touched = np.flatnonzero(np.diff(some.indptr))
    return some[:, touched].tocsr(), touched


def _softmax_gradient(
    logits: Floats, labels: NDArray[np.int16], smoothing: float
) -> tuple[Floats, float]:
    """Return (probability - smoothed truth) [n, k] and the summed unsmoothed loss in nats."""
    logits = logits - logits.max(axis=1, keepdims=True)
    exponent = np.exp(logits)
    total = exponent.sum(axis=1, keepdims=True)
    gradient = exponent / total
    at = (np.arange(len(labels)), labels)
    loss = float((np.log(total[:, 0]) - logits[at]).sum())
    gradient[at] -= 1 - smoothing
    gradient -= np.float32(smoothing / logits.shape[1])
    return gradient, loss


def _adagrad(value: Floats, squares: Floats, gradient: Floats, rate: float) -> None:
    squares += gradient * gradient
    value -= np.float32(rate) * gradient / np.sqrt(squares)


STEP_PER_DEVIATION = np.float32(0.9957)
"""Step of the four-level quantiser with the least squared error for a normal distribution.

Source: Max 1960, "Quantizing for Minimum Distortion", IRE Transactions on Information Theory 6.
"""


def round_rows(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows with every number at -1.5, -0.5, 0.5 or 1.5 steps of its row: float32 [f, d].

    A row's step is its root mean square times ``STEP_PER_DEVIATION``; a row of zeros stays.
    """
    squares = np.einsum("ij,ij->i", embedding, embedding) / np.float32(embedding.shape[1])
    step = (np.sqrt(squares) * STEP_PER_DEVIATION)[:, None]
    size = np.where(np.abs(embedding) >= step, np.float32(1.5), np.float32(0.5)) * step
    return np.asarray(np.where(embedding < 0, -size, size), dtype=np.float32)
