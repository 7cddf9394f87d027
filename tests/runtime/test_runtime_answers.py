"""A list of answers over arrays is to its users a list of answers, and so is its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classmark import Classifier
from classmark.kernels import RawScores, count_terms
from classmark.kernels.featuriser import KERNEL
from classmark.records import BadRecord, BundleManifest, Policy
from classmark.runtime import Answers, Decider
from classmark.runtime.decisions import MOST_INSERTED, in_order, in_order_in_numpy
from classmark.wire import AuthorCategory, Evidence, ModelRef, Reliability, to_json

LABELS = {
    "arxiv": ("cs.LG", "hep-th", "math.CO", "stat.ML", "astro-ph.GA", "q-bio.NC"),
    "free": ("red", 'a "quoted", label', "blü", "half \ud800", "\n", "{}"),
}
K = len(LABELS["free"])
PAPERS = ["Graph colouring\nEvery planar graph has four colours.", "", "Dark matter in galaxies."]

needs_kernel = pytest.mark.skipif(KERNEL is None, reason="no C compiler at install")
texts = st.text(st.characters(), max_size=8)  # surrogates too
shares = st.floats(0, 1)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("fast")


@st.composite
def deciders(draw: st.DrawFn) -> Decider:
    """Return deciders with labels of both kinds, and any policy."""
    space = draw(st.sampled_from(["arxiv", "free"]))
    many = st.tuples(*[shares] * K)
    policy = Policy(
        temperature=draw(st.floats(0.1, 10)),
        thresholds=draw(many),
        cross_list_thresholds=draw(many),
        set_threshold=draw(shares),
        set_terms=draw(st.integers(0, 60)),
        author_set_threshold=draw(st.none() | shares),
        scope_weights=(0.0, 1.0, 0.0),
        scope_threshold=draw(shares),
    )
    manifest = BundleManifest(
        name="tiny", version="1", kind="linear", label_space=space, labels=LABELS[space],
        text_recipe="1", featuriser="1", taxonomy="1", policy=policy, files={},
    )  # fmt: skip
    measured = {LABELS[space][0]: Reliability(0.5, 7), LABELS[space][1]: Reliability(None, 0)}
    return Decider(manifest, ModelRef("tiny", "1.0", "d" * 64), measured)


def raws(n: int) -> st.SearchStrategy[RawScores]:
    """Return scores with ties, and with labels of no probability at all."""
    numbers = st.floats(-30, 30, width=32) | st.sampled_from([0.0, 1.0, -(2.0**100)])
    scores = arrays(np.float32, (n, K), elements=numbers)
    common = (
        scores,
        arrays(np.float32, n, elements=st.floats(0, 1, width=32)),
        arrays(np.int32, n, elements=st.integers(0, 60)),
    )
    used = arrays(np.bool_, n)
    return st.builds(RawScores, *common) | st.builds(RawScores, *common, scores, used)


@given(st.data(), deciders(), st.integers(0, 4), st.integers(1, K + 2))
def test_json_from_arrays_is_that_of_each_answer(
    data: st.DataObject, decider: Decider, n: int, top: int
) -> None:
    def draw(values: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(values, min_size=n, max_size=n))

    evidence = st.builds(Evidence, texts, st.floats(-9, 9))
    chosen = st.builds(AuthorCategory, texts, st.just("plausible"), st.none(), shares)
    further: dict[str, Sequence[Any]] = {
        "evidence": draw(st.sampled_from([(), ("title",), ("abstract", "authors")])),
        "title": draw(st.none() | texts),
        "prediction_id": draw(texts),
        "author_category": draw(st.none() | chosen),
        "explanation": draw(st.none() | st.tuples(evidence)),
    }
    names = data.draw(st.sets(st.sampled_from(sorted(further))))
    ids = draw(st.none() | texts)
    part = decider.answers(data.draw(raws(n)), ids, top=top)
    part = part.with_extra({name: further[name] for name in names})
    assert part.json_objects() == list(map(to_json, part.answers))


@given(st.data(), deciders(), st.integers(1, K + 2))
def test_only_the_labels_that_answers_can_name_are_put_in_order(
    data: st.DataObject, decider: Decider, top: int
) -> None:
    raw = data.draw(raws(2))
    decisions = decider.decide(raw, top=top)
    order = np.argsort(-decisions.probabilities, axis=1, kind="stable")
    for row, (start, end) in enumerate(zip(decisions.starts, decisions.starts[1:], strict=False)):
        named = decisions.columns[start:end]
        assert named.tolist() == order[row, : len(named)].tolist()
        assert len(named) >= min(top, K)


@given(st.data(), deciders(), st.integers(1, K + 2))
def test_one_paper_gets_the_answer_that_it_gets_among_others(
    data: st.DataObject, decider: Decider, top: int
) -> None:
    raw = data.draw(raws(3))
    together = decider.answers(raw, ["a", "b", "c"], top=top).answers
    alone = [decider.answer(raw.rows(i, i + 1), "abc"[i], top=top) for i in range(3)]
    assert together == alone


@needs_kernel
@given(
    arrays(np.float64, (3, K), elements=st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.5])),
    st.integers(1, K + 2),
    st.floats(1 / MOST_INSERTED, 1),
)
def test_the_c_kernel_puts_the_same_labels_in_the_same_order(
    probabilities: Any, top: int, cutoff: float
) -> None:
    columns, falling, starts = in_order(probabilities, top, cutoff)
    reference, _, all_starts = in_order_in_numpy(probabilities, top, cutoff)
    for row in range(3):
        named = columns[starts[row] : starts[row + 1]].tolist()
        expected = reference[all_starts[row] : all_starts[row + 1]].tolist()
        assert named == expected[: len(named)]
        assert len(named) == max(min(top, K), int((probabilities[row] >= cutoff).sum()))
        assert falling[starts[row] : starts[row + 1]].tolist() == probabilities[row][named].tolist()


@needs_kernel
@given(st.text(st.characters(max_codepoint=127)), st.text("a \t\n\x1c\x85é"), st.integers(0, 9))
def test_the_c_kernel_counts_the_words_that_python_splits(
    title: str, abstract: str, most: int
) -> None:
    expected = min(most, len(title.split()) + len(abstract.split()))
    if len(title) + len(abstract) < most * 10:
        assert count_terms([(title, abstract)], most).tolist() == [expected]


def test_answers_are_compared_sliced_added_and_shown_as_a_list(classifier: Classifier) -> None:
    answers = classifier.classify(PAPERS * 400, errors="return")
    made = list(answers)
    assert isinstance(answers, Answers)
    assert len(answers) == len(made) == 1200
    for other in (made, classifier.classify(PAPERS * 400, errors="return")):
        assert answers == other
        assert other == answers
    for other in (made[1:], [*made[1:], made[0]], tuple(made)):
        assert answers != other
    assert answers[700] is answers[700 - 1200] is made[700]
    assert (answers[-3:], answers[::-1]) == (made[-3:], made[::-1])
    assert (answers + made[:1], made[:1] + answers) == ([*made, made[0]], [made[0], *made])
    assert (made[3] in answers, answers.index(made[1])) == (True, 1)
    assert repr(answers) == repr(made)
    assert answers.n_bad == 400


def test_a_place_that_is_not_there_is_named(classifier: Classifier) -> None:
    with pytest.raises(IndexError, match="there are 2 answers, none at 2"):
        classifier.classify(PAPERS[::2])[2]


def test_json_of_answers_is_one_array(classifier: Classifier) -> None:
    answers = classifier.classify(PAPERS[::2])
    assert to_json(answers) == b"[" + b",".join(answers.json_objects()) + b"]"


def test_bad_records_keep_their_places_in_json(classifier: Classifier) -> None:
    answers = classifier.classify(PAPERS, errors="return")
    good, bad, last = answers
    assert isinstance(bad, BadRecord)
    expected = [to_json(good), to_json(bad.published()), to_json(last)]
    assert list(answers.json_objects()) == expected
