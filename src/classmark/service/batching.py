"""The queue of a deep model: bounded, in turns, and honest about how long it takes.

One thread takes what waits, up to a number of tokens, and runs it; what comes meanwhile makes the
next batch. Whoever would wait past the deadline is refused at once: an answer that comes too late
has cost as much as one in time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from classmark.records import Answer, Paper
from classmark.runtime import Classifier, RawScores
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem

if TYPE_CHECKING:
    pass

CHARS_PER_TOKEN = 4
DEFAULT_LENGTH = 256
"""Tokens of a paper at most where the bundle does not say."""
RATE_WEIGHT = 0.1
"""Of the newest batch in the running mean of seconds a token."""
MARGIN = 1.2
"""The expected wait is taken to be as much longer, so that what is let in is ready in time."""
LONGEST_RETRY_S = 30


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """Bounds of the queue.

    Attributes:
        batch_tokens: tokens of a batch; a paper with more is one alone.
        queue_papers: papers that may wait; more are refused.
        wait_s: how long the first paper of a batch waits for company while nothing runs.
    """

    batch_tokens: int
    queue_papers: int
    wait_s: float


@dataclass(eq=False)
class _Job:
    """Papers of one request, answered in as many batches as they need."""

    papers: Sequence[Paper]
    tokens: list[int]
    top: int
    threshold: float | None
    deadline: float | None
    future: Future[list[Answer]] = field(default_factory=Future)
    parts: list[RawScores] = field(default_factory=list)
    done: int = 0


@dataclass(frozen=True, eq=False)
class _Turn:
    """What a batch takes of a job: ``papers[first:end]``."""

    job: _Job
    first: int
    end: int


class Batcher:
    """Answers papers in batches, in a thread of its own."""

    def __init__(self, classifier: Classifier, limits: BatchLimits, metrics: Metrics) -> None:
        """Prepare; ``start`` begins to answer.

        Args:
            classifier: who answers.
            limits: bounds of the queue.
            metrics: is told of queue and batches.
        """
        self._classifier = classifier
        self._limits = limits
        self._metrics = metrics
        told = classifier.parameters.get("max_length")
        self._longest = told if isinstance(told, int) else DEFAULT_LENGTH
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._waiting_papers = self._waiting_tokens = self._running_tokens = 0
        self._token_s = 0.0
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="classmark-batches", daemon=True)

    def start(self, papers: Sequence[Paper]) -> None:
        """Time these papers, so that the first wait is foretold too, and begin to answer."""
        started = time.monotonic()
        self._classifier.score(papers)
        self._note_speed(sum(map(self.count_tokens, papers)), time.monotonic() - started)
        self._thread.start()

    def close(self) -> None:
        """Answer no more; what waits is refused."""
        with self._changed:
            self._is_closed = True
            jobs, self._jobs = list(self._jobs), deque()
            self._changed.notify()
        for job in jobs:
            _fail(job, Problem("not_ready", "the service is stopping. Ask another one."))

    def count_tokens(self, paper: Paper) -> int:
        """Return how many tokens a paper has, about: cheap enough for the event loop."""
        n_chars = len(paper.title) + len(paper.abstract)
        return min(self._longest, CHARS_PER_TOKEN + n_chars // CHARS_PER_TOKEN)

    def expected_wait_s(self) -> float:
        """Return how long a paper that comes now will wait before it is run."""
        return (self._waiting_tokens + self._running_tokens) * self._token_s * MARGIN

    def check(self, remaining_s: float) -> None:
        """Refuse what would not be ready in time; costs microseconds.

        Raises:
            Problem: the queue is full, or longer than the time that is left.
        """
        wait_s = self.expected_wait_s()
        if self._waiting_papers >= self._limits.queue_papers or wait_s > remaining_s:
            self._metrics.batch_refused()
            seconds = min(LONGEST_RETRY_S, max(1, round(wait_s)))
            raise Problem(
                "overloaded",
                f"{self._waiting_papers} papers wait, some {wait_s:.1f} s of work, and this one "
                f"has {remaining_s:.1f} s. Try again in {seconds} s.",
                retry_after_s=seconds,
            )

    def submit(
        self,
        papers: Sequence[Paper],
        *,
        top: int,
        threshold: float | None,
        deadline: float | None,
    ) -> Future[list[Answer]]:
        """Queue papers, and return the future of their answers.

        Args:
            papers: one or more.
            top: as for ``Classifier.classify``.
            threshold: the same.
            deadline: ``time.monotonic`` by which they must be ready; None for none.

        Raises:
            Problem: as ``check``.
        """
        if deadline is not None:
            self.check(deadline - time.monotonic())
        job = _Job(papers, [self.count_tokens(p) for p in papers], top, threshold, deadline)
        with self._changed:
            self._jobs.append(job)
            self._waiting_papers += len(job.papers)
            self._waiting_tokens += sum(job.tokens)
            self._changed.notify()
        return job.future

    def publish(self) -> None:
        """Tell the metrics how long the queue is."""
        self._metrics.set_queue(self._waiting_papers, self._waiting_tokens)

    def _work(self) -> None:
        while True:
            turns = self._take()
            if turns is None:
                return
            if turns:
                self._run(turns)

    def _take(self) -> list[_Turn] | None:
        """Wait for jobs and return the turns of a batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            if self._limits.wait_s and not self._is_closed:
                enough = self._limits.batch_tokens
                self._changed.wait_for(
                    lambda: self._waiting_tokens >= enough or self._is_closed, self._limits.wait_s
                )
            if self._is_closed:
                return None
            return self._turns()

    def _turns(self) -> list[_Turn]:
        """Take a turn of each job until the tokens are spent; one that goes on queues again."""
        turns: list[_Turn] = []
        unfinished: list[_Job] = []
        spent = 0
        while self._jobs and (spent < self._limits.batch_tokens or not turns):
            job = self._jobs.popleft()
            if self._is_over(job):
                continue
            first, end = job.done, job.done
            while end < len(job.papers) and (
                not spent or spent + job.tokens[end] <= self._limits.batch_tokens
            ):
                spent += job.tokens[end]
                end += 1
            if end > first:
                job.done = end
                turns.append(_Turn(job, first, end))
                self._waiting_papers -= end - first
            if end < len(job.papers):
                unfinished.append(job)
                if end == first:
                    break
        self._jobs.extendleft(reversed([job for job in unfinished if not job.done]))
        self._jobs.extend(job for job in unfinished if job.done)
        self._waiting_tokens -= spent
        self._running_tokens = spent
        return turns

    def _is_over(self, job: _Job) -> bool:
        """Tell whether nobody waits for a job any more; then it is forgotten."""
        late = job.deadline is not None and time.monotonic() > job.deadline
        if not (late or job.future.cancelled()):
            return False
        self._waiting_papers -= len(job.papers) - job.done
        self._waiting_tokens -= sum(job.tokens[job.done :])
        _fail(job, Problem("deadline_exceeded", "the answer was not ready in time."))
        return True

    def _run(self, turns: list[_Turn]) -> None:
        papers = [paper for turn in turns for paper in turn.job.papers[turn.first : turn.end]]
        tokens = self._running_tokens
        started = time.monotonic()
        try:
            raw = self._classifier.score(papers)
            self._deliver(turns, raw)
        except Exception as error:
            for turn in turns:
                _fail(turn.job, error)
        finally:
            self._running_tokens = 0
        self._note_speed(tokens, time.monotonic() - started)
        self._metrics.batch_done(len(papers), tokens)

    def _deliver(self, turns: list[_Turn], raw: RawScores) -> None:
        row = 0
        for turn in turns:
            n = turn.end - turn.first
            part = RawScores(raw.scores[row : row + n], raw.known_share[row : row + n])
            turn.job.parts.append(part)
            row += n
            if turn.end == len(turn.job.papers):
                self._finish(turn.job)

    def _finish(self, job: _Job) -> None:
        raw = RawScores(
            np.concatenate([part.scores for part in job.parts]),
            np.concatenate([part.known_share for part in job.parts]),
        )
        try:
            answers = self._classifier.answers(
                job.papers, raw, top=job.top, threshold=job.threshold
            )
        except Exception as error:
            _fail(job, error)
            return
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(answers)

    def _note_speed(self, tokens: int, seconds: float) -> None:
        newest = seconds / max(tokens, 1)
        weight = RATE_WEIGHT if self._token_s else 1.0
        self._token_s += weight * (newest - self._token_s)


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
