"""More of a category's words make it more probable, fewer make it less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files

import pytest
from behaviour_rates import assert_rate, golden_papers, probability_of

from classmark import Classifier, Paper
from classmark.papers import normalise

PAPERS = golden_papers()
VOCABULARY = json.loads((files("classmark.dataset.sample") / "vocabulary.json").read_text("utf-8"))
PAPERS_OF_A_CATEGORY = 6
DECISIVE = 5
NO_TERMS = {"(bias)", "(other terms)", "residual", "(residual)"}


def sentence_of(code: str) -> str:
    """Return a sentence made of our own terms of a category."""
    terms = VOCABULARY[code]
    topic, objects, method = terms["topics"][0], terms["objects"][:2], terms["methods"][0]
    return f"We turn to {topic}: {objects[0]} and {objects[1]}, with {method}."


def strangers_of(code: str) -> list[Paper]:
    """Return papers of other archives, the same ones every time."""
    archive = code.partition(".")[0]
    others = [p for p in PAPERS if not (p.category_code or "").startswith(archive)]
    start = list(VOCABULARY).index(code) * 5
    return [others[(start + i * 11) % len(others)] for i in range(PAPERS_OF_A_CATEGORY)]


def cases(classifier: Classifier) -> Iterator[tuple[str, Paper]]:
    for code in VOCABULARY:
        if code in classifier.labels:
            for paper in strangers_of(code):
                yield code, paper


@pytest.mark.slow
def test_a_sentence_of_a_category_raises_its_probability(classifier: Classifier) -> None:
    chosen = list(cases(classifier))
    everything = len(classifier.labels)
    before = classifier.classify([paper for _, paper in chosen], top=everything)
    longer = [
        replace(paper, abstract=f"{paper.abstract} {sentence_of(code)}") for code, paper in chosen
    ]
    after = classifier.classify(longer, top=everything)
    held = {
        f"{code} in {paper.id}": probability_of(code, b) > probability_of(code, a)
        for (code, paper), a, b in zip(chosen, before, after, strict=True)
    }
    assert len(held) >= 150
    assert_rate("a category's sentence raises its probability", held, 0.97)


def test_a_sentence_of_another_category_lowers_the_papers_own(classifier: Classifier) -> None:
    chosen = list(cases(classifier))
    everything = len(classifier.labels)
    before = classifier.classify([paper for _, paper in chosen], top=everything)
    longer = [
        replace(paper, abstract=f"{paper.abstract} {sentence_of(code)}") for code, paper in chosen
    ]
    after = classifier.classify(longer, top=everything)
    held = {
        f"{code} in {a.id}": probability_of(a.ranked[0].code, b) < a.probability
        for (code, _), a, b in zip(chosen, before, after, strict=True)
    }
    assert_rate("another category's sentence lowers the paper's own", held, 0.8)


def test_without_its_decisive_terms_a_category_is_less_probable(classifier: Classifier) -> None:
    answers = classifier.classify(PAPERS, explain=True)
    everything = len(classifier.labels)
    held = {}
    for paper, answer in zip(PAPERS, answers, strict=True):
        words = decisive_words(
            [(e.term, e.weight) for e in answer.explanation or ()], most=DECISIVE
        )
        if words:
            shorter = classifier.classify(without(paper, words), top=everything)
            code = answer.ranked[0].code
            held[answer.id or ""] = probability_of(code, shorter) < answer.probability
    assert len(held) >= 150
    assert_rate("a category is less probable without its decisive terms", held, 0.97)


def decisive_words(evidence: list[tuple[str, float]], most: int) -> set[str]:
    terms = [term for term, weight in evidence if weight > 0 and term not in NO_TERMS]
    return {word for term in terms[:most] for word in term.lower().split()}


def without(paper: Paper, words: set[str]) -> Paper:
    def shorten(text: str) -> str:
        kept = (w for w in re.findall(r"\w+|\W+", normalise(text)) if w.lower() not in words)
        return " ".join("".join(kept).split())

    return replace(paper, title=shorten(paper.title), abstract=shorten(paper.abstract))
