"""The author table of a fit, and its join with the text: fitted, kept in a run, put in a bundle.

No name is kept: a run folder holds the same fingerprints as a bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice, pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle, write_array
from classmark.dataset import DatasetSplit, iter_authors, read_split
from classmark.evaluation import fit_set_threshold
from classmark.export import SET_COVERAGE, fit_curve
from classmark.export.authors import CountedPapers, count_authors
from classmark.kernels import RawScores
from classmark.kernels.authors import AuthorArrays, AuthorTable
from classmark.kernels.calibration import log_softmax
from classmark.kernels.joining import AuthorJoin, JoinWeights, Sides, load_join
from classmark.pipeline.run_folder import read_array
from classmark.pipeline.scoring import Source, as_paper
from classmark.records import AuthorFacts, LinearPart, RunRecord, ScoreTable, TransformerPart
from classmark.training.authors import fit_join, fit_profile

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_FOLDER = "authors"
_CHUNK_PAPERS = 2_000
_LEAST_FOR_JOIN = 200
"""With fewer validation papers of known authors, nothing says how far to trust the table."""
_LEAST_GAIN_ERRORS = 2
"""A table is kept if its gain on papers that no weight has seen is more than so many standard
errors."""


@dataclass(frozen=True, eq=False)
class FittedAuthors:
    """The table and the profile of a fit."""

    arrays: AuthorArrays
    facts: AuthorFacts

    @property
    def table(self) -> AuthorTable:
        """Return what finds authors in the arrays."""
        return AuthorTable(self.arrays, self.facts.first_year)

    def write(self, folder: Path) -> None:
        """Write the arrays as ``authors/*.npy`` into a run folder."""
        (folder / _FOLDER).mkdir(exist_ok=True)  # a run that was ended while it was written
        for field in fields(self.arrays):
            write_array(folder / _FOLDER / f"{field.name}.npy", getattr(self.arrays, field.name))


def read_authors(folder: Path, record: RunRecord) -> FittedAuthors | None:
    """Return the table of a run; None if it has none.

    Raises:
        RunCorrupt: an array is missing or damaged.
    """
    part = record.part
    facts = part.authors if isinstance(part, LinearPart | TransformerPart) else AuthorFacts()
    if not facts.entries:
        return None
    names = [field.name for field in fields(AuthorArrays)]
    arrays = {name: read_array(folder, f"{_FOLDER}/{name}.npy") for name in names}
    return FittedAuthors(AuthorArrays(**arrays), facts)


def authors_of(bundle: Bundle, labels: tuple[str, ...]) -> FittedAuthors | None:
    """Return the table of a bundle with these labels in this order; None if it has none."""
    join = load_join(bundle)
    if join is None or bundle.manifest.labels != labels:
        return None
    arrays = join.arrays
    facts = AuthorFacts(
        entries=len(arrays.labels),
        names=len(arrays.names),
        first_year=join.table.first_year,
        scale=join.scale,
    )
    return FittedAuthors(arrays, facts)


def fit_authors(source: Source, *, max_entries: int, seed: int) -> FittedAuthors | None:
    """Return table and profile of the training papers; None if they name no author.

    Args:
        source: the dataset.
        max_entries: of the table; 0 fits none.
        seed: of the profile.
    """
    if not max_entries:
        return None
    split = read_split(source.dataset, "train", source.manifest, texts=False)
    source.progress.step("counting the authors")
    counted = count_authors(
        CountedPapers(
            authors=_authors(source, "train"),
            years=split.years,
            listed_indptr=split.listed_indptr,
            listed_indices=split.listed_indices,
            n_labels=len(source.manifest.labels),
        ),
        max_entries,
    )
    if counted is None:
        return None
    arrays, first_year = counted
    features, rows = _training_features(source, split, AuthorTable(arrays, first_year))
    if not len(rows):
        return None
    source.progress.step(f"fitting the profile of authors: {len(rows):,} papers")
    profile, scale = fit_profile(
        features,
        split.labels[rows],
        arrays.prior,
        seed=seed,
    )
    facts = AuthorFacts(
        entries=len(arrays.labels), names=len(arrays.names), first_year=first_year, scale=scale
    )
    return FittedAuthors(replace(arrays, profile=profile), facts)


def fit_author_join(
    source: Source, fitted: FittedAuthors | None, valid: ScoreTable, temperature: float
) -> tuple[AuthorJoin, float] | None:
    """Return how table and text are joined, and the threshold of the sets of such answers.

    None if that does not help. Gain, curve and threshold are measured on papers that the weights
    have not seen: each half of the papers by weights of the other half.

    Args:
        source: the dataset.
        fitted: the table; None gives None.
        valid: scores of the valid split by the text alone, of all its papers in their order.
        temperature: that makes them probabilities.
    """
    if fitted is None:
        return None
    source.progress.step("joining authors and text")
    evidence = fitted.table.evidence(list(_authors(source, valid.split)), valid.years)
    rows = np.flatnonzero(evidence.known.any(axis=1) & (valid.primary >= 0))
    if len(rows) < _LEAST_FOR_JOIN:
        return None
    table = valid.select(rows)
    join = AuthorJoin(fitted.table, fitted.facts.scale, JoinWeights.none())
    sides = join.sides(table.scores, evidence.rows(rows), temperature)
    halves = np.arange(0, len(rows), 2), np.arange(1, len(rows), 2)
    unseen = np.empty_like(table.scores)
    for seen, others in (halves, halves[::-1]):
        unseen[others] = _with_weights(join, sides, table, seen).score(sides.rows(others))
    curve = fit_curve(replace(table, scores=unseen))
    probabilities = log_softmax(unseen if curve is None else curve.apply(unseen), 1.0)
    gains = (probabilities - sides.text)[np.arange(len(rows)), table.primary]
    if gains.mean() <= _LEAST_GAIN_ERRORS * gains.std() / np.sqrt(len(rows)):
        source.progress.note("the authors do not help on validation papers: no table")
        return None
    threshold = fit_set_threshold(np.exp(probabilities), table.primary, SET_COVERAGE)
    join = _with_weights(join, sides, table, np.arange(len(rows)))
    return replace(join, curve=curve), threshold


def _with_weights(
    join: AuthorJoin, sides: Sides, table: ScoreTable, rows: NDArray[np.int64]
) -> AuthorJoin:
    """Return a join with weights that are fitted on some papers of a table."""
    sides, table = sides.rows(rows), table.select(rows)
    weights = fit_join(sides, join.arrays.prior, table.primary, _period_weights(table), seed=0)
    return replace(join, weights=weights)


def join_table(
    join: AuthorJoin, source: Source, table: ScoreTable, temperature: float
) -> ScoreTable:
    """Return the scores of a split with authors, where the table knows any."""
    raw = RawScores(table.scores, table.known_share)
    names = _authors(source, table.split)
    papers = list(map(as_paper, repeat(("", "")), names, table.years.tolist()))
    parts = [
        join.join(raw.rows(i, i + _CHUNK_PAPERS), papers[i : i + _CHUNK_PAPERS], temperature)
        for i in range(0, len(papers), _CHUNK_PAPERS)
    ]
    if not parts:
        return table
    joined = RawScores.joined(parts)
    return replace(table, scores=joined.scores, used_authors=joined.used_authors)


def _authors(source: Source, split: str) -> Iterator[tuple[str, ...]]:
    return iter_authors(source.dataset, split, source.manifest)


def _training_features(
    source: Source, split: DatasetSplit, table: AuthorTable
) -> tuple[csr_array, NDArray[np.int64]]:
    """Return the features of the training papers with known authors, and which papers these are.

    A paper's own entries are left out.
    """
    from scipy.sparse import csr_array, vstack

    source.progress.step(f"looking up the authors of {len(split):,} training papers")
    authors = _authors(source, "train")
    parts, rows, first = [], [], 0
    while names := list(islice(authors, _CHUNK_PAPERS)):
        indptr = split.listed_indptr[first : first + len(names) + 1]
        own = [split.listed_indices[i:j] for i, j in pairwise(indptr.tolist())]
        votes = table.votes(names, split.years[first : first + len(names)], own=own)
        known = np.flatnonzero(votes.known.any(axis=1))
        parts.append(csr_array(votes.rows(known).features().astype(np.int16)))
        rows.append(known + first)
        first += len(names)
        source.progress.advance(len(names))
    return vstack(parts, format="csr"), np.concatenate(rows)


def _period_weights(table: ScoreTable) -> NDArray[np.float64]:
    """Return weights by which all periods count alike: float64 [n]."""
    _, period, counts = np.unique(table.periods, return_inverse=True, return_counts=True)
    return 1.0 / counts[period]
