"""Unseen papers for the benchmark of drift alarms, and the model that was fitted for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from classmark import Paper
from classmark.bundle import load_bundle
from classmark.runtime import Classifier, Decider
from classmark.runtime.features import FeatureTable, WatchedPapers
from classmark.runtime.reference import Axes
from peer_papers import build_dataset, first_ranked, read_frames

N_TRAIN, N_VALID, N_POOL, N_REFERENCE, N_HIDDEN = 60_000, 3_000, 24_000, 5_000, 600
N_WINDOW = 1_000
HIDDEN = ("astro-ph.EP", "cs.CR", "math.CO", "physics.optics", "q-bio.NC", "stat.AP", "cs.SE",
          "cond-mat.soft")  # fmt: skip
SEED = 17

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Pool:
    """Features of papers that the model has not seen, and what their categories are.

    Attributes:
        table: of all of them.
        codes: right category of each.
        usual: rows of the categories that the model knows.
        labels: of the model.
        texts: title and abstract of each.
    """

    table: FeatureTable
    codes: NDArray[np.str_]
    usual: Indices
    labels: tuple[str, ...]
    texts: NDArray[np.object_]

    def present(self, codes: tuple[str, ...]) -> tuple[str, ...]:
        """Return those categories that have papers."""
        return tuple(code for code in codes if len(self.rows_of(code)))

    @property
    def n_window(self) -> int:
        """Papers of a window where nothing else is said."""
        return min(N_WINDOW, len(self.usual) // 3)

    def rows_of(self, code: str) -> Indices:
        """Return the papers of a category."""
        return np.flatnonzero(self.codes == code)

    def split(self, n: int, rng: np.random.Generator, without: str = "") -> tuple[Indices, Indices]:
        """Return random rows of a reference, and of n further papers."""
        usual = self.usual if not without else self.usual[self.codes[self.usual] != without]
        drawn = rng.permutation(usual)
        size = min(N_REFERENCE, len(usual) - n)
        return drawn[:size], drawn[size : size + n]


def draw_papers(dataset: Path, sizes: dict[str, int]) -> dict[str, pl.DataFrame]:
    """Return the papers of the fit, of its policy, and those that it does not see."""
    papers = pl.concat(read_frames(dataset).values())
    hidden = papers.filter(pl.col("category_code").is_in(HIDDEN))
    usual = first_ranked(papers.filter(~pl.col("category_code").is_in(HIDDEN)), sum(sizes.values()))
    splits, start = {}, 0
    for name, n in sizes.items():
        splits[name] = usual[start : start + n]
        start += n
    found = [first_ranked(hidden.filter(pl.col("category_code") == c), N_HIDDEN) for c in HIDDEN]
    splits["hidden"] = pl.concat(found)
    return splits


def fit(splits: dict[str, pl.DataFrame], work: Path, space: str) -> Path:
    """Return the bundle of a fit, made now or found in the work folder."""
    bundle = work / "watched-1.0"
    if not bundle.is_dir():
        papers = build_dataset(
            {"train": splits["train"], "valid": splits["valid"], "test": splits["test"].head(500)},
            work / "dataset",
            *("--labels", space),
        )
        words = [sys.executable, "-m", "classmark", "train", f"dataset.path={papers.folder}"]
        words += [f"runs_dir={work / 'runs'}", "model.epochs=10"]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        words = [sys.executable, "-m", "classmark", "export", done.stdout.split()[-1]]
        words += ["--output", str(bundle)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return bundle


def make_pool(frame: pl.DataFrame, folder: Path) -> Pool:
    """Return the features of unseen papers, in components of their own usual ones."""
    bundle, classifier = load_bundle(folder), Classifier(folder)
    texts = list(zip(frame["title"].to_list(), frame["summary"].to_list(), strict=True))
    raw = classifier.score(Paper(title=t, abstract=a) for t, a in texts)
    codes = np.array(frame["category_code"].to_list())
    usual = np.flatnonzero(~np.isin(codes, HIDDEN))
    papers = WatchedPapers.of_texts(raw.scores, raw.known_share, texts, None)
    axes = Axes.of(raw.scores[usual].astype(np.float16).astype(np.float32))
    decider = Decider(bundle.manifest, classifier.model)
    table = papers.features(decider, axes.project)
    joined = np.array([f"{title}\n{abstract}" for title, abstract in texts], dtype=object)
    return Pool(table, codes, usual, decider.labels, joined)


def mixed_window(
    pool: Pool, code: str, share: float, n: int, rng: np.random.Generator
) -> tuple[FeatureTable, FeatureTable]:
    """Return a window with a share of papers of a category, and a reference without any."""
    window, reference = mixed_rows(pool, code, share, n, rng)
    return pool.table.select(window), pool.table.select(reference)


def mixed_rows(
    pool: Pool, code: str, share: float, n: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return the rows of such a window, and of its reference."""
    n_foreign = round(share * n)
    reference, window = pool.split(n - n_foreign, rng, without=code)
    foreign = rng.permutation(pool.rows_of(code))[:n_foreign]
    return np.concatenate([window, foreign]), reference
