"""The few terms that decided an answer; what they leave unexplained is listed too."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from classmark.kernels.scorer import RawScores
from classmark.papers import normalise
from classmark.wire import Evidence

EXACT_LINEAR = "exact_linear"
OCCLUSION = "occlusion"
N_TERMS = 12
BIAS = "(bias)"
RESIDUAL = "(residual)"
OTHER_TERMS = "(other terms)"
BESIDE_TEXT = {
    (True, False): "(authors)",
    (False, True): "(neighbours)",
    (True, True): "(authors and neighbours)",
}
"""What else adds to the text or takes from it, by whether authors and neighbours were used."""
MOST_WORDS = 48
"""Words that are left out in turn, each at the price of a paper."""
_WORD = re.compile(r"[^\W_][\w'-]*[^\W_]")
_LEAST_CHARS = 3

Score = Callable[[Sequence[tuple[str, str]]], RawScores]


def explain(
    contributions: Sequence[tuple[str, float]], *, temperature: float
) -> tuple[Evidence, ...]:
    """Return the evidence for the top category against the runner-up.

    Weights are logits divided by the temperature, so they sum to ``log(p_top / p_runner_up)`` of
    the published probabilities (up to the float32 rounding of the scores).

    Args:
        contributions: every term with its weight in raw logits; the bias of a linear model under
            ``(bias)``, what occlusion leaves unexplained under ``(residual)``.
        temperature: of the bundle's policy.

    Returns:
        The heaviest terms by falling magnitude, then bias or residual, then one entry for
        all terms that are not listed, if there are any.
    """
    scaled = [Evidence(term, weight / temperature) for term, weight in contributions]
    rest = RESIDUAL if any(e.term == RESIDUAL for e in scaled) else BIAS
    terms = sorted((e for e in scaled if e.term != rest), key=lambda e: (-abs(e.weight), e.term))
    remainder = Evidence(rest, math.fsum(e.weight for e in scaled if e.term == rest))
    listed, others = terms[:N_TERMS], terms[N_TERMS:]
    if not others:
        return (*listed, remainder)
    return (*listed, remainder, Evidence(OTHER_TERMS, math.fsum(e.weight for e in others)))


def occlude(
    score: Score, title: str, abstract: str, top: int, other: int
) -> list[tuple[str, float]]:
    """Return what each word adds to ``score[top] - score[other]``, and the residual.

    A word's weight is what the difference loses when the word is left out wherever it stands, in
    whatever case. Words are few: the title's first, then the abstract's most frequent.

    Args:
        score: scores raw (title, abstract) pairs.
        title: of the paper.
        abstract: of the paper.
        top: column of the top label.
        other: column of the label that it is compared with.
    """
    title, abstract = normalise(title), normalise(abstract)
    words = _choose_words(title, abstract)
    variants = [(_without(word, title), _without(word, abstract)) for word in words]
    scores = score([(title, abstract), *variants]).scores.astype(float)
    differences = (scores[:, top] - scores[:, other]).tolist()
    weights = [differences[0] - difference for difference in differences[1:]]
    residual = differences[0] - math.fsum(weights)
    return [*zip(words, weights, strict=True), (RESIDUAL, residual)]


def _choose_words(title: str, abstract: str) -> list[str]:
    """Return words in lower case, each once."""
    in_title, in_abstract = _words(title), Counter(_words(abstract))
    by_count = [word for word, _ in in_abstract.most_common()]
    return list(dict.fromkeys([*in_title, *by_count]))[:MOST_WORDS]


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if len(word) >= _LEAST_CHARS]


def _without(word: str, text: str) -> str:
    return re.sub(rf"(?<![\w'-]){re.escape(word)}(?![\w'-])", "", text, flags=re.IGNORECASE)
