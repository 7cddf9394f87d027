from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_evaluation_robustness import measured as robust

from classmark.evaluation import EvaluationConfig, compare_tables, evaluate_table, make_gates
from classmark.evaluation.behaviour import BehaviourRate
from classmark.evaluation.gate import (
    Cost,
    Finding,
    LabelFacts,
    Leaks,
    Measured,
    Parity,
    Replay,
    check_rules,
    read_rules,
)
from classmark.evaluation.gate.rules import GROUPS
from classmark.records import GateCheck, RobustnessReport, ScoreTable
from score_tables import build_table

CONFIG = EvaluationConfig(draws=200)
SAME_LABELS = LabelFacts(missing=(), new=(), unknown=0.0)


def scored(right: float, seed: int = 1, n: int = 800) -> ScoreTable:
    """Return the scores of a model that is right about so often, over two periods."""
    rng = np.random.default_rng(9)
    primary = rng.integers(0, 4, n).astype(np.int16)
    hit = np.random.default_rng(seed).random(n) < right
    top = np.where(hit, primary, (primary + 1) % 4)
    scores = 4.0 * (top[:, None] == np.arange(4))
    periods = tuple("early" if i < n - 100 else "late" for i in range(n))
    years = np.where(np.array(periods) == "early", 2015, 2020).astype(np.int16)
    return build_table(scores, primary, periods=periods, years=years, set_threshold=0.1)


def measured(candidate: ScoreTable, champion: ScoreTable | None = None, **more: Any) -> Measured:
    """Return what a gate would measure of two tables."""
    report = evaluate_table(candidate, config=CONFIG)
    values: dict[str, Any] = {"report": report, "labels": SAME_LABELS}
    if champion is not None:
        values["comparison"] = compare_tables(champion, candidate, config=CONFIG)
        names = np.array(candidate.periods)
        values["periods"] = {
            part.name: compare_tables(
                champion.select(names == part.name),
                candidate.select(names == part.name),
                config=CONFIG,
            )
            for part in report.periods
        }
    return Measured(**{**values, **more})


def lines(found: Measured, **groups: Any) -> list[GateCheck]:
    return list(check_rules(read_rules({"format_version": 1, **groups}), found))


def only(found: Measured, **groups: Any) -> GateCheck:
    (check,) = lines(found, **groups)
    return check


GOOD, WORSE = scored(0.8), scored(0.7, seed=2)


def test_a_minimum_and_a_maximum_are_compared_with_the_value() -> None:
    reached, missed, above = lines(
        measured(GOOD),
        metrics={"minimum": {"top_1": 0.75, "top_5": 1.0}, "maximum": {"nll": 0.001}},
    )
    assert (reached.outcome, reached.limit) == ("passed", 0.75)
    assert reached.low is not None
    assert reached.low < reached.value < (reached.high or 0)  # type: ignore[operator]
    assert missed.outcome == "passed"
    assert above.outcome == "failed"
    assert above.missed_by == pytest.approx(above.value - 0.001)  # type: ignore[operator]
    assert "over by" in str(above)


def test_a_metric_that_has_no_value_fails() -> None:
    check = only(measured(GOOD), metrics={"minimum": {"accepted_accuracy": 0.1}})
    assert (check.outcome, check.value) == ("failed", None)
    assert "it has no value" in str(check)


def test_the_whole_interval_of_a_fall_must_be_within_the_limit() -> None:
    found = measured(WORSE, GOOD)
    assert found.comparison is not None
    difference = found.comparison.metrics["top_1"]
    worst, middle = -(difference.low or 0), -difference.difference
    assert worst > middle > 0
    between = (worst + middle) / 2
    for limit, outcome in ((worst + 0.001, "passed"), (between, "failed"), (0.0, "failed")):
        check = only(found, metrics={"most_fall": {"top_1": limit}})
        assert check.outcome == outcome
        assert check.value == pytest.approx(worst)
        assert (check.champion, check.candidate) == (difference.a, difference.b)


def test_a_rise_is_the_other_way_round() -> None:
    found = measured(WORSE, GOOD)
    worse, better = (
        only(m, metrics={"most_rise": {"nll": 0.0}}) for m in (found, measured(GOOD, WORSE))
    )
    assert (worse.outcome, better.outcome) == ("failed", "passed")
    assert (worse.value or 0) > 0 > (better.value or 0)


