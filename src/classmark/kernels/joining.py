"""Joins what the text of a paper says with what the earlier papers of its authors say.

The profile turns the votes of ``authors.py`` into a log-probability of each label: a linear
softmax over their logarithms and shares. A joined score is

    a log p(label | text) + b log p(label | authors) + c log p(label)

with a, b and c from a small network that sees how sure both sides are and how much is known of the
authors: what a newcomer's one paper says weighs less than what a career does. A calibration curve
of its own makes the scores probabilities. A paper whose authors are all unknown keeps its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle
from classmark.bundle.check import shown
from classmark.errors import BundleIncompatible
from classmark.kernels.authors import (
    N_FEATURES,
    ONE_PAPER,
    AuthorArrays,
    AuthorTable,
    Said,
    column_type,
)
from classmark.kernels.calibration import CalibrationCurve, log_softmax
from classmark.kernels.checks import MOST_SCALE, BundleReader
from classmark.kernels.scorer import RawScores
from classmark.papers.authors import AUTHORS_VERSION
from classmark.records import Paper

Floats = NDArray[np.float64]
N_CONTEXT = 12
N_HIDDEN = 16
N_SIDES = 3
_FIRST_YEARS = (1, 9999)
_YEAR_DIGITS = 4


class JoinWeights(NamedTuple):
    """The network that weighs text, authors and prior; float32 arrays.

    ``context`` [2, 12]: mean and spread of what it sees; ``hidden`` [13, 16] and ``sides`` [17, 3]
    have their biases in the last row.
    """

    context: NDArray[np.float32]
    hidden: NDArray[np.float32]
    sides: NDArray[np.float32]

    @classmethod
    def none(cls) -> JoinWeights:
        """Return weights of zero, until some are fitted."""
        shapes = ((2, N_CONTEXT), (N_CONTEXT + 1, N_HIDDEN), (N_HIDDEN + 1, N_SIDES))
        return cls(*(np.zeros(shape, dtype=np.float32) for shape in shapes))

    def weigh(self, seen: Floats) -> Floats:
        """Return the weights of the three sides for n papers: [n, 3]."""
        centred = (seen - self.context[0]) / self.context[1]
        return _affine(np.tanh(_affine(centred, self.hidden)), self.sides)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a bundle keeps as arrays, by name."""
        return {f"join_{name}": array for name, array in self._asdict().items()}


class Sides(NamedTuple):
    """What n papers of known authors are joined from: log-probabilities [n, k], and the context."""

    text: Floats
    authors: Floats
    context: Floats

    def rows(self, rows: NDArray[np.intp]) -> Sides:
        """Return what some of the papers are joined from."""
        return Sides(self.text[rows], self.authors[rows], self.context[rows])


