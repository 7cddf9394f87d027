"""The rules of a canary: what ends it, and how rarely they are wrong."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import UsageError
from classmark.registry.rules import CanaryRules, Counts, Trial, Verdict
from classmark.registry.sequential import BETS, Arm, ShareTest, log_mean, mean_evidence

EDGES = (*(0.001 * 2**i for i in range(12)), math.inf)
RULES = CanaryRules(requests=300, minutes=0.0, false_rollback=0.05)
shares = st.floats(0.01, 0.6)


def binomial(n: int, k: int, share: float) -> float:
    return math.comb(n, k) * share**k * (1 - share) ** (n - k)


@given(
    low=shares,
    more=st.floats(0.01, 0.3),
    margin=st.floats(0, 0.2),
    true=shares,
    below=st.floats(0, 1),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_the_expected_gain_of_a_block_within_the_bound_is_at_most_1(
    low: float, more: float, margin: float, true: float, below: float, sizes: tuple[int, int]
) -> None:
    test, high = ShareTest(margin), low + margin + more
    truth = (true, (true + margin) * below)  # any pair of shares within the bound
    n, m = sizes
    expected = sum(
        binomial(n, k, truth[0])
        * binomial(m, j, truth[1])
        * math.exp(test._gain(Arm(n, k), Arm(m, j), low, min(high, 0.99)))
        for k in range(n + 1)
        for j in range(m + 1)
    )
    assert expected <= 1 + 1e-9


@given(bound=st.floats(0, 0.9), up=st.floats(0, 1), down=st.floats(0, 1))
def test_the_expected_evidence_of_one_value_within_the_bound_is_at_most_1(
    bound: float, up: float, down: float
) -> None:
    down *= 1 - up
    if up - down > bound:
        return
    counts = {(1, 0, 0): up, (0, 1, 0): down, (0, 0, 1): 1 - up - down}
    expected = sum(p * math.exp(mean_evidence(*seen, bound)) for seen, p in counts.items())
    assert expected <= 1 + 1e-9
    assert all(0 < bet < 1 for bet in BETS)


def test_the_mean_of_large_logarithms_does_not_overflow() -> None:
    assert log_mean([2000.0, 2000.0]) == pytest.approx(2000.0)
    assert log_mean([0.0, -5000.0]) == pytest.approx(-math.log(2))


def run(
    seed: int,
    *,
    rules: CanaryRules = RULES,
    failing: float = 0.01,
    slower: float = 1.0,
    disagreeing: float = 0.0,
    abstaining: float = 0.0,
) -> Verdict:
    """Return how a canary of a model ends; the champion fails in 1 % of the requests."""
    chance, trial = random.Random(seed), Trial(rules, EDGES)
    requests, failed, same, more = [0, 0], [0, 0], 0, 0
    latencies = [[0.0] * len(EDGES), [0.0] * len(EDGES)]
    verdict = Verdict(None, "")
    for minute in range(120):
        busy = 2.0 if chance.random() < 0.1 else 1.0  # for both: no fault of the candidate
        for _ in range(40):
            side = int(chance.random() < 0.25)
            requests[side] += 1
            failed[side] += chance.random() < (failing if side else 0.01) * busy
            seconds = 0.002 * busy * chance.lognormvariate(0, 0.5) * (slower if side else 1.0)
            latencies[side][bisect_left(EDGES, seconds)] += 1
            if side:
                same += chance.random() >= disagreeing
                more += chance.random() < abstaining
        pairs = (requests[0], requests[1]), (failed[0], failed[1])
        slow = (list(latencies[0]), list(latencies[1]))
        verdict = trial.look(Counts(*pairs, slow, same, requests[1], more), minute)
        if verdict.outcome:
            break
    return verdict


@pytest.mark.parametrize(
    ("fault", "bound"),
    [
        ({"failing": 0.12}, "error_share"),
        ({"slower": 6.0}, "p99_ratio"),
        ({"disagreeing": 0.5}, "agreement"),
        ({"abstaining": 0.25}, "abstention"),
    ],
)
def test_a_worse_candidate_is_rolled_back_by_the_bound_that_it_breaks(
    fault: dict[str, float], bound: str
) -> None:
    verdicts = [run(seed, **fault) for seed in range(5)]  # type: ignore[arg-type]
    assert {verdict.outcome for verdict in verdicts} == {"rolled_back"}
    assert {verdict.why for verdict in verdicts} == {f"{bound} is out of bounds"}


@pytest.mark.parametrize("bound", ["error_share", "p99_ratio", "agreement", "abstention"])
def test_a_bound_that_is_left_out_rolls_nothing_back(bound: str) -> None:
    rules = CanaryRules.from_dict({**RULES.to_dict(), bound: None})
    verdict = run(
        0, rules=rules, **{
            "error_share": {"failing": 0.12},
            "p99_ratio": {"slower": 6.0},
            "agreement": {"disagreeing": 0.5},
            "abstention": {"abstaining": 0.25},
        }[bound],
    )  # fmt: skip
    assert verdict.outcome != "rolled_back"


@pytest.mark.slow  # a thousand canaries
def test_an_equal_candidate_is_rolled_back_no_more_often_than_the_rules_say() -> None:
    outcomes = [run(seed).outcome for seed in range(1000)]
    assert outcomes.count("rolled_back") <= 1000 * RULES.false_rollback
    assert outcomes.count("promoted") > 900


def test_a_candidate_is_promoted_only_after_requests_minutes_and_comparisons() -> None:
    rules = CanaryRules(requests=100, minutes=10)
    none, some = [0.0] * len(EDGES), [0.0, 100.0, *[0.0] * (len(EDGES) - 2)]
    enough = Counts((900, 100), (0, 0), ([9 * n for n in some], some), 100, 100)

    def verdict(counts: Counts, minutes: float) -> tuple[str | None, str]:
        found = Trial(rules, EDGES).look(counts, minutes)
        return found.outcome, found.why

    assert verdict(Counts(latencies=(none, none)), 20) == (None, "0 of 100 requests")
    assert verdict(enough, 9.5) == (None, "9.5 of 10 minutes")
    assert verdict(replace(enough, compared=5, same=5), 10) == (
        None,
        "5 papers were compared, too few",
    )
    assert verdict(enough, 10) == ("promoted", "all rules hold")
    assert verdict(replace(enough, failed=(0, 2)), 10) == (None, "error_share is near its bound")


def test_the_numbers_of_a_verdict_are_those_it_was_made_of() -> None:
    numbers = run(3, disagreeing=0.5).numbers
    assert numbers["agreement"] < 0.7
    assert numbers["log_evidence"]["agreement"] > numbers["log_evidence_of_rollback"] == 2.996
    assert numbers["requests"]["candidate"] == numbers["compared"]
    assert numbers["p99_ms"]["champion"] in [1000 * edge for edge in EDGES]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"speed": 1}, r"'speed' is not a field\. They may have requests, minutes"),
        ({"requests": "many"}, r"'requests' is 'many'"),
        ({"requests": 0}, r"requests of the rules of a canary is 0\. Give a number from 1"),
        ({"agreement": 1.5}, r"agreement of the rules of a canary is 1\.5"),
        ({"p99_ratio": 0.5}, r"p99_ratio .* is 0\.5"),
        ({"false_rollback": 0}, r"false_rollback .* is 0"),
    ],
)
def test_rules_that_make_no_sense_are_refused_with_what_they_may_be(
    given: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        CanaryRules.from_dict(given)


def test_rules_are_read_as_they_were_written() -> None:
    rules = CanaryRules(requests=5, agreement=None)
    assert CanaryRules.from_dict(rules.to_dict()) == rules
    assert CanaryRules.from_dict({}) == CanaryRules()
