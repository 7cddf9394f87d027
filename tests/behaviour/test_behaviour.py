"""What every installed model does on invented texts; how often is printed (pytest -rP)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from classmark import Classifier
from classmark.bundle import find_bundle, load_bundle
from classmark.dataset import category_sentences
from classmark.evaluation.behaviour import BEHAVIOURS, invented_papers, measure_behaviour
from classmark.evaluation.behaviour.invariance import in_markup
from classmark.evaluation.behaviour.texts import unmistakable_texts
from classmark.kernels import RawScores
from classmark.taxonomy import categories

SENTENCES = category_sentences()
SLOW = {"sentence-raises"}
MANY_CASES = {"sentence-raises", "sentence-lowers", "decisive-terms", "latex", "remark"}


class DeafScorer:
    """Gives every text the same scores; a title in capitals gets others."""

    explanation_method = "exact_linear"

    def __init__(self, n_labels: int, *, heeds_case: bool = False) -> None:
        self._n_labels, self._heeds_case = n_labels, heeds_case

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        scores = np.zeros((len(papers), self._n_labels), np.float32)
        scores[:, 3] = 15.0
        if self._heeds_case:
            scores[[title.isupper() for title, _ in papers], 5] = 20.0
        return RawScores(scores, np.ones(len(papers), np.float32))

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        return [("(bias)", 9.0)]


def deaf(*, heeds_case: bool = False) -> Classifier:
    bundle = load_bundle(find_bundle("fast"))
    scorer = DeafScorer(len(bundle.manifest.labels), heeds_case=heeds_case)
    return Classifier.from_bundle(bundle, scorer=scorer)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in BEHAVIOURS],
)
def test_every_installed_model_behaves(classifier: Classifier, name: str) -> None:
    behaviour = BEHAVIOURS[name]
    found = measure_behaviour(name, classifier, SENTENCES)
    assert found.rate is not None
    words = f"{behaviour.claim}: {found.rate:.3f} of {found.cases}, at least {behaviour.least:.3f}"
    print(words)  # noqa: T201
    assert found.rate >= behaviour.least, f"{behaviour.claim}: not for {', '.join(found.failed)}"
    assert found.cases >= (150 if name in MANY_CASES else 5)


def test_a_model_that_heeds_no_word_fails_what_depends_on_words() -> None:
    model = deaf()
    for name in ("sentence-raises", "sentence-lowers", "archive", "in-scope"):
        found = measure_behaviour(name, model, SENTENCES)
        assert (found.rate or 0.0) < BEHAVIOURS[name].least, name
    assert measure_behaviour("sentence-order", deaf(), SENTENCES).rate == 1.0


def test_a_model_that_heeds_capitals_fails_that_alone_and_names_the_papers() -> None:
    found = measure_behaviour("title-upper", deaf(heeds_case=True), SENTENCES)
    assert found.rate == 0.0
    assert len(found.failed) == 20
    assert found.failed[0] in {paper.id for paper in invented_papers()}
    assert measure_behaviour("title-lower", deaf(heeds_case=True), SENTENCES).rate == 1.0


def test_a_behaviour_without_a_case_has_no_rate() -> None:
    found = measure_behaviour("sentence-raises", deaf(), {})
    assert (found.rate, found.cases, found.failed) == (None, 0, ())


def test_there_are_three_texts_for_every_archive_that_is_active() -> None:
    counts = Counter(archive for archive, _ in unmistakable_texts().values())
    assert set(counts) == {category.archive for category in categories()}
    assert set(counts.values()) == {3}
    assert len({text for _, text in unmistakable_texts().values()}) == sum(counts.values())


def test_the_markup_of_publishers_is_not_among_the_reasons(classifier: Classifier) -> None:
    paper = invented_papers()[0]
    answer = classifier.classify(replace(paper, abstract=in_markup(paper.abstract)), explain=True)
    terms = " ".join(evidence.term for evidence in answer.explanation or ())
    assert "jats" not in terms
    assert "italic" not in terms
