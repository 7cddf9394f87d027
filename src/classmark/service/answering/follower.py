"""Follows a registry: loads what its pointer names beside what answers, and hands that over.

One thread of a worker looks at the pointer ten times a second, which is one ``stat``, and loads,
verifies and warms up. The event loop only assigns the result. What cannot be used changes nothing.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from classmark.errors import ClassmarkError
from classmark.kernels.cascade import with_members
from classmark.service.answering.model import Model
from classmark.service.answering.versions import Roster, Version, Versions
from classmark.service.logs import log

if TYPE_CHECKING:
    from classmark.records import Pointer
    from classmark.registry import Registry

LOOK_EVERY_S = 0.1
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
"""A bundle that could not be loaded may be there later: a disk is mounted, memory is free."""
MAIN_CHANNEL = "champion"

Switch = Callable[[Roster], None]


@dataclass(frozen=True)
class Fault:
    """Why what the pointer names does not answer.

    Attributes:
        digest: of the bundle; "" if the pointer itself cannot be followed.
        kind: of the error; safe to show to everybody.
        detail: the error, with paths; for the log.
    """

    digest: str
    kind: str
    detail: str


class Follower:
    """Keeps the versions of a worker equal to what a registry names.

    Attributes:
        registry: as given.
        faults: what cannot be used now, by role or "pointer"; replaced as a whole.
        pointer: the last one that was followed.
    """

    def __init__(
        self, registry: Registry, channel: str, versions: Versions, switch: Switch
    ) -> None:
        """Prepare; ``start`` begins to follow.

        Args:
            registry: to follow.
            channel: whose bundle answers; only beside a champion there are others.
            versions: of this worker.
            switch: has ``Versions.switch`` called in the event loop, and waits for it.
        """
        self.faults: dict[str, Fault] = {}
        self.pointer: Pointer | None = None
        self.registry = registry
        self._channel, self._versions = channel, versions
        self._switch = switch
        self._retry_s, self._retry_at = FIRST_RETRY_S, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="classmark-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow.

        Raises:
            OSError: the system has no thread left.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread can be started; raise ulimit -u") from error

    def close(self) -> None:
        """Follow no longer; what is being loaded is given up at its end."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        """Follow the pointer if it has changed, or if something could not be used before."""
        try:
            self._follow(self.registry.pointer())
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the process
            self._note({**self.faults, "pointer": fault_of(error)})

    def _follow(self, pointer: Pointer) -> None:
        is_new = self.pointer is None or pointer.sequence != self.pointer.sequence
        may_retry = bool(self.faults) and time.monotonic() >= self._retry_at
        if not is_new and not may_retry:
            return
        if is_new:
            self._retry_s = FIRST_RETRY_S
        faults: dict[str, Fault] = {}
        roster = self._roster(pointer, faults)
        if self._ended.is_set() or self._is_newer_than(pointer):
            self._give_up(roster)  # the next look is soon
            return
        self._switch(roster)
        self.pointer = pointer
        self._note(faults)

    def _is_newer_than(self, pointer: Pointer) -> bool:
        """Return whether the pointer was changed while its bundles were loaded."""
        try:
            return self.registry.pointer().sequence != pointer.sequence
        except ClassmarkError:
            return False  # what it named a moment ago is as good

    def _roster(self, pointer: Pointer, faults: dict[str, Fault]) -> Roster:
        """Return what the pointer asks for, as far as it can be had."""
        before, canary = self._versions.roster, pointer.canary
        loaded: dict[str, Version] = {one.ref.digest: one for one in self._versions.all()}

        def get(role: str, digest: str | None) -> Version | None:
            if digest is None:
                return None
            if digest not in loaded:
                try:
                    bundle = with_members(self.registry.load(digest))
                    loaded[digest] = self._versions.make(Model(bundle))
                except Exception as error:  # noqa: BLE001 - no candidate may stop what answers
                    faults[role] = fault_of(error, digest)
            return loaded.get(digest)

        wanted = pointer.channel(self._channel)
        if wanted is None:
            detail = f"the channel {self._channel} of the registry is empty. Promote a bundle."
            faults[MAIN_CHANNEL] = Fault("", "channel_empty", detail)
        champion = get(MAIN_CHANNEL, wanted) or before.champion
        is_kept = champion is before.champion
        others: dict[str, Version | None] = {"challenger": None, "shadow": None}
        if self._channel == MAIN_CHANNEL:
            others["challenger"] = get("challenger", canary.candidate if canary else None)
            others["shadow"] = get("shadow", pointer.channels.shadow)
        return Roster(
            champion=champion,
            challenger=others["challenger"],
            percent=canary.percent if canary else 0.0,
            shadow=others["shadow"],
            shadow_percent=pointer.shadow_percent,
            previous=before.previous if is_kept else before.champion,
            sequence=pointer.sequence,
            since_s=self._since_s(wanted) if champion.ref.digest == wanted else None,
        )

    def _since_s(self, champion: str) -> float | None:
        """Return when the registry made a bundle the champion, in Unix time; None if unknown."""
        if self._channel != MAIN_CHANNEL:
            return None
        try:
            made = [e.at_utc for e in self.registry.events() if e.made_champion == champion]
            return datetime.fromisoformat(made[-1]).timestamp()
        except (ClassmarkError, IndexError, ValueError):  # no reason to answer with another one
            return None

    def _give_up(self, roster: Roster) -> None:
        answering = {id(version) for version in self._versions.all()}
        for _, version in roster.by_role():
            if id(version) not in answering:
                version.release()

    def _note(self, faults: dict[str, Fault]) -> None:
        """Keep what is wrong, and log what was not before."""
        if faults:
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(LONGEST_RETRY_S, 2 * self._retry_s)
        for role, fault in faults.items():
            if self.faults.get(role) != fault:
                facts = {"role": role, "bundle": fault.digest, "kind": fault.kind}
                log("not replaced", logging.ERROR, **facts, detail=fault.detail)
        self.faults = faults


def fault_of(error: Exception, digest: str = "") -> Fault:
    """Return what to say of an error; that of a library is only named, its text may be a paper's.

    Args:
        error: why something cannot be used.
        digest: of the bundle at fault.
    """
    if isinstance(error, ClassmarkError):
        return Fault(digest, error.kind, str(error))
    return Fault(digest, "internal_error", f"{type(error).__name__}. Try the bundle by itself.")
