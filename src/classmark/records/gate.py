"""What a gate found about a candidate: checks with value and limit, and the report of all of them.

Also the golden answers that a gate replays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from classmark.errors import InvalidGates, InvalidReport
from classmark.records.fields import WrongField, read_fields, read_report
from classmark.wire import ModelRef, to_builtins

GATE_FORMAT_VERSION = 1
GOLDENS_FORMAT_VERSION = 1

Scope = Literal["all", "period", "category"]
Bound = Literal["at_least", "at_most"]
Outcome = Literal["passed", "failed", "not_checked"]
_DERIVED = ("digest", "passed", "failed", "checked")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateCheck:
    """One line of a gate.

    Attributes:
        group: of the rules that asks for it, e.g. ``metrics``.
        name: what is limited, e.g. ``top_1``.
        scope: which papers it is about.
        part: name of the period or category; "" for all papers.
        bound: whether the limit is the least or the greatest value.
        value: what is compared with the limit; None if it could not be measured.
        limit: None where there is no number to reach.
        outcome: ``not_checked`` neither passes nor fails; the note says why.
        candidate: the candidate's own number, where ``value`` is a difference or a ratio.
        champion: the champion's number, where the check compares the two.
        low: of the interval of the value, or of the difference; None if there is none.
        high: its other end.
        note: what a person needs to know, "" if the numbers say it all.
    """

    group: str
    name: str
    scope: Scope = "all"
    part: str = ""
    bound: Bound = "at_least"
    value: float | None = None
    limit: float | None = None
    outcome: Outcome
    candidate: float | None = None
    champion: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.value is None or self.limit is None or self.outcome == "not_checked":
            return
        if self.holds != (self.outcome == "passed"):
            raise ValueError(f"{self.name} is {self.value}, limit {self.limit}: {self.outcome}?")

    @property
    def holds(self) -> bool:
        """Whether the value is within its limit; False where one of them is missing."""
        if self.value is None or self.limit is None:
            return False
        if self.bound == "at_least":
            return self.value >= self.limit
        return self.value <= self.limit

    @property
    def passed(self) -> bool:
        """Whether it does not fail."""
        return self.outcome != "failed"

    @property
    def missed_by(self) -> float | None:
        """How far the value is beyond its limit; None if it is not, or has no number."""
        if self.outcome != "failed" or self.value is None or self.limit is None:
            return None
        return abs(self.value - self.limit)

    @property
    def place(self) -> str:
        """The papers it is about in words, "" for all of them."""
        return "" if self.scope == "all" else f"{self.scope} {self.part}"

    @property
    def limit_words(self) -> str:
        """The limit in words, "" if there is none."""
        if self.limit is None:
            return ""
        return f"{self.bound.replace('_', ' ')} {_number(self.limit)}"

    def __str__(self) -> str:
        where = f"{self.group}, {self.place}" if self.place else self.group
        if self.value is None:
            wanted = f" ({self.limit_words})" if self.limit is not None else ""
            return f"{where}: {self.name}{wanted}: {self.note}"
        words = f"{where}: {self.name} is {_number(self.value)}, {self.limit_words}"
        if self.missed_by is not None:
            beyond = "short by" if self.bound == "at_least" else "over by"
            words += f", {beyond} {_number(self.missed_by)}"
        return f"{words} ({self.note})" if self.note else words


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.4f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """Every check of one candidate, and what is needed to make them again.

    Attributes:
        candidate: who wants to be promoted; its digest is what the report is about.
        champion: with whom it was compared, None if there is no champion.
        dataset_digest: digest of the dataset manifest.
        split: name of the split.
        generated: the papers were invented; the numbers say nothing about real ones.
        n: papers whose category the candidate knows.
        date: ISO date and time (UTC).
        machine: system, processor architecture, CPUs, Python and numpy versions.
        command: the command line, "" if it was called from Python.
        rules: as they were read, with every default.
        left_out: groups of checks that the rules do not ask for.
        checks: every line, in the order of the rules.
    """

    candidate: ModelRef
    champion: ModelRef | None
    dataset_digest: str
    split: str
    generated: bool
    n: int
    date: str
    machine: str
    command: str
    rules: dict[str, Any]
    left_out: tuple[str, ...]
    checks: tuple[GateCheck, ...]
    format_version: int = field(default=GATE_FORMAT_VERSION)

    @property
    def failed(self) -> tuple[GateCheck, ...]:
        """The lines that refuse the candidate."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether no line fails, and one at least was checked."""
        return not self.failed and any(check.outcome == "passed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a report, first what the rest of it comes to."""
        derived = {
            "digest": self.candidate.digest,
            "passed": self.passed,
            "failed": len(self.failed),
            "checked": sum(check.outcome != "not_checked" for check in self.checks),
        }
        return {**derived, **to_builtins(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> GateReport:
        """Read the JSON object of a report; whether it passed is found from its checks again.

        Raises:
            InvalidReport: another format version, a key is missing or unknown, or its verdict is
                not that of its checks.
        """
        given = {key: v for key, v in value.items() if key not in _DERIVED}
        try:
            report = read_report(cls, given, GATE_FORMAT_VERSION, "classmark registry gate")
        except ValueError as error:
            raise InvalidReport(
                f"a check contradicts itself: {error} Run `classmark registry gate` again."
            ) from error
        if any(report.to_dict()[key] != value.get(key) for key in _DERIVED):
            raise InvalidReport(
                "the verdict of the report is not that of its checks. Run `classmark registry "
                "gate` again."
            )
        return report


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenAnswer:
    """A text, and what a model answered to it.

    Attributes:
        id: of the paper, or its place in the file.
        title: may be "".
        abstract: may be "".
        primary: category, None if the model abstained.
        first: most probable category.
        probability: of it, 0..1.
    """

    id: str
    title: str
    abstract: str
    primary: str | None
    first: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenAnswers:
    """Answers that a candidate should give again; no authors are among the texts.

    Attributes:
        model: who answered.
        answers: one entry for each text.
    """

    model: ModelRef
    answers: tuple[GoldenAnswer, ...]
    format_version: int = field(default=GOLDENS_FORMAT_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a file of golden answers."""
        value: dict[str, Any] = to_builtins(self)
        return value

    @classmethod
    def from_dict(cls, value: object) -> GoldenAnswers:
        """Read the JSON object of a file of golden answers.

        Raises:
            InvalidGates: another format version, a key is missing or unknown, or it has no answer.
        """
        seen = value.get("format_version") if isinstance(value, dict) else None
        if not isinstance(value, dict) or seen != GOLDENS_FORMAT_VERSION:
            raise InvalidGates(
                f"its format version is {seen!r}, this classmark reads {GOLDENS_FORMAT_VERSION}"
            )
        try:
            goldens = read_fields(cls, value)
        except WrongField as error:
            raise InvalidGates(f"it is not of format {GOLDENS_FORMAT_VERSION} ({error})") from error
        if not goldens.answers:
            raise InvalidGates("it has no answers")
        return goldens