@dataclass(frozen=True, eq=False)
class AuthorJoin:
    """The author table of a bundle, its profile, and how both are joined with the text.

    Attributes:
        table: finds authors.
        scale: what one step of ``arrays.profile`` adds to a logit.
        weights: of the three sides.
        curve: makes joined scores probabilities; None leaves them.
    """

    table: AuthorTable
    scale: float
    weights: JoinWeights
    curve: CalibrationCurve | None = None

    @property
    def arrays(self) -> AuthorArrays:
        """Return those of the table."""
        return self.table.arrays

    def join(self, raw: RawScores, papers: Sequence[Paper], temperature: float) -> RawScores:
        """Return the scores of n papers with what is known of their authors.

        Papers without known authors keep their scores to the last bit.

        Args:
            raw: what the text alone gives.
            papers: the papers that were scored.
            temperature: of the bundle's policy, for both kinds of scores.
        """
        if not any(paper.authors for paper in papers):
            return raw
        said = self.table.said([p.authors for p in papers], _years(papers))
        rows = np.flatnonzero(said.known.any(axis=1))
        if not len(rows):
            return raw
        scores = raw.scores.copy()
        sides = self.sides(raw.scores[rows], said.rows(rows), temperature)
        scores[rows] = self.score(sides) * temperature
        used = np.zeros(len(papers), dtype=np.bool_)
        used[rows] = True
        return replace(raw, scores=scores, text_scores=raw.scores, used_authors=used)

    def sides(self, scores: NDArray[np.float32], said: Said, temperature: float) -> Sides:
        """Return what scores and authors of n papers say: all of known authors."""
        text = log_softmax(scores, temperature)
        logits = said.sums * self.scale
        logits += self.arrays.prior
        authors = log_softmax(logits, 1.0)
        return Sides(text, authors, _context(text, authors, said))

    def score(self, sides: Sides) -> NDArray[np.float32]:
        """Return joined scores of n papers, float32 [n, k]: logits at a temperature of 1."""
        weights = self.weights.weigh(sides.context)
        sums = weights[:, :1] * sides.text
        part = weights[:, 1:2] * sides.authors
        sums += part
        sums += np.multiply(weights[:, 2:], self.arrays.prior, out=part)
        joined = sums.astype(np.float32)
        return joined if self.curve is None else self.curve.apply(joined)

    def to_dict(self) -> dict[str, Any]:
        """Return what a bundle keeps in its manifest."""
        return {
            "version": AUTHORS_VERSION,
            "first_year": self.table.first_year,
            "scale": self.scale,
            "curve": asdict(self.curve) if self.curve else None,
        }

    def bundle_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a bundle keeps as arrays, by name."""
        return {**self.arrays.arrays(), **self.weights.arrays()}


def load_join(bundle: Bundle) -> AuthorJoin | None:
    """Return the author table of a bundle; None if it has none.

    Raises:
        BundleIncompatible: it was made for other keys of names, or its arrays or parameters are
            not what the kernel can count with.
    """
    manifest = bundle.manifest
    if not manifest.authors:
        return None
    reader = BundleReader(bundle, manifest.authors)
    reader.keys("version", "first_year", "scale", "curve")
    version = reader.parameter("version")
    if version != AUTHORS_VERSION:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} has keys of authors of version "
            f"{shown(version)}, this classmark has {AUTHORS_VERSION!r}. Install the classmark that "
            "it was made for, or train and export it again."
        )
    arrays = _read_arrays(reader, len(manifest.labels))
    return AuthorJoin(
        AuthorTable(arrays, reader.whole_number("first_year", *_FIRST_YEARS)),
        reader.number("scale", 0, MOST_SCALE),
        _read_weights(reader),
        reader.curve(),
    )


def _read_arrays(reader: BundleReader, k: int) -> AuthorArrays:
    initials = reader.array("author_initials", np.uint16, (None,))
    names = reader.array("author_names", np.uint16, (None,))
    labels = reader.array("author_labels", column_type(k), (None,))
    s, v, e = len(initials), len(names), len(labels)
    arrays = AuthorArrays(
        displacements=reader.array("author_displacements", np.uint16, (None,)),
        initials=initials,
        variants=reader.array("author_variants", np.uint16, (s,)),
        names=names,
        n_entries=reader.array("author_n_entries", np.uint16, (v,)),
        labels=labels,
        periods=reader.array("author_periods", np.uint8, (e,)),
        counts=reader.array("author_counts", np.uint8, (e,)),
        profile=reader.array("author_profile", np.int16, (N_FEATURES * k, k)),
        prior=reader.array("author_prior", np.float32, (k,)),
    )
    reader.array_within("author_labels", labels, 0, k - 1)
    reader.array_within("author_prior", arrays.prior, -MOST_SCALE, 0)
    for name, lengths, total in (
        ("author_variants", arrays.variants, v),
        ("author_n_entries", arrays.n_entries, e),
    ):
        if int(lengths.sum(dtype=np.int64)) != total:
            reader.refuse(f"has an array {name} that does not sum to {total:,}")
    return arrays


def _read_weights(reader: BundleReader) -> JoinWeights:
    shapes = {
        "context": (2, N_CONTEXT),
        "hidden": (N_CONTEXT + 1, N_HIDDEN),
        "sides": (N_HIDDEN + 1, N_SIDES),
    }
    arrays = {name: reader.array(f"join_{name}", np.float32, s) for name, s in shapes.items()}
    for name, array in arrays.items():
        reader.array_within(f"join_{name}", array, -MOST_SCALE, MOST_SCALE)
    reader.array_within("join_context", arrays["context"][1], 1 / MOST_SCALE, MOST_SCALE)
    return JoinWeights(**arrays)


def _years(papers: Sequence[Paper]) -> NDArray[np.int64]:
    """Return the year of each paper, 0 where it is unknown."""
    dates = [(paper.published_date or "")[:_YEAR_DIGITS] for paper in papers]
    return np.array([int(d) if d.isdecimal() else 0 for d in dates], dtype=np.int64)


def _context(text: Floats, authors: Floats, said: Said) -> Floats:
    """Return what the network sees of n papers: float64 [n, 12]."""
    p_text, p_authors, product = np.exp(text), np.exp(authors), np.empty_like(text)
    papers = said.papers / ONE_PAPER

    def sums_of(a: Floats, b: Floats) -> Floats:
        sums: Floats = np.multiply(a, b, out=product).sum(axis=1)
        return sums

    return np.stack(
        [
            *(p_text.max(axis=1), -sums_of(p_text, text)),
            *(np.log1p(said.known[:, 0]), np.log1p(said.known[:, 1])),
            said.known[:, 0] / np.maximum(said.authors, 1),
            *(np.log1p(papers[:, 0]), np.log1p(papers[:, 1])),
            *(p_authors.max(axis=1), -sums_of(p_authors, authors)),
            sums_of(p_text, p_authors),
            np.log1p(said.authors),
            np.log1p(said.ages),
        ],
        axis=1,
    )


def _affine(values: Floats, weights: NDArray[np.float32]) -> Floats:
    """Return values @ weights + bias, each row for itself: the sums of a batch are those of one."""
    # The inputs come first: whole rows are added then, and the order of the sum is the same.
    products = values.T[:, :, None] * weights[:-1, None].astype(np.float64)
    sums: Floats = products.sum(axis=0) + weights[-1]
    return sums
