from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidGates
from classmark.evaluation.behaviour import BEHAVIOURS
from classmark.evaluation.gate import read_rules
from classmark.evaluation.gate.rules import GROUPS, METRICS
from classmark.pages.text import METRIC_TITLES

SHARE = st.floats(0, 1)
COUNT = st.integers(1, 10**6)


def limits(metrics: list[str], *kinds: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return limits of shares, at least one; none is least and greatest at once."""
    numbers = st.dictionaries(st.sampled_from(metrics), SHARE, min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional=dict.fromkeys(kinds, numbers)).filter(
        lambda found: bool(found) and not {"minimum", "maximum"} <= found.keys()
    )


GROUP_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "metrics": limits(list(METRICS), "minimum", "maximum", "most_fall", "most_rise"),
    "periods": st.builds(
        lambda found, n: {**found, "papers": n},
        limits(list(METRICS), "minimum", "most_fall", "most_rise"),
        COUNT,
    ),
    "categories": limits(["f1"], "minimum", "most_fall"),
    "labels": st.fixed_dictionaries({"most_missing": st.integers(0, 9), "most_unknown": SHARE}),
    "robustness": st.fixed_dictionaries(
        {}, optional={"margin": st.floats(0, 0.99), "papers": COUNT, "gates": st.just("g.json")}
    ),
    "behaviour": st.fixed_dictionaries(
        {"least": st.dictionaries(st.sampled_from(list(BEHAVIOURS)), SHARE, max_size=3)}
    ),
    "goldens": st.fixed_dictionaries(
        {"file": st.just("golden.json"), "least": SHARE, "most_change": st.none() | SHARE}
    ),
    "kernels": st.fixed_dictionaries({"papers": COUNT}),
    "cost": st.fixed_dictionaries({"latency_ratio": st.floats(0.01, 99), "papers": COUNT}),
    "signature": st.fixed_dictionaries({"required": st.booleans()}),
    "fit": st.fixed_dictionaries(
        {"allow_unknown": st.booleans(), "trained_on": st.just(["one", "two"])}
    ),
}
RULES = st.fixed_dictionaries({}, optional=GROUP_STRATEGIES).filter(bool)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [*GROUPS, "measurement", "format_version", "minimum", "top_1", "papers", "cost", "file"]
)


def test_every_group_has_a_strategy_here() -> None:
    assert set(GROUP_STRATEGIES) == set(GROUPS)


@given(RULES)
def test_rules_are_the_same_after_json_with_their_defaults(given_rules: dict[str, Any]) -> None:
    rules = read_rules({"format_version": 1, **given_rules})
    again = read_rules(json.loads(json.dumps(rules.to_dict())))
    assert again == rules
    assert set(rules.left_out) == set(GROUPS) - given_rules.keys()


@given(RULES, st.dictionaries(KEYS | st.text(max_size=6), JSON, min_size=1, max_size=3))
def test_anything_else_is_read_or_refused_with_one_error(
    given_rules: dict[str, Any], more: dict[str, Any]
) -> None:
    with suppress(InvalidGates):
        rules = read_rules({"format_version": 1, **given_rules, **more})
        assert rules.left_out != GROUPS


@given(RULES, st.data())
def test_a_key_that_is_not_known_is_never_passed_over(
    given_rules: dict[str, Any], data: st.DataObject
) -> None:
    group = data.draw(st.sampled_from(sorted(given_rules)))
    value = {**given_rules, group: {**given_rules[group], "minumum": 1}}
    with pytest.raises(InvalidGates, match=rf"'{group}\.minumum' is not a field"):
        read_rules({"format_version": 1, **value})


def test_the_metrics_are_those_of_a_report() -> None:
    assert set(METRICS) == set(METRIC_TITLES)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "asks for nothing"),
    ({"metrics": None}, "asks for nothing"),
    ({"metrics": {}}, "metrics has no limit. Give one of minimum, maximum"),
    ({"metric": {}}, "'metric' is not a field. Did you mean metrics?"),
    ({"metrics": {"minimum": {"top1": 0.5}}}, "top1 is not a metric of it. Did you mean top_1?"),
    ({"metrics": {"minimum": {"wit": 0.5}}}, r"wit is not a metric of it. Choose from top_1"),
    ({"metrics": {"minimum": {"top_1": 1.5}}}, r"top_1 is 1\.5, it must be a number from 0 to 1"),
    ({"metrics": {"maximum": {"ece": -0.1}}}, r"ece is -0\.1, it must be a number from 0 to 1"),
    ({"metrics": {"maximum": {"nll": -1}}}, "nll is -1.0, it must be 0 or more"),
    ({"metrics": {"minimum": {"top_1": float("nan")}}}, "'metrics.minimum.top_1' is nan"),
    ({"metrics": {"minimum": {"top_1": "0.5"}}}, "must be a number"),
    ({"metrics": {"minimum": {"top_1": True}}}, "must be a number"),
    (
        {"metrics": {"minimum": {"ece": 0.2}, "maximum": {"ece": 0.1}}},
        "no ece is at least 0.2 and at most 0.1",
    ),
    ({"categories": {"minimum": {"top_1": 0.1}}}, r"top_1 is not a metric of it.*Choose from f1"),
    ({"categories": {"most_fall": {"recall": 0.1}}}, "recall is not a metric of it"),
    ({"periods": {"minimum": {"top_1": 0.1}, "papers": 0}}, "papers is 0, it must be at least 1"),
    ({"robustness": {"margin": 1.0}}, "margin is 1.0, it must be below 1"),
    ({"robustness": {"kinds": ["typo"]}}, "'typo' is unknown. Did you mean typos?"),
    ({"robustness": {"papers": 0}}, "robustness.papers is 0"),
    ({"behaviour": {"least": {"remarks": 1}}}, "'remarks' is unknown. Did you mean remark?"),
    ({"behaviour": {"least": {"remark": 2}}}, r"behaviour.least.remark is 2\.0"),
    ({"goldens": {}}, "'goldens.file' is missing"),
    ({"goldens": {"file": "a", "least": 1.1}}, r"goldens.least is 1\.1"),
    ({"goldens": {"file": "a", "most_change": 7}}, r"goldens.most_change is 7\.0"),
    ({"cost": {}}, "cost has no limit"),
    ({"cost": {"latency_ratio": 0}}, "cost.latency_ratio is 0.0, it must be above 0"),
    ({"cost": {"size_mb": 9, "rounds": 2}}, "cost.rounds is 2, it must be at least 3"),
    ({"kernels": {"papers": 1.5}}, "'kernels.papers' is 1.5, it must be a whole number"),
    ({"labels": {"most_missing": -1}}, "labels.most_missing is -1"),
    ({"signature": {"required": "yes"}}, "it must be true or false"),
    ({"fit": {"trained_on": "data"}}, "it must be a list"),
    ({"measurement": {"draws": -1}, "fit": {}}, "draws must be at least 0"),
    ({"measurement": {"level": 1.0}, "fit": {}}, "level must be between 0 and 1"),
    ({"fit": {True: 1}}, "the key True of fit is not a text"),
]


@pytest.mark.parametrize(("value", "words"), REFUSED, ids=lambda v: str(v)[:40])
def test_rules_that_cannot_be_meant_are_refused(value: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidGates, match=words):
        read_rules({"format_version": 1, **value})


@pytest.mark.parametrize(
    "value", [None, [], "rules", {}, {"format_version": 2}, {"format_version": True}]
)
def test_rules_of_another_format_are_refused(value: object) -> None:
    with pytest.raises(InvalidGates, match="format_version is"):
        read_rules(value)
