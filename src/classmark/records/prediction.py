"""What the journal stores: published predictions, and the feedback on them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from classmark.errors import InvalidEvent
from classmark.wire import ModelRef, Reason, to_builtins

MAX_COMMENT_CHARS = 500
PREDICTION_ID_CHARS = 26

PredictionSource = Literal["classify", "files", "infer"]

# Crockford's base 32: no i, l, o, u, so that an id can be read aloud. 48 bits of milliseconds and
# 80 of chance make 26 characters, whose order is the order of time.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
ID_PATTERN = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.ASCII)
_UUID7_PATTERN = re.compile(
    r"([0-9a-f]{8})-?([0-9a-f]{4})-?7[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}",
    re.ASCII | re.IGNORECASE,
)
_CHANCE_BYTES = 10
_DAY_MS = 86_400_000


def new_prediction_id(*, at_ms: int | None = None) -> str:
    """Return a new id: 26 lower-case letters and digits, ordered by time.

    Args:
        at_ms: milliseconds since 1970 (UTC); now if left out.
    """
    return _spell(_now_ms() if at_ms is None else at_ms, os.urandom(_CHANCE_BYTES))


def derived_prediction_id(key: str, part: str = "", *, at_ms: int | None = None) -> str:
    """Return the id that every process gives to the same request, so that a retry is one event.

    The time in it is the key's if the key is a UUID of version 7 made within a day of now (which
    ``classmark.client`` sends), else the start of the day.

    Args:
        key: the request's id, e.g. the header ``Idempotency-Key``.
        part: what tells the papers of one request apart: place and fingerprint of the text.
        at_ms: milliseconds since 1970 (UTC); now if left out.
    """
    now_ms = _now_ms() if at_ms is None else at_ms
    digest = blake2b(f"{key}\n{part}".encode("utf-8", "replace"), digest_size=_CHANCE_BYTES)
    key_ms = _uuid7_ms(key)
    if key_ms is None or abs(key_ms - now_ms) > _DAY_MS:
        key_ms = now_ms - now_ms % _DAY_MS
    return _spell(key_ms, digest.digest())


def is_prediction_id(text: str) -> bool:
    """Return whether a text is well formed as a prediction id; it need not exist."""
    return ID_PATTERN.fullmatch(text) is not None


def utc_text(at_ms: int | None = None) -> str:
    """Return a time as the journal writes it, e.g. ``2026-11-24T08:56:47.123Z``.

    Args:
        at_ms: milliseconds since 1970 (UTC); now if left out.
    """
    seconds = time.time() if at_ms is None else at_ms / 1000
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def utc_text_from(text: str, units: Mapping[str, str], sign: int) -> str:
    """Return the time that an ISO date, or a number with a unit counted from now, means.

    Args:
        text: e.g. ``2026-11-24`` or ``7d``; without an offset it is UTC.
        units: letter -> unit as ``timedelta`` calls it.
        sign: 1 counts forward from now, -1 back.

    Raises:
        ValueError, OverflowError: the text is not a time.
    """
    if match := re.fullmatch(rf"(\d{{1,6}})([{''.join(units)}])", text, re.ASCII):
        moment = datetime.now(UTC) + sign * timedelta(**{units[match[2]]: int(match[1])})
    else:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return utc_text(round(moment.timestamp() * 1000))


class Compared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What another version made of the same paper, in the background.

    Attributes:
        model: which version.
        primary: the category that it accepted, None if it abstained.
        code: the category that it ranked first.
        probability: of that, 0..1.
        latency_ms: of scoring alone.
    """

    model: ModelRef
    primary: str | None
    code: str
    probability: float
    latency_ms: float


class PredictionEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published prediction: what was answered, by whom, how fast, and features of the text.

    Attributes:
        prediction_id: see ``new_prediction_id``.
        at_utc: when it was answered, see ``utc_text``.
        model: who answered.
        paper_id: the id that the caller gave, if any.
        text_fingerprint: ``papers.text_fingerprint``; all that is kept of the text by default.
        primary: the accepted category, None when the model abstained.
        reason: why it was accepted or not.
        ranked: (code, probability 0..1) of the top categories, most probable first; 5 or more.
        set: the prediction set; empty if none was published.
        cross_lists: further categories that the paper probably belongs to.
        known_share: share of the text's terms that the model knows, 0..1.
        n_chars: characters of title and abstract.
        n_words: words of title and abstract.
        latex_share: share of the characters that are commands or signs of LaTeX, 0..1; the
            letters inside a formula do not count.
        latency_ms: from the request to the answer.
        source: which endpoint answered.
        author_category: the category that the author gave, canonical.
        used_authors: whether earlier papers of its authors counted; nothing else is kept of them.
        compared: what another version made of it, during a canary or with a shadow.
        client: id of the API key that asked; "" without keys.
        service_version: version of classmark that answered; "" of one that did not say.
        features: what the monitor compares, see ``runtime.features``; None of an older classmark.
        text: title, newline, abstract; only where the journal was asked to keep texts.
    """

    prediction_id: str
    at_utc: str
    model: ModelRef
    paper_id: str | None = None
    text_fingerprint: str
    primary: str | None
    reason: Reason
    ranked: tuple[tuple[str, float], ...]
    set: tuple[str, ...]
    cross_lists: tuple[str, ...]
    known_share: float
    n_chars: int
    n_words: int
    latex_share: float
    latency_ms: float
    source: PredictionSource = "classify"
    author_category: str | None = None
    used_authors: bool = False
    compared: Compared | None = None
    client: str = ""
    service_version: str = ""
    features: bytes | None = None
    text: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``journal export``, without feedback."""
        ranked = [{"code": code, "probability": share} for code, share in self.ranked]
        return {**to_builtins(self), "ranked": ranked}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PredictionEvent:
        """Read the JSON object that ``to_dict`` returns; ``feedback`` beside it is left out.

        Raises:
            InvalidEvent: a key is missing or unknown, or a value has the wrong type.
        """
        fields = {key: item for key, item in value.items() if key != "feedback"}
        try:
            fields["ranked"] = [(r["code"], r["probability"]) for r in fields["ranked"]]
            return msgspec.convert(fields, cls)
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise InvalidEvent(
                f"this is not a prediction of the journal: {error}. Export it again."
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackEvent:
    """What somebody says the right category of a predicted paper is.

    Attributes:
        prediction_id: of the prediction, which may be written later than this.
        category: canonical code.
        at_utc: when it was said, see ``utc_text``.
        comment: at most 500 characters.
        client: id of the API key that said it; "" without keys.
    """

    prediction_id: str
    category: str
    at_utc: str
    comment: str | None = None
    client: str = ""

    def __post_init__(self) -> None:
        if not is_prediction_id(self.prediction_id):
            raise InvalidEvent(
                f"{self.prediction_id[:40]!r} is not a prediction id. Give the prediction_id of an "
                f"answer, {PREDICTION_ID_CHARS} letters and digits."
            )
        if self.comment is not None and len(self.comment) > MAX_COMMENT_CHARS:
            raise InvalidEvent(
                f"the comment has {len(self.comment)} characters. Use at most {MAX_COMMENT_CHARS}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``journal export``; the prediction around it has the id."""
        names = ("category", "at_utc", "comment", "client")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction as the journal has it, with all that was said of it, oldest first."""

    event: PredictionEvent
    feedback: tuple[FeedbackEvent, ...] = ()

    @property
    def latest_feedback(self) -> FeedbackEvent | None:
        """What was said last, None if nothing was."""
        return self.feedback[-1] if self.feedback else None

    def to_dict(self) -> dict[str, Any]:
        """Return one line of ``journal export``."""
        return {**self.event.to_dict(), "feedback": [item.to_dict() for item in self.feedback]}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _spell(at_ms: int, chance: bytes) -> str:
    value = (at_ms << 80) | int.from_bytes(chance)
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def _uuid7_ms(key: str) -> int | None:
    match = _UUID7_PATTERN.fullmatch(key)
    return int(match[1] + match[2], 16) if match else None
