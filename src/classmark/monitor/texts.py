"""The words and papers behind a drift report, where the journal keeps the texts of papers.

Texts are private: they are looked at only on request, and no report holds them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidWindow
from classmark.journal.place import Place
from classmark.journal.reading import PredictionFilter, newest_id, read_predictions
from classmark.kernels.featuriser import fold
from classmark.monitor.look import LookOptions, looked_at
from classmark.monitor.predictions import WatchedModel
from classmark.monitor.window import LEAST_PAPERS
from classmark.records import PredictionEvent
from classmark.records.drift import DriftReport, PaperBehind, TextsBehind, WordRise
from classmark.runtime.features import FeatureTable

MOST_WORDS = 20
MOST_SHOWN = 10
MOST_OLDER = 5_000
"""Older papers, the newest ones, that the words of a window are compared with."""
_LEAST_WITH_WORD = 5
_WORD = re.compile(r"[^\W\d_]{3,}")
_LEAST_Z = 3.0
_TITLE_CHARS = 200
_MOST_DISTANCES = 1_000
"""Papers of either side that distances are taken to: means of as many are good to a few percent."""

Floats = NDArray[np.float32]


def texts_behind(report: DriftReport, options: LookOptions) -> TextsBehind:
    """Return the words and papers behind a report.

    A word is compared by the share of papers that have it, in the window and in older papers of
    the journal. A paper is ranked by its part in the energy distance of window and reference
    (Székely and Rizzo, 2013): its mean distance to the papers of the reference, less that to the
    papers of the window.

    Args:
        report: of a look with these options.
        options: of the look.

    Raises:
        InvalidWindow: the journal keeps no text of the papers, or they are too few.
        InvalidJournal, JournalTooNew: the journal cannot be read.
    """
    model, papers, against = looked_at(report, options)
    events = [event for event in papers if event.text]
    if len(events) < LEAST_PAPERS:
        raise InvalidWindow(
            f"the journal keeps the text of {len(events)} papers of the window, {LEAST_PAPERS} or "
            "more are needed. Serve with --journal-text, or write the page without texts."
        )
    older = older_papers(options.journal, model, report.since_utc)
    return TextsBehind(
        n_window=len(events),
        n_before=len(older),
        words=rising_words([e.text or "" for e in events], [e.text or "" for e in older]),
        papers=_farthest(events, model.features(events), against),
    )


def older_papers(journal: Place, model: WatchedModel, since_utc: str) -> list[PredictionEvent]:
    """Return the newest papers with a text before a time, each once."""
    wanted = PredictionFilter(until_utc=since_utc, digest=model.ref.digest)
    first = newest_id(journal, MOST_OLDER, wanted)
    found: dict[str, PredictionEvent] = {}
    for prediction in read_predictions(journal, replace(wanted, from_id=first or None)):
        if prediction.event.text:
            found.setdefault(prediction.event.text_fingerprint, prediction.event)
    return list(found.values())


def rising_words(texts: Sequence[str], older: Sequence[str]) -> tuple[WordRise, ...]:
    """Return the words whose share rose beyond chance, by the difference of their shares.

    Args:
        texts: of the window; the title is the first line.
        older: to compare with; fewer than 50 say nothing.
    """
    if len(older) < LEAST_PAPERS:
        return ()
    n, m = len(texts), len(older)
    here, there = papers_with(texts), papers_with(older)
    found = []
    for word, count in here.items():
        p, q, both = count / n, there[word] / m, (count + there[word]) / (n + m)
        sd = np.sqrt(max(both * (1 - both), 1e-9) * (1 / n + 1 / m))
        if count >= _LEAST_WITH_WORD and p - q > _LEAST_Z * sd:
            found.append(WordRise(word=word, window=p, before=q))
    found.sort(key=lambda rise: (rise.before - rise.window, rise.word))
    return tuple(found[:MOST_WORDS])


def papers_with(texts: Iterable[str]) -> Counter[str]:
    """Return in how many papers each word is, as the model reads it."""
    counts: Counter[str] = Counter()
    for text in texts:
        title, _, abstract = text.partition("\n")
        counts.update(set(_WORD.findall(fold(title, abstract).decode())))
    return counts


def _farthest(
    events: Sequence[PredictionEvent], table: FeatureTable, against: FeatureTable
) -> tuple[PaperBehind, ...]:
    here, there = table.projection, against.projection
    distance = _mean_distances(here, there) - _mean_distances(here, here)
    order = np.argsort(-distance, kind="stable")[:MOST_SHOWN]
    return tuple(
        PaperBehind(
            prediction_id=events[i].prediction_id,
            title=(events[i].text or "").partition("\n")[0][:_TITLE_CHARS],
            primary=events[i].primary,
            distance=float(distance[i]),
        )
        for i in order.tolist()
    )


def _mean_distances(x: Floats, y: Floats) -> Floats:
    """Return the mean distance of each x to a random share of y: float32 [n]."""
    chosen = np.random.default_rng(0).permutation(len(y))[:_MOST_DISTANCES]
    y = y[chosen]
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None] - 2 * x @ y.T
    distances: Floats = np.sqrt(np.maximum(squared, 0)).mean(axis=1)
    return distances
