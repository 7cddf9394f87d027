"""Fits of the fast tier at the ends of months, on the newest papers; each is kept on disk.

A fit is what `classmark train` does with its own options: a parent, pruning, refinement. It is made
here, in one process, because the features of a month are then read once and not by every fit; what
reading them took is added to what a fit costs. A fit carries a reference as a bundle does, so the
monitor's own code looks at its answers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from classmark.evaluation import fit_temperature
from classmark.kernels.featuriser import FEATURISER_VERSION
from classmark.papers import RECIPE_VERSION
from classmark.pipeline.config import compose_config
from classmark.records import SILENT, BundleManifest, Policy
from classmark.runtime import Decider
from classmark.runtime.features import FeatureTable, WatchedPapers
from classmark.runtime.reference import Reference, make_reference
from classmark.storage import atomic_file
from classmark.taxonomy import VERSION as TAXONOMY_VERSION
from classmark.training import (
    LinearConfig,
    LinearFit,
    LinearWeights,
    choose_frequent,
    fit_linear,
    rank_by_importance,
    read_occurrences,
    to_sparse,
)
from classmark.training.vocabulary import Occurrences
from classmark.wire import ModelRef

SEED, ACCEPTED_FROM = 7, 0.5
# A fit on so few papers needs more passes than one on all (docs/log.md, peers and decay).
TRAIN = ("model.epochs=10",)
_FACTS = ("english_share", "foreign_share", "latex_share", "n_words", "has_abstract")
_KEPT_MODELS = 24


@dataclass(frozen=True, eq=False)
class Papers:
    """Features of n papers, in order of time.

    Attributes:
        occurrences: of the features.
        labels: int16 [n].
        facts: about their texts; its scores have no column yet.
        read_s: CPU-seconds that reading them took.
    """

    occurrences: Occurrences
    labels: NDArray[np.int16]
    facts: WatchedPapers
    read_s: float

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.intp]) -> Papers:
        """Return some papers; the time is shared out alike."""
        lengths = np.diff(self.occurrences.starts)[rows]
        starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        at = np.repeat(self.occurrences.starts[rows] - starts[:-1], lengths)
        at += np.arange(starts[-1])
        occurrences = Occurrences(self.occurrences.keys[at], self.occurrences.counts[at], starts)
        share = len(rows) / max(1, len(self))
        facts = _facts_of({name: getattr(self.facts, name)[rows] for name in _FACTS})
        return Papers(occurrences, self.labels[rows], facts, self.read_s * share)

    @classmethod
    def joined(cls, parts: Sequence[Papers]) -> Papers:
        """Return the papers of all parts, one part after the other."""
        lengths = np.concatenate([np.diff(p.occurrences.starts) for p in parts])
        occurrences = Occurrences(
            np.concatenate([p.occurrences.keys for p in parts]),
            np.concatenate([p.occurrences.counts for p in parts]),
            np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        )
        facts = {n: np.concatenate([getattr(p.facts, n) for p in parts]) for n in _FACTS}
        labels = np.concatenate([p.labels for p in parts])
        return cls(occurrences, labels, _facts_of(facts), sum(p.read_s for p in parts))


@dataclass(frozen=True, eq=False)
class Model:
    """A fit: weights, how its answers are watched, and what it cost.

    Attributes:
        until: month whose end is that of its papers, ``2009-12``.
        weights: of the features, rows of two bits.
        decider: its policy.
        reference: of its valid papers.
        cost: CPU-seconds and papers of the fit.
    """

    until: str
    weights: LinearWeights
    decider: Decider
    reference: Reference
    cost: dict[str, float]

    def watched(self, papers: Papers) -> WatchedPapers:
        """Return papers with the scores of the model."""
        return score(self.weights, papers)

    def features(self, watched: WatchedPapers) -> FeatureTable:
        """Return the features of papers as the journal would give them."""
        return watched.features(self.decider, self.reference.axes.project)


@dataclass(frozen=True)
class Timeline:
    """The papers of a dataset by month, and the fits at the ends of months; both kept in a folder.

    Attributes:
        folder: where they are.
        months: names in order, ``2008-10``.
        labels: k codes.
        space: of the labels.
        sizes: papers of each month.
        n_train, n_valid: papers of a fit, and those held out of them for its reference.
        overrides: options of `classmark train`.
    """

    folder: Path
    months: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[str, ...]
    space: str
    n_train: int
    n_valid: int
    overrides: tuple[str, ...]

    def papers(self, month: str) -> Papers:
        """Return the papers of a month."""
        return _read_papers(self.folder / "months" / f"{month}.npz")

    def drawn(self, month: str, most: int) -> Papers:
        """Return at most so many papers of a month, drawn once."""
        papers = self.papers(month)
        if len(papers) <= most:
            return papers
        rows = np.random.default_rng([SEED, self.months.index(month)]).permutation(len(papers))
        return papers.select(np.sort(rows[:most]))

    def newest(self, until: str) -> tuple[Papers, Papers]:
        """Return the newest papers up to the end of a month: those to fit on, and valid ones."""
        parts: list[Papers] = []
        wanted, last = self.n_train + self.n_valid, self.months.index(until)
        while sum(map(len, parts)) < wanted and last >= 0:
            parts.insert(0, self.papers(self.months[last]))
            last -= 1
        papers = Papers.joined(parts)
        rows = np.arange(max(0, len(papers) - wanted), len(papers))
        chosen = np.random.default_rng(SEED).permutation(rows)
        n_valid = min(self.n_valid, len(rows) // 3)
        return (papers.select(np.sort(chosen[n_valid:])), papers.select(np.sort(chosen[:n_valid])))

    @property
    def kept(self) -> Path:
        """Return the folder of the fits of this size."""
        return self.folder / f"fits-{self.n_train}-{self.n_valid}"

    def model(self, until: str) -> Model:
        """Return the fit at the end of a month, made now or found in the folder."""
        return _model_of(self, until)

    def cpu_s(self, until: str) -> float:
        """Return the CPU-seconds that the fit at the end of a month took."""
        with np.load(self.fit(until)) as kept:
            return float(json.loads(str(kept["cost"]))["cpu_s"])

    def start_of(self, until: str) -> LinearWeights | None:
        """Return the weights that a fit continues from, None for a full fit."""
        del until
        return None

    def weights_of(self, train: Papers, start: LinearWeights | None) -> LinearWeights:
        """Return the weights of a fit."""
        del start
        return fit_weights(train, len(self.labels), None, options(*self.overrides))

    def fit(self, until: str) -> Path:
        """Return the file of the fit at the end of a month, which is written if there is none."""
        path = self.kept / f"{until}.npz"
        if not path.exists():
            print(f"fitting until {until}", file=sys.stderr, flush=True)
            train, valid = self.newest(until)
            start = self.start_of(until)
            started = time.process_time()
            weights = self.weights_of(train, start)
            spent = time.process_time() - started + train.read_s
            _write_model(path, weights, score(weights, valid), valid.labels, spent, len(train))
        return path


def options(*overrides: str) -> LinearConfig:
    """Return the options of a fit on one thread: the result does not depend on their number."""
    return compose_config(["dataset.path=none", "model.threads=1", *overrides]).options(
        LinearConfig
    )


def make_timeline(
    papers: pl.DataFrame, space: str, folder: Path, n_train: int, n_valid: int
) -> Timeline:
    """Return the timeline of papers; the features of a month are read once.

    Args:
        papers: in the columns of a dataset, in order of time.
        space: of the labels.
        folder: keeps the months and the fits.
        n_train: papers of a fit.
        n_valid: further ones, held out of it.
    """
    named = papers.with_columns(pl.col("published_date").str.slice(0, 7).alias("month"))
    labels = tuple(named["category_code"].unique().sort().to_list())
    column = {code: i for i, code in enumerate(labels)}
    counted = named["month"].value_counts().sort("month")
    months, sizes = (tuple(counted[name].to_list()) for name in ("month", "count"))
    for (month,), frame in named.partition_by("month", as_dict=True).items():
        path = folder / "months" / f"{month}.npz"
        if not path.exists():
            _write_papers(path, frame, column)
    return Timeline(folder, months, sizes, labels, space, n_train, n_valid, TRAIN)


def fit_weights(
    papers: Papers, n_labels: int, champion: LinearWeights | None, config: LinearConfig
) -> LinearWeights:
    """Return the weights of a fit: parent, pruning, refinement.

    Args:
        papers: to fit on.
        n_labels: columns of the head.
        champion: weights that the parent continues from, of the same labels; None: a full fit.
        config: options of the fit.
    """
    keys, _ = choose_frequent(papers.occurrences, config.min_papers)
    task = LinearFit(
        papers=to_sparse(papers.occurrences, keys),
        keys=keys,
        labels=papers.labels,
        weights=np.ones(len(papers), np.float32),
        config=config,
        n_labels=n_labels,
        seed=SEED,
        start=champion and champion.carried_over(keys, np.arange(n_labels), SEED),
        is_warm=champion is not None,
    )
    parent = fit_linear(task)[0]
    kept = np.sort(rank_by_importance(parent, task.papers)[: config.max_features])
    sparse = to_sparse(papers.occurrences, keys[kept])
    refined = replace(
        task, papers=sparse, keys=keys[kept], start=parent.select(kept), is_warm=False
    )
    return fit_linear(refined)[0]


def score(weights: LinearWeights, papers: Papers) -> WatchedPapers:
    """Return papers with scores, and the share of their distinct features that are known."""
    sparse = to_sparse(papers.occurrences, weights.keys)
    known = np.diff(sparse.starts) / np.maximum(np.diff(papers.occurrences.starts), 1)
    return replace(papers.facts, scores=weights.score(sparse), known_share=known.astype(np.float32))


def _write_papers(path: Path, frame: pl.DataFrame, column: dict[str, int]) -> None:
    print(f"reading {len(frame):,} papers of {path.stem}", file=sys.stderr, flush=True)
    texts = list(zip(frame["title"], frame["summary"], strict=True))
    started = time.process_time()
    found = read_occurrences(texts, SILENT)
    seconds = time.process_time() - started
    n = len(texts)
    facts = WatchedPapers.of_texts(
        np.zeros((n, 0), np.float32), np.zeros(n, np.float32), texts, None
    )
    arrays = {name: getattr(facts, name) for name in _FACTS}
    labels = np.array([column[code] for code in frame["category_code"]], dtype=np.int16)
    arrays |= {"keys": found.keys, "counts": found.counts, "starts": found.starts}
    _write(path, {**arrays, "labels": labels, "read_s": np.array(seconds)})


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


@lru_cache(maxsize=30)
def _read_papers(path: Path) -> Papers:
    with np.load(path) as kept:
        occurrences = Occurrences(kept["keys"], kept["counts"], kept["starts"])
        facts = _facts_of({name: kept[name] for name in _FACTS})
        return Papers(occurrences, kept["labels"], facts, float(kept["read_s"]))


def _facts_of(arrays: dict[str, NDArray[Any]]) -> WatchedPapers:
    n = len(arrays["n_words"])
    return WatchedPapers(
        scores=np.zeros((n, 0), np.float32),
        known_share=np.zeros(n, np.float32),
        used_authors=np.zeros(n, np.bool_),
        **arrays,
    )


def _write_model(
    path: Path,
    weights: LinearWeights,
    valid: WatchedPapers,
    truth: NDArray[np.int16],
    cpu_s: float,
    n_papers: int,
) -> None:
    arrays: dict[str, NDArray[Any]] = {name: getattr(valid, name) for name in _FACTS}
    arrays |= {"scores": valid.scores, "known_share": valid.known_share, "truth": truth}
    arrays |= {"keys": weights.keys, "embedding": weights.embedding.astype(np.float16)}
    arrays |= {"head": weights.head, "bias": weights.bias}
    cost = json.dumps({"cpu_s": cpu_s, "papers": n_papers, "features": len(weights.keys)})
    _write(path, {**arrays, "cost": np.array(cost)})


@lru_cache(maxsize=_KEPT_MODELS)
def _model_of(timeline: Timeline, until: str) -> Model:
    with np.load(timeline.fit(until)) as kept:
        read = {name: kept[name] for name in kept.files}
    embedding = read["embedding"].astype(np.float32)
    weights = LinearWeights(read["keys"], embedding, read["head"], read["bias"])
    valid = replace(
        _facts_of({name: read[name] for name in _FACTS}),
        scores=read["scores"],
        known_share=read["known_share"],
    )
    truth = read["truth"].astype(np.intp)
    decider = _decider(timeline, until, fit_temperature(valid.scores, truth))
    reference = make_reference(valid, decider, truth, np.zeros(len(truth), np.int16))
    return Model(until, weights, decider, reference, json.loads(str(read["cost"])))


def _decider(timeline: Timeline, until: str, temperature: float) -> Decider:
    """Return the policy of a fit: calibrated, and accepting what is more likely right than not."""
    k = len(timeline.labels)
    policy = Policy(
        temperature=temperature,
        thresholds=(ACCEPTED_FROM,) * k,
        cross_list_thresholds=(1.0,) * k,
        set_threshold=1.0,
    )
    is_arxiv = timeline.space == "arxiv"
    manifest = BundleManifest(
        name="replay",
        version=until,
        kind="linear",
        label_space=timeline.space,
        labels=timeline.labels,
        text_recipe=RECIPE_VERSION,
        featuriser=FEATURISER_VERSION,
        taxonomy=TAXONOMY_VERSION if is_arxiv else "",
        policy=policy,
        files={},
    )
    return Decider(manifest, ModelRef("replay", until, ""))
