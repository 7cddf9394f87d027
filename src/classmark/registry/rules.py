"""The rules that end a canary: when a candidate is promoted, and what rolls it back."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from classmark.records.fields import check_ranges, read_rules
from classmark.records.registry import Outcome
from classmark.registry.sequential import Arm, ShareTest, log_mean, mean_evidence

SLOWEST = 0.01
"""Share of the requests whose latency is compared: those above the 99th percentile."""
_FIRST_PERCENTILE_AT = 200
"""Requests of the champion before its 99th percentile means anything."""
_PAIRS_SHARE = 0.1
"""Of the requests that a promotion needs, so many must have been compared with the champion."""


@dataclass(frozen=True, kw_only=True)
class CanaryRules:
    """When a canary ends.

    Attributes:
        requests: of the candidate before it is promoted.
        minutes: before it is promoted.
        error_share: by how much its share of failed requests may be above the champion's, 0..1.
        p99_ratio: how many times as long its slowest 1 % of requests may take, 1 or more.
        abstention: by how much more often it may abstain on the same papers, 0..1.
        agreement: least share of papers that it puts into the same first category, 0..1.
        false_rollback: largest probability that a candidate within all bounds is rolled back.
    """

    requests: int = 1000
    minutes: float = 10.0
    error_share: float | None = 0.005
    p99_ratio: float | None = 2.0
    abstention: float | None = 0.05
    agreement: float | None = 0.7
    false_rollback: float = 0.01

    def __post_init__(self) -> None:
        ranges = {
            "requests": (1, math.inf),
            "minutes": (0, math.inf),
            "error_share": (0, 0.5),
            "p99_ratio": (1, 100),
            "abstention": (0, 0.5),
            "agreement": (0.01, 1),
            "false_rollback": (1e-6, 0.5),
        }
        check_ranges(self, ranges, "the rules of a canary")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CanaryRules:
        """Read the rules of a canary, as YAML or JSON has them; what is left out has its default.

        Raises:
            UsageError: a name is unknown, or a value cannot be used.
        """
        return read_rules(cls, value, "the rules of a canary", "They")

    def to_dict(self) -> dict[str, Any]:
        """Return the rules as the pointer has them."""
        return asdict(self)


@dataclass(frozen=True)
class Counts:
    """What two versions have done since a moment; all numbers only grow.

    Attributes:
        requests: answered or failed, of the champion and of the candidate.
        failed: of them.
        latencies: how many requests took up to each edge, and no less than the one before.
        same: papers whose first category is the same for both, of those compared.
        compared: papers that both have scored.
        abstained_more: of these, papers on which only the candidate abstained.
        abstained_less: and those on which only the champion did.
    """

    requests: tuple[float, float] = (0.0, 0.0)
    failed: tuple[float, float] = (0.0, 0.0)
    latencies: tuple[Sequence[float], Sequence[float]] = ((), ())
    same: float = 0.0
    compared: float = 0.0
    abstained_more: float = 0.0
    abstained_less: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a canary now.

    Attributes:
        outcome: how it ends; None while it goes on.
        why: the rule that decides.
        numbers: what that is based on, for the event.
    """

    outcome: Outcome | None
    why: str
    numbers: dict[str, Any] = field(default_factory=dict)


