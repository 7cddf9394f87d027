"""What is published follows from scores and policy, and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classmark import taxonomy
from classmark.errors import BundleIncompatible, InvalidScores, UsageError
from classmark.kernels import RawScores
from classmark.records import BundleManifest, Policy
from classmark.runtime import Decider
from classmark.wire import Answer, ModelRef, Reliability

LABELS = ("cs.LG", "hep-th", "math.CO", "stat.ML")
MODEL = ModelRef("tiny", "1.0", "d" * 64)
ALL_LABELS = tuple(category.code for category in taxonomy.categories())
MakeManifest = Callable[..., BundleManifest]


def policy(k: int = 4, **changes: Any) -> Policy:
    values = {
        "temperature": 1.0,
        "thresholds": (0.5,) * k,
        "cross_list_thresholds": (0.2,) * k,
        "set_threshold": 0.1,
    }
    return Policy(**{**values, **changes})


@pytest.fixture
def answer(manifest: MakeManifest) -> Callable[..., Answer]:
    """Return a function that answers for one row of probabilities over the four labels."""

    def run(
        row: list[float], *, threshold: float | None = None, known: float = 1.0, **changes: Any
    ) -> Answer:
        decider = Decider(manifest(policy=policy(**changes)), MODEL)
        raw = RawScores(np.log([row]).astype(np.float32), np.float32([known]))
        return decider.answers(raw, ["7"], top=4, threshold=threshold).answers[0]

    return run


def decider_of(k: int, **changes: Any) -> Decider:
    manifest = BundleManifest(
        name="all", version="1", kind="linear", label_space="arxiv", labels=ALL_LABELS[:k],
        text_recipe="1", featuriser="1", taxonomy="1", policy=policy(k, **changes), files={},
    )  # fmt: skip
    return Decider(manifest, MODEL)


def decide_all(scores: np.ndarray, **changes: Any) -> list[Answer]:
    k = scores.shape[1]
    decider = decider_of(k, **changes)
    raw = RawScores(scores.astype(np.float32), np.ones(len(scores), np.float32))
    return decider.answers(raw, [None] * len(scores), top=k).answers


def test_a_probable_label_is_the_primary(answer: Callable[..., Answer]) -> None:
    result = answer([0.7, 0.2, 0.06, 0.04])
    assert (result.id, result.primary, result.reason) == ("7", "cs.LG", "accepted")
    assert [r.code for r in result.ranked] == ["cs.LG", "hep-th", "math.CO", "stat.ML"]
    assert [r.probability for r in result.ranked] == pytest.approx([0.7, 0.2, 0.06, 0.04])
    assert result.ranked[0].name == "Machine Learning"
    assert result.model == MODEL


def test_the_threshold_of_the_top_label_decides(answer: Callable[..., Answer]) -> None:
    thresholds = (0.5, 0.8, 0.8, 0.8)
    assert answer([0.6, 0.2, 0.1, 0.1], thresholds=thresholds).primary == "cs.LG"
    abstained = answer([0.2, 0.6, 0.1, 0.1], thresholds=thresholds)
    assert (abstained.primary, abstained.reason) == (None, "below_threshold")
    assert abstained.probability == pytest.approx(0.6)


def test_a_callers_threshold_replaces_the_models_own(answer: Callable[..., Answer]) -> None:
    assert answer([0.4, 0.3, 0.2, 0.1]).primary is None
    assert answer([0.4, 0.3, 0.2, 0.1], threshold=0.3).primary == "cs.LG"
    assert answer([0.9, 0.05, 0.03, 0.02], threshold=0.95).primary is None
    assert answer([0.4, 0.3, 0.2, 0.1], threshold=0.0).primary == "cs.LG"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), True, "0.5", [0.5]])
def test_a_threshold_that_is_no_probability_is_refused(
    answer: Callable[..., Answer], threshold: Any
) -> None:
    with pytest.raises(UsageError, match=r"threshold must be a number within 0\.\.1, got"):
        answer([0.4, 0.3, 0.2, 0.1], threshold=threshold)


def test_temperature_flattens_before_the_threshold(answer: Callable[..., Answer]) -> None:
    result = answer([0.81, 0.09, 0.09, 0.01], temperature=2.0)
    roots = np.sqrt([0.81, 0.09, 0.09, 0.01])
    assert result.probability == pytest.approx(roots[0] / roots.sum())


def test_an_unknown_text_is_out_of_scope_whatever_its_probability(
    answer: Callable[..., Answer],
) -> None:
    scope = {"scope_weights": (-1.0, 2.0, 0.0), "scope_threshold": 0.0}
    assert answer([0.9, 0.05, 0.03, 0.02], known=0.6, **scope).reason == "accepted"
    foreign = answer([0.9, 0.05, 0.03, 0.02], known=0.4, **scope)
    assert (foreign.primary, foreign.reason, foreign.cross_lists) == (None, "out_of_scope", ())
    assert answer([0.3, 0.3, 0.2, 0.2], known=0.4, **scope).reason == "out_of_scope"


def test_energy_is_the_log_sum_exp_of_the_scaled_scores(manifest: MakeManifest) -> None:
    scores = np.float32([[1.0, 2.0, 3.0, 4.0]])
    energy = math.log(sum(math.exp(score / 2) for score in (1, 2, 3, 4)))
    for offset, reason in ((-1e-6, "accepted"), (1e-6, "out_of_scope")):
        scope = policy(
            temperature=2.0,
            thresholds=(0.0,) * 4,
            scope_weights=(0.5, 0.0, 3.0),
            scope_threshold=0.5 + 3 * energy + offset,
        )
        decider = Decider(manifest(policy=scope), MODEL)
        raw = RawScores(scores, np.zeros(1, np.float32))
        assert decider.answers(raw, [None], top=1).answers[0].reason == reason


def test_cross_lists_reach_their_own_thresholds_and_leave_out_the_primary(
    answer: Callable[..., Answer],
) -> None:
    own = {"cross_list_thresholds": (0.2, 0.3, 0.1, 0.15), "thresholds": (0.3,) * 4}
    assert answer([0.4, 0.25, 0.13, 0.22], **own).cross_lists == ("stat.ML", "math.CO")


def test_an_abstention_has_no_cross_lists(answer: Callable[..., Answer]) -> None:
    assert answer([0.4, 0.3, 0.2, 0.1]).cross_lists == ()


def test_the_set_holds_every_label_that_is_probable_enough(answer: Callable[..., Answer]) -> None:
    assert answer([0.15, 0.5, 0.05, 0.3]).set == ("hep-th", "stat.ML", "cs.LG")
    assert answer([0.4, 0.3, 0.2, 0.1], set_threshold=0.99).set == ("cs.LG",)


def test_a_text_out_of_scope_has_no_set_and_says_why(answer: Callable[..., Answer]) -> None:
    outside = answer([0.7, 0.2, 0.06, 0.04], scope_weights=(0.0, 0.0, 0.0), scope_threshold=1.0)
    assert (outside.set, outside.set_reason) == (None, "out_of_scope")
    inside = answer([0.7, 0.2, 0.06, 0.04])
    assert (inside.set, inside.set_reason) == (("cs.LG", "hep-th"), None)


@pytest.mark.parametrize(
    ("n_terms", "known_share", "has_set"), [(10, 1.0, True), (9, 1.0, False), (19, 0.5, False)]
)
def test_a_text_of_too_few_known_terms_has_no_set(
    manifest: MakeManifest, n_terms: int, known_share: float, has_set: bool
) -> None:
    decider = Decider(manifest(policy=policy(set_terms=10)), MODEL)
    counts = np.int32([n_terms])
    raw = RawScores(np.float32([[9, 0, 0, 0]]), np.float32([known_share]), counts)
    for result in (
        decider.answer(raw, None, top=1),
        decider.answers(raw, [None], top=1).answers[0],
    ):
        assert result.primary == "cs.LG"
        assert result.set == (("cs.LG",) if has_set else None)
        assert result.set_reason == (None if has_set else "few_known_terms")


def test_each_ranked_category_says_how_it_fared(manifest: MakeManifest) -> None:
    measured = {"cs.LG": Reliability(0.75, 8), "math.CO": Reliability(None, 0)}
    decider = Decider(manifest(), MODEL, measured)
    raw = RawScores(np.float32([[3, 1, 2, 0]]), np.ones(1, np.float32))
    for result in (
        decider.answer(raw, None, top=3),
        decider.answers(raw, [None], top=3).answers[0],
    ):
        assert [r.reliability for r in result.ranked] == [*measured.values(), None]
        assert [r["reliability"] for r in result.to_dict()["ranked"]] == [
            {"precision": 0.75, "papers": 8}, {"precision": None, "papers": 0}, None,
        ]  # fmt: skip


def test_levels_are_sums_most_probable_first(answer: Callable[..., Answer]) -> None:
    result = answer([0.3, 0.36, 0.14, 0.2])
    assert [(v.code, round(v.probability, 6)) for v in result.levels.archive] == [
        ("hep-th", 0.36),
        ("cs", 0.3),
        ("stat", 0.2),
        ("math", 0.14),
    ]
    assert [v.code for v in result.levels.group] == [
        "grp_physics",
        "grp_cs",
        "grp_stat",
        "grp_math",
    ]


def test_improbable_levels_are_left_out(answer: Callable[..., Answer]) -> None:
    result = answer([0.9993, 0.0006, 0.00006, 0.00004])
    assert [v.code for v in result.levels.archive] == ["cs", "hep-th"]


def test_free_labels_are_their_own_names_and_have_no_levels(manifest: MakeManifest) -> None:
    decider = Decider(manifest(labels=("red", "blue"), label_space="free", policy=policy(2)), MODEL)
    raw = RawScores(np.float32([[0, 3]]), np.ones(1, np.float32))
    (result,) = decider.answers(raw, [None], top=9).answers
    assert [(r.code, r.name) for r in result.ranked] == [("blue", "blue"), ("red", "red")]
    assert (result.levels.archive, result.levels.group) == ((), ())


def test_equal_scores_rank_in_label_order(answer: Callable[..., Answer]) -> None:
    assert [r.code for r in answer([0.25] * 4).ranked] == list(LABELS)


def test_an_empty_batch_gives_no_answers(manifest: MakeManifest) -> None:
    decider = Decider(manifest(), MODEL)
    empty = RawScores(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert decider.answers(empty, [], top=5).answers == []


@pytest.mark.parametrize("top", [0, -1, True, 2.0, "3", None, float("nan")])
def test_top_that_is_not_a_number_of_categories_is_refused(
    manifest: MakeManifest, top: Any
) -> None:
    decider = Decider(manifest(), MODEL)
    raw = RawScores(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
    with pytest.raises(UsageError, match=f"top must be an integer of at least 1, got {top!r}"):
        decider.answers(raw, [None], top=top)
    with pytest.raises(UsageError, match=f"top must be an integer of at least 1, got {top!r}"):
        decider.answer(raw, None, top=top)
    assert len(decider.answer(raw, None, top=np.int64(2)).ranked) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_never_published(
    manifest: MakeManifest, value: float
) -> None:
    scores = np.zeros((3, 4), np.float32)
    known = np.ones(3, np.float32)
    scores[1, 2] = value
    with pytest.raises(InvalidScores, match=r"tiny 1\.0 gave.*for paper 1 of 3"):
        Decider(manifest(), MODEL).decide(RawScores(scores, known))
    known[2] = value
    with pytest.raises(InvalidScores, match="for paper 2 of 3"):
        Decider(manifest(), MODEL).decide(RawScores(np.zeros_like(scores), known))
    for one in (RawScores(scores[1:2], known[:1]), RawScores(scores[:1], known[2:])):
        with pytest.raises(InvalidScores, match="for paper 0 of 1"):
            Decider(manifest(), MODEL).answer(one, None, top=1)


def test_scores_of_another_shape_are_refused(manifest: MakeManifest) -> None:
    with pytest.raises(InvalidScores, match=r"shape \(1, 3\), expected \(1, 4\)"):
        Decider(manifest(), MODEL).decide(
            RawScores(np.zeros((1, 3), np.float32), np.ones(1, np.float32))
        )


def test_a_label_that_the_taxonomy_lacks_is_named(manifest: MakeManifest) -> None:
    wrong = manifest(labels=("cs.LG", "cs.ZZ"), policy=policy(2))
    with pytest.raises(BundleIncompatible, match=r"1 of its 2 labels are not in.*'cs\.ZZ'"):
        Decider(wrong, MODEL)


@pytest.mark.parametrize("name", ["thresholds", "cross_list_thresholds"])
def test_thresholds_that_do_not_fit_the_labels_are_refused(
    manifest: MakeManifest, name: str
) -> None:
    wrong = replace(policy(), **{name: (0.5,)})
    with pytest.raises(BundleIncompatible, match=f"has 4 labels but 1 {name}"):
        Decider(manifest(policy=wrong), MODEL)


@given(
    scores=arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.sampled_from([2, 37, len(ALL_LABELS)])),
        elements=st.floats(-(2.0**127), 2.0**127, width=32),
    ),
    temperature=st.floats(1e-3, 1e3),
)
def test_answers_are_consistent_for_any_finite_scores(
    scores: np.ndarray, temperature: float
) -> None:
    for result in decide_all(scores, temperature=temperature):
        probabilities = [r.probability for r in result.ranked]
        assert all(0 <= p <= 1 for p in probabilities)
        assert math.fsum(probabilities) == pytest.approx(1, abs=1e-9)
        assert probabilities == sorted(probabilities, reverse=True)
        assert result.primary in (None, result.ranked[0].code)
        assert result.ranked[0].code in result.set
        assert result.primary not in result.cross_lists
        _assert_levels_are_sums(result)


def _assert_levels_are_sums(result: Answer) -> None:
    by_archive: dict[str, list[float]] = {}
    by_group: dict[str, list[float]] = {}
    for ranked in result.ranked:
        by_archive.setdefault(taxonomy.parent(ranked.code), []).append(ranked.probability)
        by_group.setdefault(taxonomy.group(ranked.code), []).append(ranked.probability)
    for levels, sums in ((result.levels.archive, by_archive), (result.levels.group, by_group)):
        for level in levels:
            assert level.probability == pytest.approx(math.fsum(sums[level.code]), abs=1e-12)
        listed = {level.code for level in levels}
        assert listed >= {code for code, p in sums.items() if math.fsum(p) > 0.0005 + 1e-9}


@given(
    arrays(np.float32, (1, len(ALL_LABELS)), elements=st.floats(-30, 30, width=32)),
    st.integers(1, len(ALL_LABELS) + 3),
    st.one_of(st.none(), st.floats(0, 1)),
    st.floats(0, 1, width=32),
    st.integers(0, 60),
)
def test_one_paper_alone_gets_the_answer_it_gets_in_a_batch(
    scores: Any, top: int, threshold: float | None, known_share: float, n_terms: int
) -> None:
    k = len(ALL_LABELS)
    decider = decider_of(k, scope_weights=(0.1, 1.0, -0.02), scope_threshold=0.2)
    other = np.linspace(-1, 1, k, dtype=np.float32)[None]
    raw = RawScores(scores, np.float32([known_share]), np.int32([n_terms]))
    both = RawScores.joined([RawScores(other, np.float32([0.5]), np.int32([60])), raw])
    in_batch = decider.answers(both, ["other", "x"], top=top, threshold=threshold)
    assert decider.answer(raw, "x", top=top, threshold=threshold) == in_batch.answers[1]
