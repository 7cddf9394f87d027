"""Predictions and feedback as records, and the ids that join them."""

from __future__ import annotations

import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidEvent
from classmark.records import (
    FeedbackEvent,
    Prediction,
    PredictionEvent,
    derived_prediction_id,
    is_prediction_id,
    new_prediction_id,
    utc_text,
)
from classmark.wire import ModelRef

NOON_MS = 1_764_000_000_000


def uuid7(at_ms: int) -> str:
    return str(uuid.UUID(int=(at_ms << 80) | (7 << 76) | (2 << 62) | 12345))


def event() -> PredictionEvent:
    return PredictionEvent(
        prediction_id=new_prediction_id(),
        at_utc=utc_text(),
        model=ModelRef("fast", "1.0", "d" * 64),
        text_fingerprint="0123456789abcdef",
        primary=None,
        reason="below_threshold",
        ranked=(("cs.LG", 0.25),),
        set=("cs.LG",),
        cross_lists=(),
        known_share=0.5,
        n_chars=10,
        n_words=2,
        latex_share=0.0,
        latency_ms=1.0,
    )


def test_ids_are_26_characters_that_nobody_misreads() -> None:
    ids = {new_prediction_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_prediction_id(value) for value in ids)
    assert not set("ilou") & set("".join(ids))


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1))
def test_the_order_of_ids_is_the_order_of_time(first: int, second: int) -> None:
    ids = new_prediction_id(at_ms=first), new_prediction_id(at_ms=second)
    if first != second:
        assert (ids[0] < ids[1]) == (first < second)


@pytest.mark.parametrize(
    "text",
    ["", "0" * 25, "0" * 27, "8" + "0" * 25, "0" * 25 + "u", "0" * 25 + "A", "0" * 26 + "\n"],
)
def test_what_is_no_id_is_told(text: str) -> None:
    assert not is_prediction_id(text)


@given(st.text(alphabet=string.printable), st.text())
def test_a_derived_id_is_well_formed_and_the_same_everywhere(key: str, part: str) -> None:
    derived = derived_prediction_id(key, part, at_ms=NOON_MS)
    assert is_prediction_id(derived)
    assert derived == derived_prediction_id(key, part, at_ms=NOON_MS + 60_000)
    assert derived != derived_prediction_id(key, part + "x", at_ms=NOON_MS)


def test_a_derived_id_takes_the_time_of_a_version_7_uuid() -> None:
    key = uuid7(NOON_MS)
    derived = derived_prediction_id(key, at_ms=NOON_MS + 59_000)
    assert derived[:10] == new_prediction_id(at_ms=NOON_MS)[:10]
    assert derived == derived_prediction_id(key, at_ms=NOON_MS + 86_000_000)


def test_a_key_from_another_age_does_not_decide_the_time() -> None:
    derived = derived_prediction_id(uuid7(1), at_ms=NOON_MS)
    midnight = NOON_MS - NOON_MS % 86_400_000
    assert derived[:10] == new_prediction_id(at_ms=midnight)[:10]


def test_a_time_is_written_with_milliseconds_and_z() -> None:
    assert utc_text(0) == "1970-01-01T00:00:00.000Z"
    assert utc_text(1_500) == "1970-01-01T00:00:01.500Z"


def test_a_prediction_survives_its_json_form() -> None:
    written = event()
    value = Prediction(written).to_dict()
    assert value["ranked"] == [{"code": "cs.LG", "probability": 0.25}]
    assert value["feedback"] == []
    assert PredictionEvent.from_dict(value) == written


def test_a_json_form_without_a_key_is_refused() -> None:
    value = event().to_dict()
    del value["n_chars"]
    with pytest.raises(InvalidEvent, match=r"not a prediction of the journal: .*`n_chars`"):
        PredictionEvent.from_dict(value)


def test_feedback_needs_a_well_formed_id_and_a_short_comment() -> None:
    with pytest.raises(InvalidEvent, match="'nonsense' is not a prediction id"):
        FeedbackEvent(prediction_id="nonsense", category="cs.LG", at_utc=utc_text())
    with pytest.raises(InvalidEvent, match=r"the comment has 501 characters\. Use at most 500"):
        FeedbackEvent(
            prediction_id=new_prediction_id(), category="cs.LG", at_utc="", comment="x" * 501
        )


def test_the_latest_feedback_is_the_last_word() -> None:
    written = event()
    said = [
        FeedbackEvent(prediction_id=written.prediction_id, category=code, at_utc=utc_text())
        for code in ("cs.AI", "cs.CL")
    ]
    assert Prediction(written, tuple(said)).latest_feedback == said[1]
    assert Prediction(written).latest_feedback is None