class Trial:
    """The evidence about one canary, collected look by look."""

    def __init__(self, rules: CanaryRules, edges_s: Sequence[float]) -> None:
        """Begin without evidence.

        Args:
            rules: of the canary.
            edges_s: upper edges of the latencies in ``Counts``, in seconds; the last is endless.
        """
        self._rules, self._edges_s = rules, edges_s
        self._seen = Counts(latencies=([0.0] * len(edges_s), [0.0] * len(edges_s)))
        self._failures = ShareTest(rules.error_share or 0.0)
        self._slowest = ShareTest(0.0)

    def look(self, now: Counts, minutes: float) -> Verdict:
        """Return the verdict on everything that was counted.

        Args:
            now: since the canary began.
            minutes: since then.
        """
        self._add(now)
        evidence = self._evidence(now)
        numbers = self._numbers(now, minutes)
        limit = -math.log(self._rules.false_rollback)
        if evidence and log_mean(evidence.values()) >= limit:
            worst = max(evidence, key=evidence.__getitem__)
            return Verdict("rolled_back", f"{worst} is out of bounds", numbers)
        missing = self._missing(now, minutes, numbers)
        return Verdict(None if missing else "promoted", missing or "all rules hold", numbers)

    def _add(self, now: Counts) -> None:
        """Take what came since the last look as one more block of both tests."""
        before, self._seen = self._seen, now
        arms = [
            Arm(now.requests[i] - before.requests[i], now.failed[i] - before.failed[i])
            for i in (0, 1)
        ]
        self._failures.add(*arms)
        edges = self._slow_edges(before)
        if edges is not None:
            slow = []
            for i, edge in enumerate(edges):
                more = [b - a for a, b in zip(before.latencies[i], now.latencies[i], strict=True)]
                slow.append(Arm(sum(more), sum(more[edge + 1 :])))
            self._slowest.add(*slow)

    def _slow_edges(self, before: Counts) -> tuple[int, int] | None:
        """Return the edges above which a request of champion and candidate counts as slow.

        They come from earlier requests only: else chance would choose the question it answers.
        """
        ratio = self._rules.p99_ratio
        if ratio is None or sum(before.latencies[0]) < _FIRST_PERCENTILE_AT:
            return None
        edge = _edge_of(before.latencies[0], 1 - SLOWEST)
        last = len(self._edges_s) - 1
        return edge, min(last, bisect_left(self._edges_s, self._edges_s[edge] * ratio))

    def _evidence(self, now: Counts) -> dict[str, float]:
        rules, compared = self._rules, now.compared
        found = {}
        if rules.error_share is not None:
            found["error_share"] = self._failures.evidence
        if rules.p99_ratio is not None:
            found["p99_ratio"] = self._slowest.evidence
        if rules.abstention is not None:
            more, less = now.abstained_more, now.abstained_less
            zeros = compared - more - less
            found["abstention"] = mean_evidence(more, less, zeros, rules.abstention)
        if rules.agreement is not None:
            other = compared - now.same
            found["agreement"] = mean_evidence(other, 0, now.same, 1 - rules.agreement)
        return found

    def _numbers(self, now: Counts, minutes: float) -> dict[str, Any]:
        shares = [k / n if n else None for n, k in zip(now.requests, now.failed, strict=True)]
        p99 = [self._percentile_ms(latencies) for latencies in now.latencies]
        compared = now.compared
        evidence = self._evidence(now)
        return {
            "requests": {"champion": int(now.requests[0]), "candidate": int(now.requests[1])},
            "minutes": round(minutes, 3),
            "error_share": {"champion": _rounded(shares[0]), "candidate": _rounded(shares[1])},
            "p99_ms": {"champion": p99[0], "candidate": p99[1]},
            "compared": int(compared),
            "agreement": _rounded(now.same / compared if compared else None),
            "abstained": {
                "only_candidate": int(now.abstained_more),
                "only_champion": int(now.abstained_less),
            },
            "log_evidence": {name: round(value, 3) for name, value in evidence.items()},
            "log_evidence_of_rollback": round(-math.log(self._rules.false_rollback), 3),
        }

    def _missing(self, now: Counts, minutes: float, numbers: dict[str, Any]) -> str:
        """Return what keeps a candidate from being promoted now; "" if nothing does."""
        rules = self._rules
        if now.requests[1] < rules.requests:
            return f"{int(now.requests[1])} of {rules.requests} requests"
        if minutes < rules.minutes:
            return f"{minutes:.1f} of {rules.minutes:g} minutes"
        paired = rules.agreement is not None or rules.abstention is not None
        if paired and now.compared < _PAIRS_SHARE * rules.requests:
            return f"{int(now.compared)} papers were compared, too few"
        errors, p99 = numbers["error_share"], numbers["p99_ms"]
        if rules.error_share is not None and (
            errors["candidate"] > (errors["champion"] or 0.0) + rules.error_share
        ):
            return "error_share is near its bound"
        if (
            rules.p99_ratio is not None
            and p99["champion"]
            and ((p99["candidate"] or 0.0) > p99["champion"] * rules.p99_ratio)
        ):
            return "p99_ratio is near its bound"
        more = now.abstained_more - now.abstained_less
        if rules.abstention is not None and more > rules.abstention * now.compared:
            return "abstention is near its bound"
        if rules.agreement is not None and now.same < rules.agreement * now.compared:
            return "agreement is near its bound"
        return ""

    def _percentile_ms(self, latencies: Sequence[float]) -> float | None:
        if not sum(latencies):
            return None
        edge = min(_edge_of(latencies, 1 - SLOWEST), len(self._edges_s) - 2)
        return round(self._edges_s[edge] * 1000, 3)


def _edge_of(latencies: Sequence[float], share: float) -> int:
    """Return the edge up to which at least a share of the requests are."""
    wanted, so_far = share * sum(latencies), 0.0
    for edge, n in enumerate(latencies):
        so_far += n
        if so_far >= wanted:
            return edge
    return len(latencies) - 1


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
