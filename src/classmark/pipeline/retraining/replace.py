"""The last steps of an order: shadow, canary, and what the registry says became of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from classmark.pipeline.retraining.policy import Retraining
from classmark.records import Progress, RetrainState
from classmark.records.registry import RetrainStep

WHO = "classmark retrain"
Step = tuple[RetrainStep, dict[str, Any]]


def replacements(task: Retraining, state: RetrainState, progress: Progress) -> Iterator[Step]:
    """Change the registry as far as can be done now; yield each step that is done.

    What the registry says counts: a change that was made before a kill is found, not repeated.

    Args:
        task: the registry, and how the bundle takes over.
        state: of the order; its bundle is registered.
        progress: of what is waited for.
    """
    yield from _Replacement(task, state, progress).steps()


class _Replacement:
    def __init__(self, task: Retraining, state: RetrainState, progress: Progress) -> None:
        self._registry, self._policy, self._count = task.registry, task.replacement, task.shadowed
        self._state, self._progress = state, progress
        registered = state.event("registered")
        self._digest = cast("str", registered.facts["digest"]) if registered else ""
        self._why = f"order {state.order.id}"

    def steps(self) -> Iterator[Step]:
        champion = self._registry.pointer().channels.champion
        if champion is None:
            self._registry.promote(self._digest, who=WHO, why=self._why)
            yield "promoted", {"why": "there was no champion"}
        elif (ended := self._ended_canary()) is not None:
            yield ended
        elif champion == self._digest:
            yield "promoted", {"why": "it is the champion"}
        elif self._state.event("canary") or not self._wants_shadow:
            yield from self._canary()
        else:
            yield from self._shadow()

    @property
    def _wants_shadow(self) -> bool:
        return bool(self._policy.shadow_papers) and self._count is not None

    def _shadow(self) -> Iterator[Step]:
        """Let the bundle score papers beside the champion, until there are enough."""
        begun = self._state.event("shadow")
        if self._registry.pointer().channels.shadow != self._digest:
            self._progress.step("starting the shadow")
            self._set_shadow(self._digest)
        if begun is None:
            yield "shadow", {"percent": self._policy.shadow_percent}
            return
        assert self._count is not None  # noqa: S101 - _wants_shadow
        found, wanted = self._count(self._digest, begun.at_utc), self._policy.shadow_papers
        self._progress.step(f"shadow: {min(found.papers, wanted):,} of {wanted:,} papers")
        if found.papers < wanted:
            return
        least, share = self._policy.rules.agreement, found.same / found.papers
        self._set_shadow(None)
        if least is not None and share < least:
            why = f"{share:.1%} of {found.papers:,} papers agree in the shadow, {least:.1%} must"
            yield "refused", {"by": "shadow", "why": why}
            return
        yield from self._canary()

    def _set_shadow(self, digest: str | None) -> None:
        percent = self._policy.shadow_percent
        self._registry.set_shadow(digest, percent=percent, who=WHO, why=self._why)

    def _canary(self) -> Iterator[Step]:
        """Start the canary, or find the one that runs."""
        running = self._registry.pointer().canary
        if running is None:
            self._progress.step("starting the canary")
            self._start_canary()
        elif running.candidate != self._digest:
            name = running.candidate[:12]
            self._progress.step(f"waiting for the end of the canary of {name}")
            return
        if not self._state.event("canary"):
            yield "canary", {"percent": running.percent if running else self._policy.percent}

    def _start_canary(self) -> None:
        policy = self._policy
        self._registry.start_canary(
            self._digest,
            percent=policy.percent,
            rules=policy.rules.to_dict(),
            who=WHO,
            why=self._why,
            allow_label_change=policy.allow_label_change,
        )

    def _ended_canary(self) -> Step | None:
        """Return how the canary of this order ended; None if there was none, or it still runs.

        One that somebody ended by hand without promoting it counts as rolled back.
        """
        events = self._registry.events()
        started = [e for e in events if e.action == "start_canary" and e.why == self._why]
        if not started:
            return None
        for event in events[started[-1].sequence :]:
            if event.action == "end_canary":
                promoted = event.numbers.get("outcome") == "promoted"
                facts = {"why": event.why, "event": event.sequence, **event.numbers}
                return "promoted" if promoted else "rolled_back", facts
        return None
