"""The one answer that everything publishes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Reason = Literal["accepted", "below_threshold", "out_of_scope"]
Verdict = Literal["confirmed", "plausible", "challenged", "unknown"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One category with its calibrated probability, 0..1."""

    code: str
    name: str
    probability: float


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


@dataclass(frozen=True, slots=True)
class AuthorCategory:
    """What an answer makes of the category that the author chose, or of a whole archive.

    Attributes:
        code: canonical; as it was written if it is unknown.
        verdict: ``docs/reference/answer.md`` has the rules.
        rank: place among all categories, of an archive among all archives; 1 is first, None if the
            model does not have it.
        probability: of an archive the sum of its categories.
    """

    code: str
    verdict: Verdict
    rank: int | None = None
    probability: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The categories of one paper; see ``docs/reference/answer.md`` for the JSON form.

    Attributes:
        id: the record's id, else its line number, else None.
        primary: the accepted category, None when the model abstains.
        reason: why it was accepted or not.
        ranked: the top k categories, most probable first.
        cross_lists: further categories that the paper probably belongs to.
        set: categories that hold the right one with the bundle's stated coverage (90 %).
        archives: sums of probabilities by archive, most probable first; empty for free labels.
        groups: the same by group.
        explanation: terms for and against the top category; None unless asked for.
        explanation_method: "exact_linear" or "occlusion"; None unless asked for.
        author_category: what it makes of the author's category; None unless asked for.
        model: who answered.
        known_share: share of the text's terms that the model knows, 0..1; the journal keeps it, the
            published object does not.
    """

    id: str | None
    primary: str | None
    reason: Reason
    ranked: tuple[Ranked, ...]
    cross_lists: tuple[str, ...]
    set: tuple[str, ...]
    archives: tuple[Level, ...]
    groups: tuple[Level, ...]
    model: ModelRef
    explanation: tuple[Evidence, ...] | None = None
    explanation_method: str | None = None
    author_category: AuthorCategory | None = None
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
            "ranked": [
                {"code": r.code, "name": r.name, "probability": r.probability} for r in self.ranked
            ],
            "cross_lists": list(self.cross_lists),
            "set": list(self.set),
            "levels": {
                "archive": [{"code": v.code, "probability": v.probability} for v in self.archives],
                "group": [{"code": v.code, "probability": v.probability} for v in self.groups],
            },
        }
        if self.explanation is not None:
            answer["explanation"] = [{"term": e.term, "weight": e.weight} for e in self.explanation]
            answer["explanation_method"] = self.explanation_method
        answer["model"] = {
            "name": self.model.name,
            "version": self.model.version,
            "digest": self.model.digest,
        }
        if self.author_category is not None:
            answer["author_category"] = asdict(self.author_category)
        return answer
