"""What labels say of a model: how right its answers to a window are, and whether that was lost.

Only labels of papers drawn at random count: categories that an archive gives to all papers, and
feedback of which somebody says that it is such a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

import numpy as np

from classmark.errors import EmptyEvaluation
from classmark.journal.place import Place
from classmark.journal.reading import PredictionFilter, read_predictions
from classmark.monitor.accuracy import AccuracyEstimator
from classmark.monitor.few_labels import LEAST_LABELS, LabelWatch, join_labels
from classmark.monitor.labels import LabelSources, Truths, canonical_code, paper_key
from classmark.monitor.policy import WatchPolicy
from classmark.monitor.predictions import WatchedModel, papers_of, sample_of
from classmark.records import PredictionEvent
from classmark.records.drift import DriftReport, LabelledAccuracy, LabelState
from classmark.records.evaluation import AccuracyEstimate
from classmark.runtime.features import FeatureTable, has_scores
from classmark.runtime.reference import Reference

_LEAST_CATEGORIES = 3


def with_labels(
    report: DriftReport, sources: LabelSources, truths: Truths, events: Sequence[PredictionEvent]
) -> DriftReport:
    """Return the report with its labels, and a note if there is feedback that does not count.

    Args:
        report: of the window.
        sources: of labels.
        truths: what they know of the window.
        events: predictions of the window.
    """
    if sources:
        n = sum(bool(truths.of(event)[0]) for event in events)
        report = replace(report, labelled=LabelledAccuracy(sources=sources.in_words, labels=n))
    left_out = sum(truths.leaves_out(event) for event in events)
    if not left_out:
        return report
    note = (
        f"{left_out:,} papers of the window have feedback that is not counted: people send it when "
        "an answer is wrong, so it is not a random sample. If yours is, name its API keys with "
        "--random-feedback."
    )
    return replace(report, notes=(*report.notes, note))


def estimator_of(reference: Reference, window: FeatureTable) -> AccuracyEstimator | None:
    """Return what estimates the accuracy of the text; None if the reference does not allow it."""
    if window.top_labels.shape[1] < _LEAST_CATEGORIES:
        return None
    try:
        return AccuracyEstimator(reference.table, reference.truth)
    except EmptyEvaluation:
        return None


def join_answers(
    events: Sequence[PredictionEvent],
    table: FeatureTable,
    truths: Truths,
    estimator: AccuracyEstimator,
) -> AccuracyEstimate | None:
    """Return how right the answers to papers are, by labels and by the estimates for the others.

    Args:
        events: n predictions.
        table: their features.
        truths: what is known of them.
        estimator: of the same model.

    Returns:
        None if fewer than 20 have a label.
    """
    known = [truths.of(event)[0] for event in events]
    rows = np.flatnonzero([bool(truth) for truth in known])
    if len(rows) < LEAST_LABELS:
        return None
    firsts = [canonical_code(events[row].ranked[0][0]) for row in rows.tolist()]
    correct = np.array([code == known[row] for code, row in zip(firsts, rows, strict=True)])
    return join_labels(estimator.chances(table), rows, correct, reference=estimator.accuracy)


def joined_accuracy(
    model: WatchedModel, journal: Place, wanted: PredictionFilter, sources: LabelSources
) -> AccuracyEstimate | None:
    """Return the accuracy of a model's answers by labels and by the estimates for all papers.

    Args:
        model: whose answers they are.
        journal: its first file, or its database.
        wanted: which predictions count; of more than 20,000, a random share does.
        sources: of labels.

    Returns:
        None if there are fewer than 20 labels, or the model's reference does not allow estimates.

    Raises:
        InvalidJournal: a file of the journal cannot be read.
    """
    wanted = replace(wanted, digest=model.ref.digest)
    events = sample_of(papers_of(journal, wanted)[0])
    if not events:
        return None
    table = model.features(events)
    estimator = estimator_of(model.reference, table)
    truths = sources.read(journal, wanted)
    return join_answers(events, table, truths, estimator) if estimator else None


def watch_labels(
    watch: LabelWatch, journal: Place, model: WatchedModel, truths: Truths, policy: WatchPolicy
) -> tuple[LabelWatch, LabelState]:
    """Return a watch after the labels that it has not counted, and what to say of it.

    Args:
        watch: as it was.
        journal: its first file, or its database.
        model: that is watched.
        truths: what is known now.
        policy: what may be lost.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    after = count_labels(watch, journal, model, truths)
    right = model.reference.correct[model.reference.truth >= 0]
    return after, after.state(right, policy.most_loss, policy.alpha)


def count_labels(
    watch: LabelWatch, journal: Place, model: WatchedModel, truths: Truths
) -> LabelWatch:
    """Return the watch after the labels that it has not counted, each paper's once.

    It is the text alone that counts, as in the reference, and predictions that keep its scores.

    Args:
        watch: as it was.
        journal: its first file, or its database.
        model: that is watched.
        truths: what is known now.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    wanted = PredictionFilter(digest=model.ref.digest, from_id=watch.first or None)
    found: dict[str, tuple[PredictionEvent, str]] = {}
    for prediction in read_predictions(journal, wanted):
        event = prediction.event
        truth, _ = truths.of(event)
        if truth and has_scores(event.features):
            found.setdefault(paper_key(event), (event, truth))
    is_new = watch.is_new([event.prediction_id for event, _ in found.values()])
    new = list(compress(found.values(), is_new))
    if not new:
        return watch
    table = model.features([event for event, _ in new])
    firsts = [canonical_code(table.labels[column]) for column in table.top_labels[:, 0]]
    correct = np.array([code == truth for code, (_, truth) in zip(firsts, new, strict=True)])
    return watch.counting([event.prediction_id for event, _ in new], correct)
