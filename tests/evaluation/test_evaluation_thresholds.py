from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.evaluation import fit_cross_list_thresholds, fit_thresholds

seeds = st.integers(0, 100_000)


def draw_papers(seed: int, n: int = 300, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and truths drawn from them: a calibrated model."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(k, 0.5), size=n)
    cumulative = probabilities.cumsum(axis=1)
    return probabilities, (cumulative < rng.random((n, 1))).sum(axis=1).clip(max=k - 1)


def accepted_precision(
    probabilities: np.ndarray, primary: np.ndarray, thresholds: np.ndarray
) -> dict[int, float]:
    top = probabilities.argmax(axis=1)
    accepted = probabilities.max(axis=1) >= thresholds[top]
    return {int(c): float(np.mean(primary[accepted & (top == c)] == c)) for c in set(top[accepted])}


def test_fit_thresholds_separates_the_right_from_the_wrong() -> None:
    own = np.array([0.55, 0.6, 0.7, 0.8, 0.9])
    probabilities = np.column_stack([own, 1 - own])
    primary = np.array([1, 1, 0, 0, 0])
    threshold = fit_thresholds(probabilities, primary, prior_papers=0.0)[0]
    assert 0.6 < threshold <= 0.7
    # The lowest such threshold of the grid: the first step above .6.
    assert threshold == np.float32(np.ceil(0.6 * 1024) / 1024)


def test_fit_thresholds_accepts_a_doubtful_paper_only_at_a_lower_target() -> None:
    # Of the papers at .6 one in three is right, of those at .9 all.
    own = np.array([0.6] * 3 + [0.9] * 10)
    probabilities = np.column_stack([own, 1 - own])
    primary = np.array([0, 1, 1] + [0] * 10)
    strict = fit_thresholds(probabilities, primary, 0.5, prior_papers=0.0)[0]
    lax = fit_thresholds(probabilities, primary, 0.3, prior_papers=0.0)[0]
    assert lax <= 0.6 < strict <= 0.9


@pytest.mark.parametrize("target", [0.4, 0.6, 0.8])
def test_fit_thresholds_of_a_calibrated_model_are_the_target(target: float) -> None:
    probabilities, primary = draw_papers(1, n=60_000)
    thresholds = fit_thresholds(probabilities, primary, target)
    assert thresholds.dtype == np.float32
    assert thresholds == pytest.approx(target, abs=0.06)


@settings(max_examples=50)
@given(seeds, st.floats(0.02, 0.9), st.floats(0.0, 0.09), st.sampled_from([0.0, 50.0]))
def test_fit_thresholds_rise_with_the_target_and_stay_in_0_to_1(
    seed: int, target: float, more: float, prior_papers: float
) -> None:
    papers = draw_papers(seed)
    low = fit_thresholds(*papers, target, prior_papers)
    high = fit_thresholds(*papers, target + more, prior_papers)
    assert (low <= high).all()
    assert low.min() >= 0.0
    assert high.max() <= 1.0


@settings(max_examples=50)
@given(seeds, st.floats(0.05, 0.95))
def test_fit_thresholds_alone_always_meet_the_target_on_their_own_papers(
    seed: int, target: float
) -> None:
    probabilities, primary = draw_papers(seed)
    thresholds = fit_thresholds(probabilities, primary, target, prior_papers=0.0)
    precision = accepted_precision(probabilities, primary, thresholds)
    assert all(share >= target - 1e-9 for share in precision.values())


@pytest.mark.parametrize("target", [0.5, 0.7, 0.9])
def test_fit_thresholds_with_enough_papers_meet_the_target(target: float) -> None:
    probabilities, primary = draw_papers(2, n=8000)
    thresholds = fit_thresholds(probabilities, primary, target)
    precision = accepted_precision(probabilities, primary, thresholds)
    assert len(precision) == 4
    assert all(share >= target for share in precision.values())


def test_fit_thresholds_give_a_category_without_papers_the_common_threshold() -> None:
    probabilities, primary = draw_papers(3, n=2000, k=3)
    widened = np.column_stack([probabilities, np.zeros(2000)])
    pooled = fit_thresholds(
        np.column_stack([probabilities.max(axis=1), np.zeros(2000)]),
        (probabilities.argmax(axis=1) != primary).astype(int),
        prior_papers=0.0,
    )
    assert fit_thresholds(widened, primary)[3] == pooled[0]


def test_fit_thresholds_pull_a_rare_category_towards_the_common_threshold() -> None:
    common = np.column_stack([np.linspace(0.5, 1, 1000), 1 - np.linspace(0.5, 1, 1000)])
    common_truth = np.where(common[:, 0] > 0.7, 0, 1)
    # Two lucky papers of category 1, at .51: alone they would lower its threshold to there.
    lucky = np.array([[0.49, 0.51]] * 2)
    probabilities = np.vstack([common, lucky])
    primary = np.append(common_truth, [1, 1])
    alone = fit_thresholds(probabilities, primary, prior_papers=0.0)
    pooled = fit_thresholds(probabilities, primary)
    assert alone[1] < 0.52
    assert pooled[1] == pytest.approx(0.7, abs=0.01)


def test_fit_thresholds_leave_out_papers_without_known_truth() -> None:
    probabilities, primary = draw_papers(4)
    hidden = primary.copy()
    hidden[:100] = -1
    expected = fit_thresholds(probabilities[100:], primary[100:])
    assert fit_thresholds(probabilities, hidden).tolist() == expected.tolist()


@pytest.mark.parametrize("target", [0.0, 1.0, 1.5])
def test_fit_thresholds_refuse_an_impossible_target(target: float) -> None:
    with pytest.raises(InvalidConfig, match=f"target_precision .*got {target}"):
        fit_thresholds(np.eye(2), np.array([0, 1]), target)


def test_thresholds_need_papers_with_known_truth() -> None:
    unknown, listed = np.array([-1, -1]), np.eye(2, dtype=bool)
    with pytest.raises(EmptyEvaluation, match="none of the 2 papers"):
        fit_thresholds(np.eye(2), unknown)
    with pytest.raises(EmptyEvaluation, match="none of the 2 papers"):
        fit_cross_list_thresholds(np.eye(2), unknown, listed)


def test_fit_cross_list_thresholds_separates_listed_from_unlisted() -> None:
    further = np.array([0.05, 0.1, 0.2, 0.3, 0.4])
    probabilities = np.column_stack([1 - further, further])
    listed = np.column_stack([np.ones(5), further >= 0.2]).astype(bool)
    primary = np.zeros(5, dtype=int)
    threshold = fit_cross_list_thresholds(probabilities, primary, listed, prior_papers=0.0)[1]
    assert 0.1 < threshold <= 0.2
    # The highest such threshold of the grid: the last step not above .2.
    assert threshold == np.float32(np.floor(0.2 * 1024) / 1024)


def test_fit_cross_list_thresholds_ignore_the_top_label() -> None:
    # Label 0 is always on top and always listed: that says nothing of it as a further label.
    probabilities = np.tile([0.6, 0.4], (10, 1))
    listed = np.tile([True, False], (10, 1))
    thresholds = fit_cross_list_thresholds(probabilities, np.zeros(10, dtype=int), listed)
    assert thresholds.tolist() == [1.0, 1.0]


def test_fit_cross_list_thresholds_maximise_f1_for_each_category() -> None:
    probabilities, primary = draw_papers(6)
    rng = np.random.default_rng(6)
    listed = rng.random(probabilities.shape) < probabilities * 1.5
    listed[np.arange(300), primary] = True
    fitted = fit_cross_list_thresholds(probabilities, primary, listed, prior_papers=0.0)
    further = np.ones(probabilities.shape, dtype=bool)
    further[np.arange(300), probabilities.argmax(axis=1)] = False

    def f1(c: int, threshold: float) -> float:
        wanted, added = (
            listed[:, c] & further[:, c],
            further[:, c] & (probabilities[:, c] >= threshold),
        )
        return 2 * float((wanted & added).sum()) / float(wanted.sum() + added.sum())

    for c in range(4):
        best = max(f1(c, step / 1024) for step in range(0, 600))
        assert f1(c, float(fitted[c])) == pytest.approx(best)


def test_fit_cross_list_thresholds_give_a_rare_category_the_common_threshold() -> None:
    further = np.tile(np.linspace(0.01, 0.45, 50), 20)
    probabilities = np.column_stack([1 - further, further, np.zeros(1000)])
    listed = np.column_stack([np.ones(1000), further > 0.25, np.zeros(1000)]).astype(bool)
    thresholds = fit_cross_list_thresholds(probabilities, np.zeros(1000, dtype=int), listed)
    assert thresholds[2] == thresholds[1] == pytest.approx(0.25, abs=0.01)
