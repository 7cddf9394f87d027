"""What replaces a model: the state of a registry, the events that led to it, and orders to retrain.

``pointer.json``, ``events.jsonl`` and ``order.json`` hold them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from classmark.errors import UsageError
from classmark.records.fields import WrongField, read_fields

FORMAT_VERSION = 1
NO_EVENT = "0" * 64
"""What the first event names as the one before it."""

Channel = Literal["champion", "challenger", "shadow"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Outcome = Literal["promoted", "rolled_back", "stopped"]
# fmt: off
Action = Literal[
    "create", "add", "promote", "rollback", "start_canary", "end_canary", "set_shadow", "archive",
    "collect", "trust", "revoke",
]
# fmt: on
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromotionEvent:
    """One change of a registry.

    Attributes:
        sequence: 1 for the first change.
        at_utc: what the clock of the machine said; the order of events is that of ``sequence``.
        who: user name@host, or the name of an API key.
        action: what was done.
        why: the reason that was given; "" if none was.
        from_digest: the bundle before, where one takes the place of another.
        to_digest: the bundle that the change is about.
        report: SHA-256 of the gate report that allowed it.
        numbers: what the change was decided on, or settings of it.
        previous: SHA-256 of the line of the event before.
    """

    sequence: int
    at_utc: str
    who: str
    action: Action
    why: str = ""
    from_digest: str | None = None
    to_digest: str | None = None
    report: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    previous: str = NO_EVENT

    def line(self) -> bytes:
        """Return the one spelling of the event in ``events.jsonl``, without the line end."""
        return canonical(asdict(self))

    @property
    def made_champion(self) -> str | None:
        """Digest of the bundle that it made the champion; None if it made none."""
        ended_well = self.numbers.get("outcome") == "promoted"
        if self.action in ("promote", "rollback") or (self.action == "end_canary" and ended_well):
            return self.to_digest
        return None

    def digest(self) -> str:
        """Return the SHA-256 of its line, which the next event names."""
        return hashlib.sha256(self.line()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the event."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PromotionEvent:
        """Read the JSON object of an event.

        Raises:
            WrongField: names the field.
        """
        return read_fields(cls, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """The digest of the bundle in each channel; None if it is empty."""

    champion: str | None = None
    challenger: str | None = None
    shadow: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """A share of requests goes to a candidate, until rules end it.

    Attributes:
        candidate: digest of its bundle, which is the challenger.
        percent: of the requests, above 0 to 100.
        rules: when it ends, as their YAML file has them.
        started_utc: when it began.
        allow_label_change: the candidate may have other labels than the champion.
        report: SHA-256 of the gate report of the candidate; None if it was forced.
    """

    candidate: str
    percent: float
    rules: dict[str, Any]
    started_utc: str
    allow_label_change: bool = False
    report: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered:
    """What is known of a bundle in the registry without reading it.

    Attributes:
        name: of the bundle, as is ``version``.
        version: e.g. ``2.0``.
        seal: digest of all that its manifest says.
        counter: in the statement that was signed; None if it is not signed.
        sequence: of the event that added it.
    """

    name: str
    version: str
    seal: str
    sequence: int
    counter: int | None = None

    @property
    def spec(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointer:
    """The whole state of a registry: what ``pointer.json`` holds.

    Attributes:
        sequence: how many changes there were.
        channels: which bundle is in which.
        archived: bundles that are kept but no longer serve.
        former: champions before this one, the latest last.
        bundles: every bundle, by digest, the oldest first.
        canary: the one that runs.
        shadow_percent: of the requests that the shadow scores too, 0 to 100.
        trusted_keys: public keys in PEM, by fingerprint; with one, every bundle must be signed.
        newest_signed: highest counter in a signed statement so far.
        last_event: of the change that wrote this.
    """

    sequence: int
    channels: Channels = Channels()
    archived: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    bundles: dict[str, Registered] = field(default_factory=dict)
    canary: Canary | None = None
    shadow_percent: float = 0.0
    trusted_keys: dict[str, str] = field(default_factory=dict)
    newest_signed: int = 0
    last_event: PromotionEvent
    format_version: int = FORMAT_VERSION

    def channel(self, name: str) -> str | None:
        """Return the digest of the bundle in a channel; None if it is empty.

        Raises:
            UsageError: there is no such channel.
        """
        if name not in CHANNELS:
            raise UsageError(f"{name[:40]!r} is not a channel. Use {', '.join(CHANNELS)}.")
        digest: str | None = getattr(self.channels, name)
        return digest

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``pointer.json``, without its digest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Pointer:
        """Read the JSON object of ``pointer.json``.

        Raises:
            WrongField: names the field.
        """
        pointer = read_fields(cls, value)
        named = [d for d in asdict(pointer.channels).values() if d is not None]
        for digest in (*named, *pointer.archived, *pointer.former, *pointer.bundles):
            if not _DIGEST.fullmatch(digest):
                raise WrongField("digest", digest, "64 hexadecimal digits")
        by_age = sorted(pointer.bundles.items(), key=lambda item: item[1].sequence)
        return replace(pointer, bundles=dict(by_age))


# fmt: off
RetrainKind = Literal[
    "alarm", "accuracy", "age", "asked",
    "no cause", "open order", "cooldown", "few papers", "no gain", "budget",
]
# fmt: on
RETRAIN_CAUSES: tuple[RetrainKind, ...] = ("alarm", "accuracy", "age", "asked")
"""What speaks for a new model: drift, lost accuracy, old papers, a person. The rest speaks
against it."""
RetrainStart = Literal["full", "warm"]
"""A fit begins with nothing, or with the weights of the champion."""
# fmt: off
RetrainStep = Literal[
    "ordered", "extended", "trained", "exported", "evaluated", "gated", "registered", "shadow",
    "canary", "failed", "promoted", "rolled_back", "refused", "abandoned",
]
# fmt: on
RETRAIN_ENDS: tuple[RetrainStep, ...] = ("promoted", "rolled_back", "refused", "abandoned")
"""Steps after which an order is closed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainReason:
    """Something that speaks for a new model, or against it.

    Attributes:
        kind: what it is.
        text: what was seen, in a sentence.
    """

    kind: RetrainKind
    text: str

    @property
    def speaks_for(self) -> bool:
        """Whether it is a cause."""
        return self.kind in RETRAIN_CAUSES


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainOrder:
    """That a model is to be fitted, and why. ``RetrainState`` adds what became of it.

    Attributes:
        id: of the order; sorts by time.
        created_at_utc: when.
        champion: digest of the bundle that is to be replaced.
        start: what the fit begins with.
        reasons: the causes.
        expected_gain: accuracy that the new model may win, 0..1; None if nothing says so.
    """

    id: str
    created_at_utc: str
    champion: str
    start: RetrainStart
    reasons: tuple[RetrainReason, ...]
    expected_gain: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainDecision:
    """An order, or why there is none.

    Attributes:
        order: None if something speaks against it.
        reasons: all that was considered, causes first.
    """

    order: RetrainOrder | None
    reasons: tuple[RetrainReason, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainEvent:
    """A step of an order.

    Attributes:
        step: that is done, or ``failed``.
        at_utc: when.
        facts: its result.
        cpu_s: CPU-seconds that it took.
    """

    step: RetrainStep
    at_utc: str
    facts: dict[str, Any] = field(default_factory=dict)
    cpu_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrainState:
    """An order and its steps so far: what ``order.json`` holds.

    Attributes:
        order: that is carried out.
        events: its steps, the oldest first.
    """

    order: RetrainOrder
    events: tuple[RetrainEvent, ...]
    format_version: int = FORMAT_VERSION

    @property
    def outcome(self) -> RetrainStep | None:
        """How it ended; None while it is open."""
        return next((e.step for e in self.events if e.step in RETRAIN_ENDS), None)

    @property
    def cpu_hours(self) -> float:
        """What it has cost."""
        return sum(event.cpu_s for event in self.events) / 3600

    def event(self, step: RetrainStep) -> RetrainEvent | None:
        """Return the latest event of a step; None if there is none."""
        return next((e for e in reversed(self.events) if e.step == step), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``order.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RetrainState:
        """Read the JSON object of ``order.json``.

        Raises:
            WrongField: names the field.
        """
        if value.get("format_version") != FORMAT_VERSION:
            raise WrongField("format_version", value.get("format_version"), str(FORMAT_VERSION))
        return read_fields(cls, value)


def canonical(value: object) -> bytes:
    """Return the one spelling of a JSON value that digests are made of.

    Raises:
        ValueError: it holds a number that is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
