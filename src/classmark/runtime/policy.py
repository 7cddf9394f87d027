"""From raw scores to published answers: probabilities, thresholds, scope, sets, levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from classmark import taxonomy
from classmark.errors import BundleIncompatible, InvalidScores, UsageError
from classmark.kernels import RawScores
from classmark.kernels.calibration import softmax
from classmark.records import BundleManifest
from classmark.runtime.answers import Part
from classmark.runtime.decisions import (
    ACCEPTED,
    BELOW_THRESHOLD,
    OUT_OF_SCOPE,
    REASONS,
    Decisions,
    Floats,
    Mask,
    in_order,
    why_no_set,
)
from classmark.runtime.levels import levels_of_one, make_levels
from classmark.runtime.lines import Form
from classmark.wire import (
    Answer,
    Category,
    Levels,
    ModelRef,
    Reliability,
    TextAlone,
)

LEAST_NAMED = 2
"""Of each paper: an explanation is about its first label and its second one."""


class Decider:
    """The policy of one bundle, ready for batches of any size; it never changes, so it is shared.

    Attributes:
        labels: k codes.
        names: k names, the codes themselves for free labels.
        temperature: softmax(scores / temperature) is the calibrated probability.
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
        self.temperature = manifest.policy.temperature
        is_arxiv = manifest.label_space == "arxiv"
        categories = _categories(manifest) if is_arxiv else []
        self.names = tuple(c.name for c in categories) or manifest.labels
        measured = reliability or {}
        self._levels = make_levels([(c.group, c.archive) for c in categories])
        self._form = Form(
            labels=self.labels,
            names=self.names,
            reliability=tuple(measured.get(label) for label in self.labels),
            archives=self._levels.archive_codes,
            groups=self._levels.group_codes,
            model=model,
        )
        self._thresholds = self._per_label("thresholds")
        self._cross_list_thresholds = self._per_label("cross_list_thresholds")
        self._set_thresholds = np.array(
            [self._policy.set_threshold_of(used_authors=used) for used in (False, True)]
        )
        self._cutoff = min(*self._set_thresholds.tolist(), *self._policy.cross_list_thresholds)

    def decide(self, raw: RawScores, *, top: int = 1, threshold: float | None = None) -> Decisions:
        """Decide on a batch.

        Args:
            raw: scores of n papers over the k labels of the bundle.
            top: how many labels of each paper to put in order at least.
            threshold: replaces every label's own threshold of acceptance, 0..1.

        Raises:
            InvalidScores: a score is not a finite number, or the shapes do not fit.
            UsageError: the threshold is not within 0..1, or ``top`` is below 1.
        """
        self._check(raw, threshold)
        check_top(top)
        probabilities, energy = softmax(raw.scores, self._policy.temperature)
        if raw.text_scores is not None:  # the text alone says what is in scope
            _, energy = softmax(raw.text_scores, self._policy.temperature)
        columns, falling, starts = in_order(probabilities, top, self._cutoff)
        firsts = starts[:-1]
        needed = self._thresholds[columns[firsts]] if threshold is None else threshold
        reasons = self._reasons(falling[firsts] >= needed, raw.known_share, energy)
        of_sets = self._set_thresholds[raw.with_authors.astype(np.intp)]
        in_set = falling >= np.repeat(of_sets, np.diff(starts))
        in_set[firsts] = True
        cross_listed = falling >= self._cross_list_thresholds[columns]
        cross_listed[firsts] = False
        cross_listed &= np.repeat(reasons == ACCEPTED, np.diff(starts))
        archives, groups = self._levels.sums(probabilities)
        has_set = (reasons != OUT_OF_SCOPE) & self._has_terms(raw)
        return Decisions(
            *(probabilities, columns, falling, starts, reasons),
            *(cross_listed, in_set, has_set, archives, groups),
        )

    def answers(
        self,
        raw: RawScores,
        ids: Sequence[str | None],
        *,
        top: int,
        threshold: float | None = None,
    ) -> Part:
        """Return the answers of a batch, each made when it is asked for.

        Args:
            raw: scores of n papers.
            ids: n identifiers.
            top: how many categories to rank, at least 1; more than there are gives all.
            threshold: as for ``decide``.

        Raises:
            InvalidScores, UsageError: as ``decide``.
        """
        check_top(top)
        decisions = self.decide(raw, top=max(top, LEAST_NAMED), threshold=threshold)
        part = Part(self._form, decisions.named(), ids, min(top, len(self.labels)))
        if raw.text_scores is None:
            return part
        alone = self._text_alone(raw)
        return part.with_extra({"text_alone": [alone.get(row) for row in range(len(ids))]})

    def answer(
        self, raw: RawScores, identifier: str | None, *, top: int, threshold: float | None = None
    ) -> Answer:
        """Return the answer of one paper: what ``answers`` gives, in half the time.

        Only the labels that the answer can name are put in order, not all k of them.

        Args:
            raw: scores of one paper.
            identifier: of the paper.
            top: as for ``answers``.
            threshold: as for ``decide``.

        Raises:
            InvalidScores, UsageError: as ``decide``.
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
        has_set = reason != OUT_OF_SCOPE and (
            counts is None or float(raw.known_share[0]) * int(counts[0]) >= self._policy.set_terms
        )
        return Answer(
            id=identifier,
            primary=self.labels[order[0]] if reason == ACCEPTED else None,
            reason=REASONS[reason],
            probability=falling[0],
            ranked=self._form.ranked(order[:top], falling),
            cross_lists=self._cross_lists(order, falling) if reason == ACCEPTED else (),
            set=self._set(order, falling, raw) if has_set else None,
            set_reason=None if has_set else why_no_set(reason),
            levels=Levels(
                levels_of_one(archives[0].tolist(), self._levels.archive_codes),
                levels_of_one(groups[0].tolist(), self._levels.group_codes),
            ),
            text_alone=self._text_alone(raw).get(0),
            model=self._model,
        )

    def _text_alone(self, raw: RawScores) -> dict[int, TextAlone]:
        """Return what the text alone ranks first, of the papers where authors changed that."""
        changed = raw.changed_tops()
        if not changed:
            return {}
        probabilities, _ = softmax(raw.of_text[list(changed)], self._policy.temperature)
        pairs = zip(changed.items(), probabilities, strict=True)
        return {
            row: TextAlone(self.labels[top], float(values[top])) for (row, top), values in pairs
        }

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
            return OUT_OF_SCOPE
        needed = self._policy.thresholds[best] if threshold is None else threshold
        return ACCEPTED if probability >= needed else BELOW_THRESHOLD

    def _set(self, order: list[int], falling: list[float], raw: RawScores) -> tuple[str, ...]:
        """Return the prediction set: the top label, and all that are probable enough."""
        lowest = self._set_thresholds[int(raw.with_authors[0])]
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
        reasons = np.where(reaches, np.int8(ACCEPTED), np.int8(BELOW_THRESHOLD))
        reasons[scope < self._policy.scope_threshold] = OUT_OF_SCOPE
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
        if threshold is not None and not (_is_a(Real, threshold) and 0 <= threshold <= 1):
            raise UsageError(f"threshold must be a number within 0..1, got {threshold!r}.")

    def _per_label(self, name: str) -> Floats:
        values = np.asarray(getattr(self._policy, name), dtype=np.float64)
        if values.shape != (len(self.labels),):
            raise BundleIncompatible(
                f"model {self._model.name} has {len(self.labels)} labels but {len(values)} {name}. "
                "Export it again."
            )
        return values


def _is_finite(raw: RawScores) -> bool:
    """Tell cheaply that every number is finite; a sum that overflows says no, rightly or not."""
    return math.isfinite(np.add.reduce(raw.scores[0])) and math.isfinite(raw.known_share[0])


def check_top(top: int) -> None:
    """Raise UsageError if this is not a number of categories."""
    if not _is_a(Integral, top) or top < 1:
        raise UsageError(f"top must be an integer of at least 1, got {top!r}.")


def _is_a(kind: type, value: object) -> bool:
    """Tell a number of a kind; True and False, which Python takes for 1 and 0, are not numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


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
