"""What the supervisor does about a registry, for all workers.

It forks later workers with what the registry names now, and ends a canary by its rules: one process
decides, on what all workers have counted.
"""

from __future__ import annotations

import logging
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from classmark.errors import ChangeRefused, ClassmarkError, RegistryConflict
from classmark.registry.rules import CanaryRules, Counts, Trial
from classmark.service.answering.follower import MAIN_CHANNEL, fault_of
from classmark.service.answering.model import OpenedModel, check_usable, open_model, open_registry
from classmark.service.families import FAMILIES
from classmark.service.logs import log, log_rarely
from classmark.service.metrics import Metrics

if TYPE_CHECKING:
    from classmark.records import Canary, Pointer
    from classmark.records.registry import Outcome
    from classmark.registry import Registry
    from classmark.service.memory import Key
    from classmark.service.settings import ServiceSettings

JUDGE_EVERY_S = 1.0
WRITE_AGAIN_S = 10.0
_SECONDS = "classmark_version_seconds"
_ROLES = ("champion", "challenger")


class RegistryWatch:
    """Looks at the registry of a service, if it has one, for the supervisor."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        """Open the registry of the settings.

        Args:
            settings: of the service.
            metrics: of all workers.

        Raises:
            InvalidKeys: its trusted key cannot be read.
        """
        self._settings = settings
        place = settings.registry
        self._registry = None if place is None else open_registry(place, settings)
        self._refused = ""
        self._judge = None if self._registry is None else Judge(self._registry, metrics)

    def look(self, model: OpenedModel) -> OpenedModel:
        """Return what later workers are forked with: what the registry names, if it can be loaded.

        A worker that finds its model outdated loads the right one itself, and logs what is wrong.

        Args:
            model: what they have been forked with so far.
        """
        if self._registry is None or self._judge is None:
            return model
        digest = None
        try:
            pointer = self._registry.pointer()
            if self._settings.channel == MAIN_CHANNEL:
                self._judge.look(pointer)
            digest = pointer.channel(self._settings.channel)
            if digest not in (None, model.digest, self._refused):
                return replace(open_model(self._settings), worker_count=model.worker_count)
        except Exception as error:  # noqa: BLE001 - the service outlives whatever is wrong with it
            self._refused = digest or ""
            if not isinstance(error, ClassmarkError):  # else the workers say it
                log_rarely("registry not watched", logging.ERROR, problem=type(error).__name__)
        return model


class Judge:
    """Ends a canary by its rules."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        """Begin without a canary.

        Args:
            registry: where its end is written.
            metrics: of all workers.
        """
        self._registry, self._metrics = registry, metrics
        self._canary: Canary | None = None
        self._trial: Trial | None = None
        self._base: dict[Key, float] = {}
        self._began_s = self._next_s = 0.0

    def look(self, pointer: Pointer) -> None:
        """Look at the canary, and end it if its rules say so."""
        canary, now_s = pointer.canary, time.monotonic()
        if canary != self._canary:
            self._canary, self._trial = canary, None
        if canary is None or not canary.rules or now_s < self._next_s:
            return
        self._next_s = now_s + JUDGE_EVERY_S
        if self._trial is None:
            self._begin(canary, pointer.sequence)
            return
        minutes = (now_s - self._began_s) / 60
        counts = counts_of(self._metrics.values(), self._base)
        verdict = self._trial.look(counts, minutes)
        if verdict.outcome is not None:
            self._end(verdict.outcome, verdict.why, verdict.numbers)

    def _begin(self, canary: Canary, sequence: int) -> None:
        """Begin to count when every worker has followed the pointer."""
        values = self._metrics.values()
        if values.get(("classmark_registry_sequence", ""), 0.0) < sequence:
            return
        try:
            rules = CanaryRules.from_dict(canary.rules)
            check_usable(self._registry.load(canary.candidate))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not promoted
            fault = fault_of(error, canary.candidate)
            why = f"the candidate cannot be used ({fault.kind})"
            self._end("rolled_back", why, {"fault": fault.kind})
            return
        self._trial = Trial(rules, FAMILIES[_SECONDS].edges)
        self._base, self._began_s = values, time.monotonic()

    def _end(self, outcome: Outcome, why: str, numbers: dict[str, Any]) -> None:
        who = f"classmark serve@{socket.gethostname()}"
        try:
            self._registry.end_canary(outcome, numbers, who=who, why=why)
        except (RegistryConflict, ChangeRefused):  # somebody else has ended it
            self._trial = None
        except ClassmarkError as error:
            self._next_s = time.monotonic() + WRITE_AGAIN_S
            log_rarely("canary not ended", logging.ERROR, outcome=outcome, detail=str(error))
        else:
            log("canary ended", logging.WARNING, outcome=outcome, why=why, **numbers)


def counts_of(values: dict[Key, float], base: dict[Key, float]) -> Counts:
    """Return what champion and challenger have done since a moment.

    Args:
        values: all series now.
        base: all series then.
    """

    def since(name: str, *labels: str) -> float:
        key = (name, *labels)
        return values.get(key, 0.0) - base.get(key, 0.0)

    def done(role: str, outcome: str) -> float:
        return since("classmark_version_requests_total", "", role, outcome)

    failed = [done(role, "failed") for role in _ROLES]
    requests = [done(role, "answered") + k for role, k in zip(_ROLES, failed, strict=True)]
    edges = FAMILIES[_SECONDS].edge_texts
    latencies = [[since(f"{_SECONDS}_bucket", edge, role) for edge in edges] for role in _ROLES]
    pairs = ("classmark_compared_total", "", "canary")
    compared = {key[3:]: since(*key) for key in values if key[:3] == pairs}
    return Counts(
        requests=(requests[0], requests[1]),
        failed=(failed[0], failed[1]),
        latencies=(latencies[0], latencies[1]),
        same=sum(n for (top, _), n in compared.items() if top == "same"),
        compared=sum(compared.values()),
        abstained_more=sum(n for (_, who), n in compared.items() if who == "answered"),
        abstained_less=sum(n for (_, who), n in compared.items() if who == "compared"),
    )
