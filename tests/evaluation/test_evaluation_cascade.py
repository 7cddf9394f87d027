"""The curve of a cascade: what is asked, what it costs, and which point is chosen."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation
from classmark.evaluation.cascade import (
    Answers,
    cascade_curve,
    cascade_point,
    choose_point,
    choose_thresholds,
    compare_answers,
)
from classmark.pages import draw_cascade
from classmark.records import Speeds

SPEEDS = Speeds(fast=1000.0, deep=10.0)
ANSWERS = Answers(
    confidence=np.array([0.9, 0.8, 0.4, 0.3]),
    fast_right=np.array([True, True, False, False]),
    deep_right=np.array([True, False, True, False]),
    best=0.5,
)


def test_a_point_says_who_is_asked_what_it_costs_and_what_is_lost() -> None:
    point = cascade_point(ANSWERS, 0.5, SPEEDS)
    assert point.deep_share == 0.5
    assert point.accuracy == 0.75
    assert point.loss == -0.25
    assert point.cpu_ms == pytest.approx(1 + 0.5 * 100)
    assert point.cheaper == pytest.approx(100 / 51, abs=0.01)


def test_the_ends_of_the_curve_are_the_two_models() -> None:
    curve = cascade_curve(ANSWERS, SPEEDS, choose_thresholds(ANSWERS.confidence))
    assert (curve[0].deep_share, curve[0].accuracy) == (0.0, 0.5)
    assert (curve[-1].deep_share, curve[-1].accuracy) == (1.0, 0.5)


def test_the_cheapest_point_within_the_loss_is_chosen() -> None:
    curve = cascade_curve(ANSWERS, SPEEDS, [0.0, 0.35, 0.5, 1.0])
    assert choose_point(curve, 0.0).threshold == 0.0
    worse = Answers(ANSWERS.confidence, np.zeros(4, bool), ANSWERS.deep_right, 0.5)
    curve = cascade_curve(worse, SPEEDS, [0.0, 0.35, 0.5, 0.85, 1.0])
    assert choose_point(curve, 0.25).threshold == 0.5
    assert choose_point(curve, 0.0).threshold == 1.0


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=60),
    st.floats(0, 0.2),
)
def test_the_chosen_point_keeps_its_promise(
    papers: list[tuple[float, bool, bool]], most: float
) -> None:
    confidence, fast, deep = (np.array(column) for column in zip(*papers, strict=True))
    answers = Answers(confidence, fast, deep, float(deep.mean()))
    # A paper of confidence 1 is never asked about: then the end of the curve is not the deep model.
    answers.confidence[answers.confidence == 1] = 0.999
    curve = cascade_curve(answers, SPEEDS, choose_thresholds(answers.confidence))
    costs = [point.cpu_ms for point in curve]
    assert costs == sorted(costs)
    assert choose_point(curve, most).loss <= most + 1e-5


def test_papers_without_a_known_label_are_left_out() -> None:
    scores = np.log(np.array([[0.7, 0.3], [0.2, 0.8]]))
    answers = compare_answers(scores, scores[::-1], np.array([0, -1]))
    assert answers.confidence.tolist() == pytest.approx([0.7])
    assert (answers.fast_right.tolist(), answers.deep_right.tolist()) == ([True], [False])
    assert answers.best == 0
    with pytest.raises(EmptyEvaluation, match="no paper of the split has a label of the models"):
        compare_answers(scores, scores, np.array([-1, -1]))


def test_a_loss_is_against_a_mix_that_is_better_than_the_deep_model() -> None:
    fast, deep = np.log([[0.9, 0.1], [0.4, 0.6]]), np.log([[0.4, 0.6], [0.2, 0.8]])
    primary = np.array([0, 1])
    assert compare_answers(fast, deep, primary).best == 0.5
    answers = compare_answers(fast, deep, primary, mixed=fast + deep)
    assert answers.best == 1.0
    assert cascade_point(answers, 0.0, SPEEDS).loss == 0.0


def test_the_plot_is_an_svg_that_names_both_splits() -> None:
    curve = cascade_curve(ANSWERS, SPEEDS, [0.0, 0.5, 1.0])
    svg = draw_cascade({"valid": curve, "test": curve}, {"valid": curve[1], "test": curve[1]})
    root = ElementTree.fromstring(svg)
    words = "".join(root.itertext())
    assert "valid: 0.750 at 51.00 ms" in words
    assert "test: 0.750" in words
    assert math.isfinite(float(root.attrib["width"]))
