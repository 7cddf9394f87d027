"""Makes what watches an environment be as the rules want it: nothing more, nothing of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from classmark.cloud.google import Google
from classmark.cloud.watch.kinds import Kind, Message, kinds_of
from classmark.cloud.watch.plan import CHECK_PLACE, Plan, json_of

_EMPTY_IF_LEFT_OUT = ("notificationChannels", "links")
"""Lists that Google does not fill in: where the wanted message has none, there must be none."""


@dataclass
class Counts:
    """What was done with one kind: things that are created, updated, unchanged and removed."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0

    @property
    def wanted(self) -> int:
        """Things that exist afterwards."""
        return self.created + self.updated + self.unchanged

    @property
    def changes(self) -> int:
        """Things that were not as they are wanted."""
        return self.created + self.updated + self.removed


@dataclass
class Outcome:
    """What was done, or with ``is_trial`` what would be.

    Attributes:
        kinds: name -> counts, in the order of the work.
        changes: lines such as ``policies: create classmarktargetdown``.
    """

    kinds: dict[str, Counts] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)


def apply_plan(
    google: Google,
    plan: Plan,
    *,
    is_trial: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Create, update and remove until the environment is watched as planned.

    Everything is found by the labels of the environment, so it can be repeated at any time, after
    an interruption too.

    Args:
        google: clients.
        plan: what shall watch.
        is_trial: only look what would be done.
        report: gets a line for each change.

    Raises:
        CloudFailed, CloudNotFound, CloudRefused: Google refuses something; what was done before
            stays.
    """
    work = _Work(is_trial, report)
    channels, checks, log_metrics, services, objectives, policies = kinds_of(google)
    named = work.put(channels, [plan.channel] if plan.channel else [])
    [check] = work.put(checks, [plan.check])
    work.put(log_metrics, plan.log_metrics)
    work.put(services, [plan.service])
    work.put(objectives, plan.objectives)
    wanted = plan.policies(
        channels=[channel.name for channel in named],
        check=check.name.rpartition("/")[2] or CHECK_PLACE,
    )
    work.put(policies, wanted)
    work.remove_extra()
    return work.outcome


class _Work:
    """Puts kinds in place one after the other, and then removes in reverse what is left over."""

    def __init__(self, is_trial: bool, report: Callable[[str], None]) -> None:
        self.outcome = Outcome()
        self._is_trial, self._report = is_trial, report
        self._extra: list[tuple[Kind, Message]] = []

    def put(self, kind: Kind, wanted: Iterable[Message]) -> list[Message]:
        """Create or update what is wanted, and remember the rest; returns it as Google has it."""
        self.outcome.kinds[kind.name] = Counts()
        there: dict[str, Message] = {}
        for thing in kind.found():
            if kind.key(thing) in there:
                self._extra.append((kind, thing))  # a second of an interrupted or parallel run
            else:
                there[kind.key(thing)] = thing
        put = [self._put_one(kind, one, there.pop(kind.key(one), None)) for one in wanted]
        self._extra += [(kind, thing) for thing in there.values()]
        return put

    def remove_extra(self) -> None:
        """Remove what exists and is not wanted; what names others first."""
        for kind, thing in reversed(self._extra):
            self._say(kind, "remove", kind.key(thing))
            if not self._is_trial:
                kind.removed(thing)
            self.outcome.kinds[kind.name].removed += 1
        self._extra.clear()

    def _put_one(self, kind: Kind, wanted: Message, there: Message | None) -> Message:
        counts = self.outcome.kinds[kind.name]
        if there is not None and _within(json_of(wanted), json_of(there)):
            counts.unchanged += 1
            return there
        self._say(kind, "create" if there is None else "update", kind.key(wanted))
        done = wanted if there is None else there
        if not self._is_trial:
            done = kind.made(wanted) if there is None else kind.changed(wanted, there)
        if there is None:
            counts.created += 1
        else:
            counts.updated += 1
        return done

    def _say(self, kind: Kind, verb: str, key: str) -> None:
        line = f"{kind.name}: {verb} {key}"
        self.outcome.changes.append(line)
        self._report(line)


def _within(wanted: Any, there: Any) -> bool:  # noqa: ANN401 - values of JSON
    """Return whether all that is wanted is there; Google adds names, times and defaults.

    What is wanted empty may be missing.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(there, Mapping):
            return False
        if any(there.get(name) and not wanted.get(name) for name in _EMPTY_IF_LEFT_OUT):
            return False
        return all(_within(value, there.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list):
        pairs = zip(wanted, there or [], strict=False)
        return len(wanted) == len(there or []) and all(_within(a, b) for a, b in pairs)
    return bool(wanted == there or (wanted == "" and there is None))
