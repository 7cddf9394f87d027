"""Two score tables brought to the same papers and labels, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidScores, LabelMismatch
from classmark.records import ScoreTable
from classmark.records.scores import UNKNOWN


def pair_tables(
    a: ScoreTable, b: ScoreTable, *, common: bool = False
) -> tuple[ScoreTable, ScoreTable]:
    """Return both tables with the same papers in the same rows and the same labels as columns.

    Papers whose primary is unknown in either table are left out.

    Args:
        a: the first table; its order of papers and labels is kept.
        b: the second one.
        common: compare the papers and labels that both have; else all must be in both. Labels
            that only one has lose their column, so its probabilities are renormalised.

    Raises:
        LabelMismatch: the labels differ, or there is none in common.
        InvalidScores: the papers differ, one is there twice, or its categories differ; named.
        EmptyEvaluation: no paper with a known primary is in both.
    """
    for name, table in (("first", a), ("second", b)):
        _refuse_twins(name, table.ids)
    if not common:
        _refuse_other_labels(a, b)
        _refuse_other_papers(a.ids, b.ids)
    in_b = set(b.labels)
    labels = tuple(label for label in a.labels if label in in_b)
    if not labels:
        raise LabelMismatch(
            f"the tables have no label in common (first ones: {a.labels[0]!r} and "
            f"{b.labels[0]!r}). Compare models of one label space."
        )
    rows_a, rows_b = _shared_rows(a.ids, b.ids)
    left, right = _columns(a.select(rows_a), labels), _columns(b.select(rows_b), labels)
    known = np.flatnonzero((left.primary != UNKNOWN) & (right.primary != UNKNOWN))
    if not known.size:
        raise EmptyEvaluation(
            f"no paper with a known primary category is in both tables ({len(a)} and {len(b)} "
            "papers). Score the same split with both models."
        )
    left, right = left.select(known), right.select(known)
    _refuse_other_truth(left, right)
    return left, right


def _refuse_twins(name: str, ids: Sequence[str]) -> None:
    twin, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        raise InvalidScores(
            f"the {name} table holds the paper {twin!r} {count} times; papers are matched by id. "
            "Give every paper an id of its own and score them again."
        )


def _refuse_other_labels(a: ScoreTable, b: ScoreTable) -> None:
    odd = _in_one_only(a.labels, b.labels)
    if odd:
        raise LabelMismatch(
            f"the tables have {len(a.labels)} and {len(b.labels)} labels, {len(odd)} of them in "
            f"one only (first: {odd[0]!r}). Compare models of the same labels, or pass --common "
            "for the overlap."
        )


def _refuse_other_papers(a: Sequence[str], b: Sequence[str]) -> None:
    odd = _in_one_only(a, b)
    if odd:
        raise InvalidScores(
            f"the tables have {len(a)} and {len(b)} papers, {len(odd)} of them in one only "
            f"(first: {odd[0]!r}). Score the same split with both models, or pass --common for "
            "the overlap."
        )


def _refuse_other_truth(a: ScoreTable, b: ScoreTable) -> None:
    other = a.primary != b.primary
    other |= (a.listed != b.listed).any(axis=1) | (a.listed_count != b.listed_count)
    found = np.flatnonzero(other)
    if found.size:
        i = int(found[0])
        raise InvalidScores(
            f"paper {a.ids[i]!r} has other categories in the second table (primary "
            f"{a.labels[a.primary[i]]!r} and {b.labels[b.primary[i]]!r}; {found.size} such papers "
            f"of {len(a)}). Score one dataset with both models."
        )


def _in_one_only(a: Iterable[str], b: Iterable[str]) -> list[str]:
    first, second = set(a), set(b)
    return sorted(first ^ second)


def _shared_rows(a: Sequence[str], b: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    row_in_b = {identifier: i for i, identifier in enumerate(b)}
    shared = [(i, row_in_b[name]) for i, name in enumerate(a) if name in row_in_b]
    rows = np.array(shared, dtype=np.intp).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _columns(table: ScoreTable, labels: tuple[str, ...]) -> ScoreTable:
    """Return the table with these of its labels as columns; other primaries become unknown."""
    if labels == table.labels:
        return table
    place = {label: i for i, label in enumerate(table.labels)}
    old = np.array([place[label] for label in labels], dtype=np.intp)
    # One place more than there are columns: -1, the unknown primary, stays what it is.
    new = np.full(len(table.labels) + 1, UNKNOWN, dtype=np.int16)
    new[old] = np.arange(len(labels), dtype=np.int16)
    return replace(
        table,
        labels=labels,
        scores=table.scores[:, old],
        listed=table.listed[:, old],
        primary=new[table.primary],
        thresholds=tuple(table.thresholds[i] for i in old) if table.thresholds else (),
    )
