"""Makes the lines of a gate report about all papers, a period or a category."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from classmark.evaluation.gate.rules import Limits, PartLimits
from classmark.records import Difference, GateCheck, MetricValue
from classmark.records.gate import Bound, Outcome, Scope

NO_CHAMPION = "there is no champion"


class Lines:
    """Makes the lines of one group about all papers, or about some."""

    def __init__(self, group: str, scope: Scope = "all", part: str = "") -> None:
        self._group, self._scope, self._part = group, scope, part

    def reached(self, limits: Limits, values: Mapping[str, MetricValue]) -> Iterator[GateCheck]:
        """Yield a line for each least and greatest value of the candidate."""
        for metric, limit in limits.minimum.items():
            if metric in values:
                yield self.at_least(metric, values[metric].value, limit, values[metric])
            else:
                yield self.missing(metric, "it has no value", limit)
        for metric, limit in limits.maximum.items():
            if metric in values:
                yield self.at_most(metric, values[metric].value, limit, values[metric])
            else:
                yield self.missing(metric, "it has no value", limit, "at_most")

    def compared(
        self,
        limits: Limits,
        found: Mapping[str, Difference] | None,
        absent: str = NO_CHAMPION,
        *,
        surely: bool = False,
    ) -> Iterator[GateCheck]:
        """Yield a line for each limit of a fall below the champion, or of a rise above it.

        Args:
            limits: of the group.
            found: differences by metric; None if nothing could be compared.
            absent: why not.
            surely: fail only if the whole interval is beyond the limit; else all of it must be
                within. Of a hundred categories, some have an interval that reaches far by chance.
        """
        for word, sign, given in (
            ("fall", -1.0, limits.most_fall),
            ("rise", 1.0, limits.most_rise),
        ):
            for metric, limit in given.items():
                name = f"{word} of {metric}"
                if found is None:
                    yield self.open(name, absent)
                elif metric not in found:
                    yield self.missing(name, "one of the two has no value", limit, "at_most")
                else:
                    yield self._loss(name, found[metric], limit, sign, surely=surely)

    def _loss(
        self, name: str, found: Difference, limit: float, sign: float, *, surely: bool
    ) -> GateCheck:
        ends = [
            sign * (found.difference if end is None else end) for end in (found.low, found.high)
        ]
        low, high = min(ends), max(ends)
        drawn = MetricValue(value=sign * found.difference, low=low, high=high)
        deciding = low if surely else high
        return self.at_most(name, deciding, limit, drawn, both=(found.a, found.b))

    def at_least(
        self,
        name: str,
        value: float,
        limit: float,
        interval: MetricValue | None = None,
        note: str = "",
    ) -> GateCheck:
        """Return the line of a value that must reach its limit."""
        line = self.open(name, note)
        return _decided(replace(line, value=value, limit=limit, bound="at_least"), interval)

    def at_most(
        self,
        name: str,
        value: float,
        limit: float,
        interval: MetricValue | None = None,
        *,
        both: tuple[float | None, float | None] = (None, None),
        note: str = "",
    ) -> GateCheck:
        """Return the line of a value that must not exceed its limit.

        Args:
            name: of the line.
            value: that is compared.
            limit: with which.
            interval: of the value.
            both: the champion's number and the candidate's, if the value is made of them.
            note: for people.
        """
        champion, candidate = both
        line = replace(self.open(name, note), champion=champion, candidate=candidate)
        return _decided(replace(line, value=value, limit=limit, bound="at_most"), interval)

    def few(self, limits: PartLimits, n: int) -> GateCheck:
        """Return the line of a part that has too few papers."""
        return self.open("all limits", f"{n:,} test papers, fewer than {limits.papers:,}")

    def open(self, name: str, note: str) -> GateCheck:
        """Return the line of something that is not checked."""
        return GateCheck(
            group=self._group,
            name=name,
            scope=self._scope,
            part=self._part,
            outcome="not_checked",
            note=note,
        )

    def missing(
        self, name: str, note: str, limit: float | None = None, bound: Bound = "at_least"
    ) -> GateCheck:
        """Return the line of something that must be there, and is not."""
        return replace(self.open(name, note), limit=limit, bound=bound, outcome="failed")


def _decided(line: GateCheck, interval: MetricValue | None) -> GateCheck:
    """Return a line with its outcome, and the ends of an interval."""
    outcome: Outcome = "passed" if line.holds else "failed"
    if interval is None:
        return replace(line, outcome=outcome)
    return replace(line, outcome=outcome, low=interval.low, high=interval.high)
