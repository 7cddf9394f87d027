"""The page of what became of a model, by what it says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from classmark.pages.timeline import Timeline, event_words, timeline_page
from classmark.records import MetricValue, PromotionEvent, RetrainEvent, RetrainReason
from classmark.records import RetrainOrder as Order
from classmark.records import RetrainState as State
from classmark.records.drift import Alarm, Counts, DriftReport, LiveScore, Size
from classmark.records.registry import RetrainStep
from classmark.wire import ModelRef

OLD, NEW = "a" * 64, "b" * 64


def at(minute: int) -> str:
    return f"2026-11-28T12:{minute:02d}:00.000Z"


def score(name: str, top1: float, n: int = 100) -> LiveScore:
    value = MetricValue(value=top1, low=top1 - 0.05, high=top1 + 0.05)
    return LiveScore(
        name=name,
        n=n,
        top1=value,
        top5=value,
        n_accepted=0,
        accepted=None,
        abstained=0.0,
        n_sets=0,
        covered=None,
    )


def report(minute: int, *alarms: Alarm) -> DriftReport:
    return DriftReport(
        model=ModelRef("mine", "1.0", OLD),
        reference="validation papers",
        created_at_utc=at(minute),
        since_utc=at(0),
        until_utc=at(minute),
        counts=Counts(read=500, compared=500, repeated=0, without_features=0, left_out=0),
        alpha=0.01,
        window=None,
        size=Size(share=0.1, low=0.05, high=0.2),
        alarms=alarms,
    )


ALARM = Alarm(kind="window", action="retrain", p_value=0.001, text="the <b>papers</b> differ")
OF_KEY = Alarm(kind="client", action="report", p_value=0.001, text="the papers of key x differ")
CAUSE = RetrainReason(kind="alarm", text="the papers differ")
ORDER = Order(id="one", created_at_utc=at(11), champion=OLD, start="full", reasons=(CAUSE,))
EVENTS = (
    RetrainEvent(step="ordered", at_utc=at(11), facts={"name": "mine", "version": "1.1"}),
    RetrainEvent(step="extended", at_utc=at(12), facts={"new": {"train": 1200, "test": 34}}),
    RetrainEvent(step="promoted", at_utc=at(20), facts={"why": "all rules hold"}, cpu_s=90),
)
CHANGES = (
    PromotionEvent(sequence=1, at_utc=at(0), who="me", action="create"),
    PromotionEvent(sequence=2, at_utc=at(1), who="me", action="promote", to_digest=OLD),
    PromotionEvent(
        sequence=3,
        at_utc=at(20),
        who="service",
        action="end_canary",
        why="all rules hold",
        from_digest=OLD,
        to_digest=NEW,
        numbers={"outcome": "promoted"},
    ),
)
STORY = Timeline(
    scores=(
        (at(2), score("mine@1.0", 0.8)),
        (at(11), score("mine@1.0", 0.5)),
        (at(15), score("mine@1.0", 0.6, n=300)),
        (at(15), score("mine@1.1", 0.7)),
        (at(21), score("mine@1.1", 0.75)),
    ),
    reports=(report(5), report(10, ALARM, OF_KEY, OF_KEY)),
    changes=CHANGES,
    orders=(State(order=ORDER, events=EVENTS),),
    names={OLD: "mine@1.0", NEW: "mine@1.1"},
    generated=True,
    origin={"registry": "here"},
)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_says_what_happened_in_the_order_of_time() -> None:
    said = text_of(timeline_page(STORY))
    assert "1 alarm, 1 order, 2 champions." in said
    rows = said[said.index("What happened") :]
    places = [
        rows.index(words)
        for words in (
            "registry: promote mine@1.0",
            "monitor: none nothing is beyond chance",
            "monitor: retrain",
            "order: ordered the papers differ",
            "order: extended 1,200 new in train, 34 new in test",
            "order: promoted all rules hold",
        )
    ]
    assert places == sorted(places)
    assert "registry: create" not in rows
    assert "registry: end canary mine@1.1: all rules hold" in rows


def test_the_tiles_have_the_accuracy_before_and_after_the_takeover() -> None:
    said = text_of(timeline_page(STORY))
    assert "accuracy at first 80.0% mine@1.0, 100 papers" in said
    assert "accuracy before 57.5% mine@1.0, 400 papers" in said
    assert "accuracy now 75.0% mine@1.1, 100 papers" in said
    assert "last order promoted 1.5 CPU-minutes" in said
    assert "champion mine@1.1" in said


def test_words_of_an_alarm_are_escaped_and_those_of_keys_counted() -> None:
    page = timeline_page(STORY)
    assert "the &lt;b&gt;papers&lt;/b&gt; differ; 2 API keys alone" in page
    assert "<b>papers" not in page
    assert "Invented sample papers" in page


def test_the_figures_show_versions_alarm_and_champions() -> None:
    page = timeline_page(STORY)
    accuracy = page[page.index("<svg") : page.index("</svg>")]
    for words in ("mine@1.0", "mine@1.1", ">alarm<", ">1.0<", ">1.1<"):
        assert words in accuracy
    assert page.count("<svg") == 2


def test_a_registry_in_which_nothing_happened_has_a_page() -> None:
    page = timeline_page(Timeline(changes=CHANGES[:1]))
    assert "<svg" not in page
    assert "champion none" in text_of(page)
    assert "0 alarms, 0 orders, 0 champions." in text_of(page)


@pytest.mark.parametrize(
    ("step", "facts", "expected"),
    [
        ("failed", {"step": "trained", "error": "no space"}, "no space"),
        ("evaluated", {"top_1": 0.61234}, "top-1 0.612 on the test papers"),
        ("canary", {"percent": 5.0}, "5 %"),
        ("registered", {"digest": NEW}, "bbbbbbbbbbbb"),
        ("trained", {"dataset": NEW}, ""),
    ],
)
def test_a_step_is_said_in_a_few_words(
    step: RetrainStep, facts: dict[str, object], expected: str
) -> None:
    assert event_words(RetrainEvent(step=step, at_utc=at(1), facts=facts)) == expected


def test_a_bundle_that_is_gone_is_called_by_its_digest() -> None:
    said = text_of(timeline_page(replace(STORY, names={})))
    assert f"champion {NEW[:12]}" in said
