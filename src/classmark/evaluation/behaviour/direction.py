"""More of a category's words make it more probable, fewer make it less."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from classmark.evaluation.behaviour.texts import (
    Entry,
    Held,
    Sentences,
    invented_papers,
    probability_of,
)
from classmark.papers import normalise
from classmark.records import Paper
from classmark.runtime import Classifier

_PAPERS_OF_A_CATEGORY = 6
_STRIDE_OF_CATEGORIES, _STRIDE_OF_PAPERS = 5, 11
_DECISIVE = 5
_NO_TERMS = frozenset({"(bias)", "(other terms)", "residual", "(residual)"})


def _of_other_archives(classifier: Classifier, sentences: Sentences) -> list[tuple[str, Paper]]:
    """Return categories with papers of other archives, the same ones every time."""
    chosen = []
    for place, code in enumerate(sentences):
        archive = code.partition(".")[0]
        others = [p for p in invented_papers() if not (p.category_code or "").startswith(archive)]
        start = place * _STRIDE_OF_CATEGORIES
        chosen += [
            (code, others[(start + i * _STRIDE_OF_PAPERS) % len(others)])
            for i in range(_PAPERS_OF_A_CATEGORY)
        ]
    return [(code, paper) for code, paper in chosen if code in classifier.labels]


def _longer(code: str, paper: Paper, sentences: Sentences) -> Paper:
    return replace(paper, abstract=f"{paper.abstract} {sentences[code]}")


def _raised(classifier: Classifier, sentences: Sentences) -> Held:
    chosen = _of_other_archives(classifier, sentences)
    everything = len(classifier.labels)
    before = classifier.classify([paper for _, paper in chosen], top=everything)
    after = classifier.classify([_longer(c, p, sentences) for c, p in chosen], top=everything)
    return {
        f"{code} in {paper.id}": probability_of(code, b) > probability_of(code, a)
        for (code, paper), a, b in zip(chosen, before, after, strict=True)
    }


def _lowered(classifier: Classifier, sentences: Sentences) -> Held:
    chosen = _of_other_archives(classifier, sentences)
    everything = len(classifier.labels)
    before = classifier.classify([paper for _, paper in chosen], top=everything)
    after = classifier.classify([_longer(c, p, sentences) for c, p in chosen], top=everything)
    return {
        f"{code} in {a.id}": probability_of(a.ranked[0].code, b) < a.probability
        for (code, _), a, b in zip(chosen, before, after, strict=True)
    }


def _without_terms(classifier: Classifier, _: Sentences) -> Held:
    papers = invented_papers()
    answers = classifier.classify(papers, explain=True)
    everything = len(classifier.labels)
    held = {}
    for paper, answer in zip(papers, answers, strict=True):
        words = decisive_words([(e.term, e.weight) for e in answer.explanation or ()])
        if words:
            shorter = classifier.classify(without(paper, words), top=everything)
            code = answer.ranked[0].code
            held[answer.id or ""] = probability_of(code, shorter) < answer.probability
    return held


def decisive_words(evidence: list[tuple[str, float]], most: int = _DECISIVE) -> set[str]:
    """Return the words of the first terms that speak for a category."""
    terms = [term for term, weight in evidence if weight > 0 and term not in _NO_TERMS]
    return {word for term in terms[:most] for word in term.lower().split()}


def without(paper: Paper, words: set[str]) -> Paper:
    """Return a paper without some words."""

    def shorten(text: str) -> str:
        kept = (w for w in re.findall(r"\w+|\W+", normalise(text)) if w.lower() not in words)
        return " ".join("".join(kept).split())

    return replace(paper, title=shorten(paper.title), abstract=shorten(paper.abstract))


DIRECTIONS: Mapping[str, Entry] = {
    "sentence-raises": ("a category's sentence raises its probability", 0.97, _raised),
    "sentence-lowers": ("another category's sentence lowers the paper's own", 0.8, _lowered),
    "decisive-terms": (
        "a category is less probable without its decisive terms",
        0.97,
        _without_terms,
    ),
}
