"""The few terms that decided an answer; what they leave unexplained is listed too."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from classmark.kernels.scorer import RawScores
from classmark.papers import normalise
from classmark.wire import Evidence

if TYPE_CHECKING:
    from classmark.kernels.authors import Career

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
"""What else adds to the text or takes from it: authors whose names were not kept, neighbours."""
MOST_WORDS = 48
"""Words that are left out in turn, each at the price of a paper."""
_WORD = re.compile(r"[^\W_][\w'-]*[^\W_]")
_LEAST_CHARS = 3
_NAME_CHARS = 60
_LABELS = 3

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


def terms_beside_text(
    shares: Sequence[tuple[Career, float]],
    labels: Sequence[str],
    change: float,
    *,
    used_authors: bool = True,
    used_neighbours: bool = False,
) -> list[tuple[str, float]]:
    """Return a term for each known author: "Emmy Noether: 12 earlier papers: math.RA 9, math.AC 3".

    What the authors leave of the change is a term of the neighbours, if they were used.

    The name is spelled as the paper spells it, cut if it is long. An author whose name is unknown
    is found by surname and first initial, which other people may share.

    Args:
        shares: what each author adds.
        labels: of the columns.
        change: by all of them, which is one term if nobody knows who they were.
        used_authors: whether they were used.
        used_neighbours: the same of neighbours.
    """
    terms = [(_author_term(career, labels), weight) for career, weight in shares]
    if terms and not used_neighbours:
        return terms
    rest = change - math.fsum(weight for _, weight in terms)
    return [*terms, (BESIDE_TEXT[used_authors and not terms, used_neighbours], rest)]


def _author_term(career: Career, labels: Sequence[str]) -> str:
    name = " ".join(career.name.split())
    name = name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"
    found = "" if career.is_named else " (by surname and initial)"
    n = career.papers.total()
    parts = [f"{labels[column]} {count}" for column, count in career.papers.most_common(_LABELS)]
    if rest := n - sum(count for _, count in career.papers.most_common(_LABELS)):
        parts.append(f"others {rest}")
    papers = "1 earlier paper" if n == 1 else f"{n:,} earlier papers"
    return f"{name}{found}: {papers}: {', '.join(parts)}"


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