def test_a_better_candidate_falls_by_less_than_nothing() -> None:
    check = only(measured(GOOD, WORSE), metrics={"most_fall": {"top_1": 0.0}})
    assert check.outcome == "passed"
    assert (check.value or 0) < 0


def test_without_a_champion_falls_are_open_and_not_failed() -> None:
    check = only(measured(GOOD), metrics={"most_fall": {"top_1": 0.0}})
    assert (check.outcome, check.note) == ("not_checked", "there is no champion")


def test_a_period_of_few_papers_is_not_checked_and_said_so() -> None:
    rules = {"periods": {"minimum": {"top_1": 0.99}, "most_fall": {"top_1": 0.5}}}
    early, fall, late = lines(measured(GOOD, WORSE), **rules)
    assert (early.place, early.outcome) == ("period early", "failed")
    assert fall.outcome == "passed"
    assert (late.place, late.outcome) == ("period late", "not_checked")
    assert late.note == "100 test papers, fewer than 200"
    rules["periods"]["papers"] = 100  # type: ignore[assignment]
    assert lines(measured(GOOD, WORSE), **rules)[2].outcome == "failed"


def test_a_dataset_without_periods_has_none_to_check(make_table: Callable[..., ScoreTable]) -> None:
    check = only(measured(make_table(np.eye(4), [0, 1, 2, 3])), periods={"minimum": {"top_1": 0.5}})
    assert (check.outcome, check.note) == ("not_checked", "the dataset has no periods")


def test_a_category_of_few_papers_is_not_checked_and_the_others_are() -> None:
    sizes = np.bincount(GOOD.primary)
    few = int(sizes.max())
    checks = lines(measured(GOOD), categories={"minimum": {"f1": 0.99}, "papers": few})
    by_code = {check.part: check for check in checks}
    assert set(by_code) == set(GOOD.labels)
    for code, size in zip(GOOD.labels, sizes.tolist(), strict=True):
        assert by_code[code].outcome == ("failed" if size >= few else "not_checked")


def test_a_category_fails_only_if_its_interval_is_wholly_beyond() -> None:
    found = measured(WORSE, GOOD)
    assert found.comparison is not None
    for category in found.comparison.categories:
        surely, middle = -(category.f1.high or 0), -category.f1.difference
        assert surely < middle
        limits = {"most_fall": {"f1": max(0.0, (surely + middle) / 2)}, "papers": 1}
        checks = {c.part: c for c in lines(found, categories=limits)}
        assert checks[category.code].outcome == "passed"
        assert checks[category.code].value == pytest.approx(surely)
    rules = {"most_fall": {"f1": 0.0}, "papers": 1}
    assert any(check.outcome == "failed" for check in lines(found, categories=rules))


def test_a_category_that_the_champion_does_not_know_is_open() -> None:
    found = measured(GOOD, WORSE)
    assert found.comparison is not None
    object.__setattr__(found.comparison, "categories", found.comparison.categories[1:])
    checks = lines(found, categories={"most_fall": {"f1": 0.5}, "papers": 1})
    notes = [check.note for check in checks if check.outcome == "not_checked"]
    assert notes == ["the champion does not know it"]


def test_missing_labels_and_unknown_papers_fail() -> None:
    facts = LabelFacts(missing=("cs.AI",), new=("q-bio.GN",), unknown=0.25)
    missing, unknown = lines(measured(GOOD, labels=facts), labels={"most_unknown": 0.2})
    assert (missing.outcome, unknown.outcome) == ("failed", "failed")
    assert "missing: cs.AI; new: q-bio.GN" in str(missing)
    missing, unknown = lines(
        measured(GOOD, labels=facts), labels={"most_missing": 1, "most_unknown": 0.25}
    )
    assert (missing.outcome, unknown.outcome) == ("passed", "passed")
    nobody = LabelFacts(missing=None, new=(), unknown=0.0)
    assert lines(measured(GOOD, labels=nobody), labels={})[0].outcome == "not_checked"


@pytest.fixture(scope="module")
def robustness() -> RobustnessReport:
    return robust()


def test_every_minimum_of_robustness_is_a_line(robustness: RobustnessReport) -> None:
    gates = make_gates(robustness, 0.0)
    checks = lines(measured(GOOD, robustness=(robustness, gates)), robustness={})
    assert all(check.outcome == "passed" for check in checks)
    assert "typos, 20 %: top_1" in {check.name for check in checks}
    gates.minimum["typos"]["20 %"]["top_1"] = 0.9
    gates.minimum["case"]["upper"]["accepted_accuracy"] = 0.5
    failed = [
        check
        for check in lines(measured(GOOD, robustness=(robustness, gates)), robustness={})
        if not check.passed
    ]
    assert [check.name for check in failed] == [
        "typos, 20 %: top_1",
        "case, upper: accepted_accuracy",
    ]
    assert only(measured(GOOD), robustness={}).note == "there is no champion"


