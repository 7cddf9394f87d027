"""From raw scores to published answers: probabilities, thresholds, scope, sets, levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark import taxonomy
from classmark.errors import BundleIncompatible, InvalidScores, UsageError
from classmark.kernels import RawScores
from classmark.kernels.calibration import softmax
from classmark.records import BundleManifest
from classmark.runtime.levels import levels_of, levels_of_one, make_levels
from classmark.wire import (
    Answer,
    Category,
    Levels,
    ModelRef,
    NoSetReason,
    Ranked,
    Reason,
    Reliability,
)

REASONS: tuple[Reason, ...] = ("accepted", "below_threshold", "out_of_scope")
_ACCEPTED, _BELOW_THRESHOLD, _OUT_OF_SCOPE = range(3)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Decisions:
    """What the policy decided on n papers, as arrays; k labels, a archives, g groups.

    Attributes:
        probabilities: float64 [n, k], calibrated; each row sums to 1.
        order: intp [n, k], columns by falling probability, equal ones in label order.
        reasons: int8 [n], index into the reasons of an answer.
        cross_listed: bool [n, k], labels beside an accepted primary.
        in_set: bool [n, k], the prediction set; never empty.
        has_set: bool [n], the set is published: the text is in scope, of enough known terms.
        archives: float64 [n, a], sums of probabilities.
        groups: float64 [n, g], sums of the archives.
    """

    probabilities: Floats
    order: NDArray[np.intp]
    reasons: NDArray[np.int8]
    cross_listed: Mask
    in_set: Mask
    has_set: Mask
    archives: Floats
    groups: Floats

    @property
    def accepted(self) -> Mask:
        """Bool [n], the top label is the primary."""
        return np.asarray(self.reasons == _ACCEPTED)

    @property
    def out_of_scope(self) -> Mask:
        """Bool [n], not like the papers that the model knows."""
        return np.asarray(self.reasons == _OUT_OF_SCOPE)

    def no_set_reasons(self) -> list[NoSetReason | None]:
        """Return why each paper has no published set; None where it has one."""
        pairs = zip(self.has_set.tolist(), self.reasons.tolist(), strict=True)
        return [None if has_set else _why_no_set(reason) for has_set, reason in pairs]


class Decider:
    """The policy of one bundle, ready for batches of any size; it never changes, so it is shared.

    Attributes:
        labels: k codes.
        names: k names, the codes themselves for free labels.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        model: ModelRef,
        reliability: Mapping[str, Reliability] | None = None,
    ) -> None:
        """Prepare the policy of a bundle.

        Args:
            manifest: of the bundle.
            model: who answers.
            reliability: how categories fared on test papers, by code; those left out get None.

        Raises:
            BundleIncompatible: its labels are not in this taxonomy, or do not fit its thresholds.
        """
        self._policy = manifest.policy
        self._model = model
        self.labels = manifest.labels
        is_arxiv = manifest.label_space == "arxiv"
        categories = _categories(manifest) if is_arxiv else []
        self.names = tuple(c.name for c in categories) or manifest.labels
        measured = reliability or {}
        self._reliability = tuple(measured.get(label) for label in self.labels)
        self._levels = make_levels([(c.group, c.archive) for c in categories])
        self._thresholds = self._per_label("thresholds")
        self._cross_list_thresholds = self._per_label("cross_list_thresholds")
        self._cutoff = min(self._policy.set_threshold, *self._policy.cross_list_thresholds)

    def decide(self, raw: RawScores, *, threshold: float | None = None) -> Decisions:
        """Decide on a batch.

        Args:
            raw: scores of n papers over the k labels of the bundle.
            threshold: replaces every label's own threshold of acceptance, 0..1.

        Raises:
            InvalidScores: a score is not a finite number, or the shapes do not fit.
            UsageError: the threshold is not within 0..1.
        """
        self._check(raw, threshold)
        probabilities, energy = softmax(raw.scores, self._policy.temperature)
        if raw.text_scores is not None:  # the text alone says what is in scope
            _, energy = softmax(raw.text_scores, self._policy.temperature)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        top = order[:, 0]
        needed = self._thresholds[top] if threshold is None else np.full(len(top), float(threshold))
        rows = np.arange(len(top))
        reasons = self._reasons(probabilities[rows, top] >= needed, raw.known_share, energy)
        in_set = probabilities >= self._policy.set_threshold
        in_set[rows, top] = True
        cross_listed = probabilities >= self._cross_list_thresholds
        cross_listed[rows, top] = False
        cross_listed[reasons != _ACCEPTED] = False
        archives, groups = self._levels.sums(probabilities)
        has_set = (reasons != _OUT_OF_SCOPE) & self._has_terms(raw)
        return Decisions(
            *(probabilities, order, reasons, cross_listed, in_set, has_set, archives, groups),
        )

    def answers(self, decisions: Decisions, ids: Sequence[str | None], *, top: int) -> list[Answer]:
        """Return the published answer of each paper.

        Args:
            decisions: as ``decide`` returned them.
            ids: n identifiers.
            top: how many categories to rank, at least 1; more than there are gives all.

        Raises:
            UsageError: ``top`` is below 1.
        """
        check_top(top)
        # Lists, because reading single array elements is many times slower; of the top ones only.
        order = decisions.order[:, :top]
        falling = np.take_along_axis(decisions.probabilities, order, axis=1)
        rows = zip(
            ids,
            order.tolist(),
            falling.tolist(),
            decisions.reasons.tolist(),
            _selected(decisions.order, decisions.cross_listed),
            _selected(decisions.order, decisions.in_set),
            decisions.no_set_reasons(),
            levels_of(decisions.archives, self._levels.archive_codes),
            levels_of(decisions.groups, self._levels.group_codes),
            strict=True,
        )
        labels = self.labels
        return [
            Answer(
                id=id,
                primary=labels[columns[0]] if reason == _ACCEPTED else None,
                reason=REASONS[reason],
                probability=values[0],
                ranked=self._ranked(columns, values, len(columns)),
                cross_lists=tuple([labels[i] for i in cross]),
                set=tuple([labels[i] for i in in_set]) if no_set is None else None,
                set_reason=no_set,
                levels=Levels(archives, groups),
                model=self._model,
            )
            for id, columns, values, reason, cross, in_set, no_set, archives, groups in rows
        ]

    def answer(
        self, raw: RawScores, identifier: str | None, *, top: int, threshold: float | None = None
    ) -> Answer:
        """Return the answer of one paper: what ``decide`` and ``answers`` give, in half the time.

        Only the labels that the answer can name are put in order, not all k of them.

        Args:
            raw: scores of one paper.
            identifier: of the paper.
            top: as for ``answers``.
            threshold: as for ``decide``.

        Raises:
            InvalidScores, UsageError: as ``decide`` and ``answers``.
        """
        is_one = raw.scores.shape == (1, len(self.labels)) and len(raw.known_share) == 1
        if threshold is not None or not is_one or not _is_finite(raw):
            self._check(raw, threshold)
        check_top(top)
        array, energy = softmax(raw.scores, self._policy.temperature)
        if raw.text_scores is not None:
            _, energy = softmax(raw.text_scores, self._policy.temperature)
        row = array[0]
        count = max(top, int(np.count_nonzero(row >= self._cutoff)))
        columns = np.argsort(-row, kind="stable")[:count]
        order: list[int] = columns.tolist()
        falling: list[float] = row[columns].tolist()
        reason = self._reason(order[0], falling[0], raw.known_share[0], energy[0], threshold)
        archives, groups = self._levels.sums(array)
        counts = raw.n_terms
        has_set = reason != _OUT_OF_SCOPE and (
            counts is None or float(raw.known_share[0]) * int(counts[0]) >= self._policy.set_terms
        )
        return Answer(
            id=identifier,
            primary=self.labels[order[0]] if reason == _ACCEPTED else None,
            reason=REASONS[reason],
            probability=falling[0],
            ranked=self._ranked(order, falling, top),
            cross_lists=self._cross_lists(order, falling) if reason == _ACCEPTED else (),
            set=self._set(order, falling) if has_set else None,
            set_reason=None if has_set else _why_no_set(reason),
            levels=Levels(
                levels_of_one(archives[0].tolist(), self._levels.archive_codes),
                levels_of_one(groups[0].tolist(), self._levels.group_codes),
            ),
            model=self._model,
        )

    def _reason(
        self,
        best: int,
        probability: float,
        known_share: np.float32,
        energy: np.float64,
        threshold: float | None,
    ) -> int:
        """Return the index of one paper's reason: ``_reasons`` without arrays."""
        bias, share_weight, energy_weight = self._policy.scope_weights
        scope = bias + share_weight * float(known_share) + energy_weight * float(energy)
        if scope < self._policy.scope_threshold:
            return _OUT_OF_SCOPE
        needed = self._policy.thresholds[best] if threshold is None else threshold
        return _ACCEPTED if probability >= needed else _BELOW_THRESHOLD

    def _ranked(self, order: list[int], falling: list[float], top: int) -> tuple[Ranked, ...]:
        labels, names, reliability = self.labels, self.names, self._reliability
        pairs = zip(order[:top], falling, strict=False)
        return tuple([Ranked(labels[i], names[i], p, reliability[i]) for i, p in pairs])

    def _set(self, order: list[int], falling: list[float]) -> tuple[str, ...]:
        """Return the prediction set: the top label, and all that are probable enough."""
        lowest = self._policy.set_threshold
        pairs = zip(order[1:], falling[1:], strict=True)
        return (self.labels[order[0]], *[self.labels[i] for i, p in pairs if p >= lowest])

    def _cross_lists(self, order: list[int], falling: list[float]) -> tuple[str, ...]:
        needed = self._policy.cross_list_thresholds
        pairs = zip(order[1:], falling[1:], strict=True)
        return tuple([self.labels[i] for i, p in pairs if p >= needed[i]])

    def _reasons(
        self, reaches: Mask, known_share: NDArray[np.float32], energy: Floats
    ) -> NDArray[np.int8]:
        bias, share_weight, energy_weight = self._policy.scope_weights
        scope = bias + share_weight * known_share.astype(np.float64) + energy_weight * energy
        reasons = np.where(reaches, np.int8(_ACCEPTED), np.int8(_BELOW_THRESHOLD))
        reasons[scope < self._policy.scope_threshold] = _OUT_OF_SCOPE
        return reasons

    def _has_terms(self, raw: RawScores) -> Mask:
        """Return which texts have enough known terms for a prediction set."""
        if raw.n_terms is None:
            return np.ones(len(raw.known_share), dtype=np.bool_)
        return np.asarray(raw.known_share * raw.n_terms >= self._policy.set_terms)

    def _check(self, raw: RawScores, threshold: float | None) -> None:
        n, k = len(raw.known_share), len(self.labels)
        if raw.scores.shape != (n, k):
            raise InvalidScores(
                f"scores have shape {raw.scores.shape}, expected {(n, k)} for {n} papers and the "
                f"{k} labels of {self._model.name}. Export the model again."
            )
        finite = np.isfinite(raw.scores).all(axis=1) & np.isfinite(raw.known_share)
        if not finite.all():
            raise InvalidScores(
                f"model {self._model.name} {self._model.version} gave scores that are not finite "
                f"numbers for paper {int(np.argmin(finite))} of {n}. Install or fit it again."
            )
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"threshold must be within 0..1, got {threshold}.")

    def _per_label(self, name: str) -> Floats:
        values = np.asarray(getattr(self._policy, name), dtype=np.float64)
        if values.shape != (len(self.labels),):
            raise BundleIncompatible(
                f"model {self._model.name} has {len(self.labels)} labels but {len(values)} {name}. "
                "Export it again."
            )
        return values


