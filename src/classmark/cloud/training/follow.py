"""Follows a job to its end: its states, its lines, and machines that are taken away."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from classmark.cloud.google import Google
from classmark.cloud.training.job import Engine, Job, JobState, engine_of
from classmark.cloud.training.logs import LogTail
from classmark.errors import CloudFailed

_QUIET = 2
"""Looks at the log without a new line after which a job that has ended has no more of them."""
MOST_STARTS = 20


def engine_for(google: Google, name: str) -> Engine:
    """Return who runs the job of a name.

    Raises:
        UsageError: no job has such a name.
    """
    if engine_of(name) == "vertex":
        from classmark.cloud.training.vertex import Vertex

        return Vertex(google)
    from classmark.cloud.training.compute import Compute

    return Compute(google)


@dataclass(frozen=True, kw_only=True)
class Follow:
    """How a job is followed.

    Attributes:
        google: clients.
        engine: that runs it.
        say: shows a line.
        every_s: between two looks.
    """

    google: Google
    engine: Engine
    say: Callable[[str], None]
    every_s: float

    def to_the_end(self, state: JobState, job: Job | None = None) -> JobState:
        """Return a job that has ended, after its states and lines were shown.

        Args:
            state: of the job.
            job: to submit again for the rest of its time if its machine is taken away and the
                engine does not start it again itself; None: that is its end.
        """
        began, starts = time.monotonic(), 1
        self.say(f"{state.name} {state.state}")
        tail = LogTail(self.google, self.engine.log_filter(state), state.created)
        while not state.has_ended:
            time.sleep(self.every_s)
            state = self._look(state)
            self._show(tail)
            if state.state == "PREEMPTED" and job is not None and starts < MOST_STARTS:
                hours = job.hours - (time.monotonic() - began) / 3600
                if hours > 0:
                    starts += 1
                    state = self.engine.submit(replace(job, hours=hours))
                    self.say(f"{state.name} {state.state}, start {starts}")
        self._drain(tail)
        return state

    def lines(self, state: JobState) -> None:
        """Show the lines that a job has written until now."""
        self._drain(LogTail(self.google, self.engine.log_filter(state), state.created))

    def _look(self, state: JobState) -> JobState:
        now = self.engine.refresh(state)
        if now.state != state.state:
            self.say(f"{now.name} {now.state}")
        return now

    def _show(self, tail: LogTail) -> int:
        shown = 0
        for line in tail.new_lines():
            self.say(line)
            shown += 1
        return shown

    def _drain(self, tail: LogTail) -> None:
        """Show what is left; lines arrive later than the end of a job."""
        quiet = 0
        while quiet < _QUIET:
            quiet = 0 if self._show(tail) else quiet + 1
            if quiet < _QUIET:
                time.sleep(self.every_s)


def require_success(state: JobState) -> None:
    """Check that a job has succeeded.

    Raises:
        CloudFailed: it has not; says why.
    """
    if state.state != "SUCCEEDED":
        why = f": {state.message.rstrip('.')}" if state.message else ""
        raise CloudFailed(
            f"the job {state.name} ended as {state.state}{why}. Read `classmark cloud logs "
            f"{state.name}`; what it had fitted is kept, see `classmark cloud fetch {state.name}`."
        )
