"""Where the value of a key is sought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from classmark.errors import InvalidConfig

Value = float | int | str | bool


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where the value of a key is sought: between two numbers, or among choices.

    Attributes:
        low: the least value; with a whole low and high, only whole values are tried.
        high: the greatest value.
        log: seek evenly over the logarithm.
        step: distance of the values that are tried, from low; None: any.
        choices: the values; then there is no low and no high.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Return whether only whole numbers are tried."""
        return type(self.low) is type(self.high) is int and type(self.step) in (int, type(None))

    @property
    def ends(self) -> tuple[Value, ...]:
        """Return the values that must be possible for all of them to be."""
        if self.choices:
            return self.choices
        assert self.low is not None and self.high is not None  # noqa: S101, PT018 - checked
        return (self.low, self.high)

    def has(self, value: object) -> bool:
        """Return whether a value is in the range."""
        if self.choices:
            return value in self.choices
        low, high = (float(end) for end in self.ends)
        return isinstance(value, int | float) and low <= value <= high

    def to_dict(self) -> dict[str, Any]:
        """Return what the file of the space says."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {k: v for k, v in asdict(self).items() if v not in (None, False, ())}


def leaves(group: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the ranges of a nested space with their keys."""
    known = {field.name for field in fields(Range)}
    for name, value in group.items():
        if isinstance(value, dict) and value and not known & value.keys():
            yield from leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def read_range(key: str, given: object) -> Range:
    """Return the range of a key of the space, checked.

    Raises:
        InvalidConfig: it is none.
    """
    example = "Write {low: 1, high: 5}, {low: 0.01, high: 1.0, log: true} or {choices: [1, 2]}."
    where = f"sweep.space.{key}"
    if not isinstance(given, dict) or given.keys() - {field.name for field in fields(Range)}:
        raise InvalidConfig(f"{where} is {given!r}, which is no range. {example}")
    found = Range(**{**given, "choices": tuple(given.get("choices") or ())})
    numbers = [found.low, found.high, *([] if found.step is None else [found.step])]
    is_range = all(type(n) in (int, float) for n in numbers) and type(found.log) is bool
    if found.choices:
        if found.low is not None or found.high is not None:
            raise InvalidConfig(f"{where} has choices and low or high. {example}")
    elif not is_range:
        raise InvalidConfig(f"{where} is {given!r}, which is no range. {example}")
    elif problem := _problem_of(found):
        raise InvalidConfig(f"{where} is {given!r}: {problem}.")
    return found


def _problem_of(found: Range) -> str:
    low, high = found.low or 0, found.high or 0
    problems = {
        "low must be below high": not low < high,
        "with log, low must be above 0": found.log and low <= 0,
        "log and step exclude each other": found.log and found.step is not None,
        "step must be above 0": found.step is not None and found.step <= 0,
    }
    return next((words for words, is_so in problems.items() if is_so), "")