def test_behaviours_have_their_own_limits_unless_the_rules_differ() -> None:
    rates = (BehaviourRate("archive", 0.8, 100, ("a", "b")), BehaviourRate("remark", None, 0, ()))
    found = measured(GOOD, behaviour=rates)
    archive, remark = lines(found, behaviour={})
    assert (archive.outcome, archive.limit) == ("failed", 0.9)
    assert "not for a, b" in str(archive)
    assert remark.outcome == "not_checked"
    assert lines(found, behaviour={"least": {"archive": 0.8}})[0].outcome == "passed"
    assert only(measured(GOOD), behaviour={}).note.startswith("its labels are not arXiv's")


def test_goldens_limit_the_share_and_the_change() -> None:
    found = measured(GOOD, goldens=Replay(share=0.9, change=0.3, other=("7",)))
    same, change = lines(found, goldens={"file": "g", "most_change": 0.2})
    assert (same.outcome, change.outcome) == ("failed", "failed")
    assert "another one for 7" in str(same)
    assert only(found, goldens={"file": "g", "least": 0.9}).outcome == "passed"


def test_one_paper_that_the_kernels_score_differently_is_too_many() -> None:
    def outcome(differ: int | None) -> str:
        parity = Parity(differ=differ, papers=50, note="the C kernel is not installed here")
        return only(measured(GOOD, kernels=parity), kernels={}).outcome

    assert [outcome(n) for n in (0, 1, None)] == ["passed", "failed", "not_checked"]


def test_a_cost_is_compared_with_its_ratio_or_its_own_limit() -> None:
    costs = {
        "latency": Cost(candidate=3.0, champion=1.0, ratio=3.0, low=1.1, high=4.0),
        "memory": Cost(candidate=200.0, champion=100.0, ratio=2.0),
        "size": Cost(candidate=10.0),
    }
    rules = {"latency_ratio": 1.2, "memory_ratio": 1.9, "size_ratio": 1.0, "size_mb": 9.0}
    latency, memory, size, size_mb = lines(measured(GOOD, costs=costs), cost=rules)
    # Surely slower than 1.1 times, which the rules allow.
    assert (latency.outcome, latency.value) == ("passed", 1.1)
    assert (memory.outcome, memory.value) == ("failed", 2.0)
    assert size.outcome == "not_checked"
    assert (size_mb.outcome, size_mb.missed_by) == ("failed", 1.0)
    slow = {"latency_ratio": 1.05}
    assert only(measured(GOOD, costs=costs), cost=slow).outcome == "failed"


@pytest.mark.parametrize(
    ("holds", "required", "outcome"),
    [
        (True, True, "passed"),
        (True, False, "passed"),
        (False, False, "failed"),
        (None, True, "failed"),
        (None, False, "not_checked"),
    ],
)
def test_a_signature_must_hold_where_it_can_be_found_out(
    holds: bool | None, required: bool, outcome: str
) -> None:
    found = measured(GOOD, signature=Finding(holds=holds, note="why"))
    assert only(found, signature={"required": required}).outcome == outcome


@pytest.mark.parametrize(
    ("papers", "allowed", "outcome"),
    [
        (0, False, "passed"),
        (1, True, "failed"),
        (None, False, "failed"),
        (None, True, "not_checked"),
    ],
)
def test_papers_that_cannot_be_found_fail_unless_the_rules_allow_it(
    papers: int | None, allowed: bool, outcome: str
) -> None:
    found = measured(GOOD, fit=Leaks(papers=papers, note="why"))
    check = only(found, fit={"allow_unknown": allowed})
    assert check.outcome == outcome
    assert ("not checkable" in check.note) == (papers is None)


def test_what_the_rules_leave_out_makes_no_line() -> None:
    found = measured(GOOD, WORSE, fit=Leaks(papers=9), kernels=Parity(differ=9, papers=9))
    groups = {check.group for check in lines(found, metrics={"minimum": {"top_1": 0.1}})}
    assert groups == {"metrics"}
    assert read_rules({"format_version": 1, "fit": {}}).left_out == tuple(
        group for group in GROUPS if group != "fit"
    )
