"""int8 is kept where it is faster and surely loses little; a few papers tell nothing."""

from __future__ import annotations

import numpy as np
import pytest

from classmark.evaluation import EvaluationConfig, compare_shares
from classmark.export.precision import Choice, Trial, choose_precision, least_papers
from classmark.records import Difference


def trials(n: int, *, lost: int = 0, gained: int = 0, speed: float = 20) -> dict[str, Trial]:
    """Return trials of n papers: fp32 has half of them right, int8 loses and gains some."""
    right = np.arange(n) < n // 2
    changed = right.copy()
    changed[:lost] = False
    changed[n - gained :] = True
    return {
        "fp32": Trial(bytes=4, papers_per_cpu_s=10, right=right),
        "int8": Trial(bytes=1, papers_per_cpu_s=speed, right=changed),
    }


@pytest.mark.parametrize(
    ("measured", "kept", "reason"),
    [
        (trials(1000), "int8", "2.00 times as fast and loses 0.0000 of accuracy (95% interval"),
        (trials(1000, lost=1, gained=1), "int8", "1,000 papers)"),
        (trials(1000, gained=9), "int8", "loses -0.0090 of accuracy"),
        (trials(1000, lost=2), "int8", "loses 0.0020 of accuracy (95% interval 0.0000 to 0.00"),
        (trials(1000, lost=12, gained=10), "fp32", "papers): it may be more than 0.005"),
        (trials(1000, lost=40), "fp32", "loses 0.0400 of accuracy"),
        (trials(1000, speed=9), "fp32", "papers): it is not faster"),
        (trials(1000, speed=10), "fp32", "papers): it is not faster"),
        (trials(600), "int8", "600 papers)"),
        (trials(599), "fp32", "but 599 labelled validation papers are too few to tell a loss of"),
        (trials(20), "fp32", "2.00 times as fast, but 20 labelled validation papers are too few"),
        (trials(20, gained=1), "fp32", "too few to tell a loss of 0.005 (at least 600)"),
        (trials(0), "fp32", "but 0 labelled validation papers are too few"),
    ],
)
def test_auto_keeps_int8_only_where_it_surely_wins(
    measured: dict[str, Trial], kept: str, reason: str
) -> None:
    choice = choose_precision(measured, "auto", 0.005)
    assert choice.kept == kept
    assert reason in choice.reason
    assert choice.papers == len(measured["fp32"].right)


def test_what_may_be_lost_says_how_many_papers_it_takes() -> None:
    assert [least_papers(loss) for loss in (0.001, 0.005, 0.01, 0.5)] == [3000, 600, 300, 100]
    assert choose_precision(trials(300), "auto", 0.01).kept == "int8"
    never = choose_precision(trials(5000, gained=100), "auto", 0.0)
    assert never.kept == "fp32"
    assert "no number of papers shows that nothing is lost" in never.reason


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_was_asked_for_is_kept_whatever_was_measured(precision: str) -> None:
    choice = choose_precision({}, precision, 0.005)
    assert choice == Choice(kept=precision, reason=f"{precision} was asked for")
    assert choice.to_dict() == {"kept": precision, "reason": f"{precision} was asked for"}


def test_a_choice_tells_programs_what_was_compared() -> None:
    seen = choose_precision(trials(1000, lost=12, gained=10), "auto", 0.005).to_dict()
    accuracy = seen["accuracy"]
    assert (seen["papers"], seen["most_loss"], seen["kept"]) == (1000, 0.005, "fp32")
    assert (accuracy["fp32"], accuracy["int8"]) == (0.5, 0.498)
    assert accuracy["low"] < -0.005 < 0 < accuracy["high"]
    assert "accuracy" not in choose_precision(trials(20), "auto", 0.005).to_dict()


def test_the_accuracy_of_a_trial_without_labels_is_not_known() -> None:
    assert trials(0)["fp32"].accuracy is None
    assert trials(10)["fp32"].accuracy == 0.5


def test_the_interval_of_paired_shares_is_narrower_than_that_of_each() -> None:
    measured = trials(1000, lost=5, gained=5)
    right, changed = measured["fp32"].right, measured["int8"].right
    paired = compare_shares(right, changed, EvaluationConfig())
    shuffled = np.random.default_rng(3).permutation(changed)
    unpaired = compare_shares(right, shuffled, EvaluationConfig())
    assert paired.difference == unpaired.difference == 0.0
    assert width(paired) < width(unpaired) / 3


def width(difference: Difference) -> float:
    assert difference.low is not None
    assert difference.high is not None
    return difference.high - difference.low
