"""The one answer that everything publishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["accepted", "below_threshold", "out_of_scope"]
NoSetReason = Literal["out_of_scope", "few_known_terms"]


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a category fared on the test papers of the model.

    Attributes:
        precision: share of ``papers`` that belong to the category, 0..1; None if there are none.
        papers: test papers for which the model ranked the category first.
    """

    precision: float | None
    papers: int

    @property
    def is_rarely_right(self) -> bool:
        """The category was never right when it came first, or never came first."""
        return not self.precision


@dataclass(frozen=True, slots=True)
class Ranked:
    """One category with its calibrated probability, 0..1.

    ``reliability`` is None if the bundle holds no measurement of the category.
    """

    code: str
    name: str
    probability: float
    reliability: Reliability | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the published JSON object."""
        measured = self.reliability
        return {
            "code": self.code,
            "name": self.name,
            "probability": self.probability,
            "reliability": None
            if measured is None
            else {"precision": measured.precision, "papers": measured.papers},
        }


@dataclass(frozen=True, slots=True)
class Level:
    """An archive or a group with the sum of its categories' probabilities, 0..1."""

    code: str
    probability: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """One term and what it adds to (top - runner-up), in logits."""

    term: str
    weight: float


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model answered: name, version, and digest of its bundle."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The categories of one paper; see ``docs/reference/answer.md`` for the JSON form.

    Attributes:
        id: the record's id, else its line number, else None.
        primary: the accepted category, None when the model abstains.
        reason: why it was accepted or not.
        ranked: the top k categories, most probable first.
        cross_lists: further categories that the paper probably belongs to.
        set: the prediction set; None where it would promise too much. ``docs/reference/answer.md``
            says what it promises.
        archives: sums of probabilities by archive, most probable first; empty for free labels.
        groups: the same by group.
        explanation: terms for and against the top category; None unless asked for.
        explanation_method: "exact_linear" or "occlusion"; None unless asked for.
        set_reason: why ``set`` is None; None if there is a set.
        model: who answered.
        known_share: share of the text's terms that the model knows, 0..1; the journal keeps it, the
            published object does not.
    """

    id: str | None
    primary: str | None
    reason: Reason
    ranked: tuple[Ranked, ...]
    cross_lists: tuple[str, ...]
    set: tuple[str, ...] | None
    archives: tuple[Level, ...]
    groups: tuple[Level, ...]
    model: ModelRef
    explanation: tuple[Evidence, ...] | None = None
    explanation_method: str | None = None
    set_reason: NoSetReason | None = None
    known_share: float = 0.0

    @property
    def probability(self) -> float:
        """Probability of the top category, also when ``primary`` is None."""
        return self.ranked[0].probability

    def to_dict(self) -> dict[str, Any]:
        """Return the published JSON object; programs depend on its keys."""
        answer: dict[str, Any] = {
            "id": self.id,
            "primary": self.primary,
            "reason": self.reason,
            "probability": self.probability,
            "ranked": [r.to_dict() for r in self.ranked],
            "cross_lists": list(self.cross_lists),
            "set": None if self.set is None else list(self.set),
        }
        if self.set is None:
            answer["set_reason"] = self.set_reason
        answer["levels"] = {
            "archive": [{"code": v.code, "probability": v.probability} for v in self.archives],
            "group": [{"code": v.code, "probability": v.probability} for v in self.groups],
        }
        if self.explanation is not None:
            answer["explanation"] = [{"term": e.term, "weight": e.weight} for e in self.explanation]
            answer["explanation_method"] = self.explanation_method
        answer["model"] = {
            "name": self.model.name,
            "version": self.model.version,
            "digest": self.model.digest,
        }
        return answer