def _why_no_set(reason: int) -> NoSetReason:
    return "out_of_scope" if reason == _OUT_OF_SCOPE else "few_known_terms"


def _selected(order: NDArray[np.intp], mask: Mask) -> list[list[int]]:
    """Return the columns chosen by a mask, for each row by falling probability."""
    columns, ends = (array.tolist() for array in selected_columns(order, mask))
    return [columns[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def selected_columns(
    order: NDArray[np.intp], mask: Mask
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the columns chosen by a mask, row after row, and where each row ends: intp [n].

    Args:
        order: as in ``Decisions``; each row's columns come in this order.
        mask: as in ``Decisions``: which of them.
    """
    rows, ranks = np.nonzero(np.take_along_axis(mask, order, axis=1))
    return order[rows, ranks], np.cumsum(mask.sum(axis=1))


def _is_finite(raw: RawScores) -> bool:
    """Tell cheaply that every number is finite; a sum that overflows says no, rightly or not."""
    return math.isfinite(np.add.reduce(raw.scores[0])) and math.isfinite(raw.known_share[0])


def check_top(top: int) -> None:
    """Raise UsageError if no category is asked for."""
    if top < 1:
        raise UsageError(f"top must be at least 1, got {top}. Ask for one category or more.")


def _categories(manifest: BundleManifest) -> list[Category]:
    known = {category.code: category for category in taxonomy.categories(active_only=False)}
    unknown = [label for label in manifest.labels if label not in known]
    if unknown:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} was fitted for taxonomy "
            f"{manifest.taxonomy!r}; {len(unknown)} of its {len(manifest.labels)} labels are not "
            f"in taxonomy {taxonomy.VERSION!r} (first: {unknown[0]!r}). Export it again."
        )
    return [known[label] for label in manifest.labels]
