"""What a model of arXiv's categories must do on invented texts, each in a share of the cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from classmark.evaluation.behaviour.direction import DIRECTIONS
from classmark.evaluation.behaviour.invariance import INVARIANCES
from classmark.evaluation.behaviour.minimum import MINIMA
from classmark.evaluation.behaviour.texts import (
    INVENTED_PAPERS_FILE,
    UNMISTAKABLE_FILE,
    Held,
    Sentences,
    invented_papers,
)
from classmark.runtime import Classifier

__all__ = [
    "BEHAVIOURS",
    "INVENTED_PAPERS_FILE",
    "UNMISTAKABLE_FILE",
    "Behaviour",
    "BehaviourRate",
    "Sentences",
    "invented_papers",
    "measure_behaviour",
]

_MOST_NAMED = 20


@dataclass(frozen=True)
class Behaviour:
    """One thing that a model must do.

    Attributes:
        name: e.g. ``title-upper``.
        claim: the same in words.
        least: share of the cases in which it must hold, 0..1.
        judge: returns, by case, whether it holds.
    """

    name: str
    claim: str
    least: float
    judge: Callable[[Classifier, Sentences], Held]


@dataclass(frozen=True)
class BehaviourRate:
    """How often one behaviour held.

    Attributes:
        name: of the behaviour.
        rate: share of the cases in which it held, 0..1; None if the model has no case of it.
        cases: how many there were.
        failed: the first cases in which it did not hold.
    """

    name: str
    rate: float | None
    cases: int
    failed: tuple[str, ...]


BEHAVIOURS: Mapping[str, Behaviour] = {
    name: Behaviour(name, claim, least, judge)
    for name, (claim, least, judge) in {**INVARIANCES, **DIRECTIONS, **MINIMA}.items()
}


def measure_behaviour(
    name: str, classifier: Classifier, sentences: Mapping[str, str]
) -> BehaviourRate:
    """Return how often a behaviour holds.

    Args:
        name: one of ``BEHAVIOURS``.
        classifier: a model whose labels are arXiv's.
        sentences: category -> a sentence made of its terms, as ``dataset.category_sentences``.
    """
    held = BEHAVIOURS[name].judge(classifier, sentences)
    failed = [case for case, is_held in held.items() if not is_held]
    rate = 1 - len(failed) / len(held) if held else None
    return BehaviourRate(name, rate, len(held), tuple(failed[:_MOST_NAMED]))
