"""The queue of a deep model: bounded, in turns, and refusing what would be too late.

One thread takes what waits, up to a number of tokens, and runs it; what comes meanwhile makes the
next batch. A request that would wait past its deadline is refused at once: an answer that comes too
late costs as much as one in time.

An explanation is a turn like any other: it counts the tokens of everything that it runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from classmark.errors import DeadlineExceeded, NotReady
from classmark.kernels import RawScores
from classmark.kernels.explanation import MOST_WORDS
from classmark.records import Paper
from classmark.runtime import Classifier
from classmark.service.answering.answerer import (
    AnswerOptions,
    Scored,
    answer_papers,
    scored_of,
)
from classmark.service.metrics import Metrics
from classmark.service.requests.threads import Backlog

CHARS_PER_TOKEN = 4
DEFAULT_LENGTH = 256
"""Maximum tokens of a paper if the bundle does not say."""


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """Bounds of the queue.

    Attributes:
        batch_tokens: tokens of a batch; a paper with more is a batch of its own.
        queue_papers: papers that may wait; more are refused.
        wait_s: how long the first paper of a batch waits for others while nothing runs.
    """

    batch_tokens: int
    queue_papers: int
    wait_s: float


@dataclass(eq=False)
class _Job:
    """Papers of one request, answered in as many batches as they need.

    ``parts`` are the scores so far; of an explained job ``answers`` are the answers so far.
    """

    papers: Sequence[Paper]
    tokens: list[int]
    options: AnswerOptions
    future: Future[list[Scored]] = field(default_factory=Future)
    parts: list[RawScores] = field(default_factory=list)
    answers: list[Scored] = field(default_factory=list)
    done: int = 0


@dataclass(frozen=True, eq=False)
class _Turn:
    """What a batch takes of a job: ``papers[first:end]``."""

    job: _Job
    first: int
    end: int

    @property
    def papers(self) -> Sequence[Paper]:
        return self.job.papers[self.first : self.end]

    @property
    def is_last(self) -> bool:
        return self.end == len(self.job.papers)


class Batcher:
    """Answers papers in batches, in a thread of its own.

    Attributes:
        backlog: what waits, in tokens.
    """

    def __init__(self, classifier: Classifier, limits: BatchLimits, metrics: Metrics) -> None:
        """Prepare; ``start`` begins to answer.

        Args:
            classifier: the model.
            limits: bounds of the queue.
            metrics: counts queue and batches.
        """
        self._classifier = classifier
        self._limits = limits
        self._metrics = metrics
        length = classifier.parameters.get("max_length")
        self._longest = length if isinstance(length, int) else DEFAULT_LENGTH
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self.backlog = Backlog("papers", limits.queue_papers, metrics)
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="classmark-batches", daemon=True)

    def start(self, papers: Sequence[Paper]) -> None:
        """Time these papers, so that the first wait can be estimated too, and begin to answer."""
        tokens = sum(map(self.count_tokens, papers))
        self.backlog.add(1, tokens)
        with self.backlog.running(tokens):
            self._classifier.score(papers)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; what waits is refused."""
        with self._changed:
            self._is_closed = True
            jobs, self._jobs = list(self._jobs), deque()
            self._changed.notify()
        for job in jobs:
            _fail(job, NotReady("the service is stopping"))

    def count_tokens(self, paper: Paper, *, explain: bool = False) -> int:
        """Return about how many tokens a paper takes; cheap enough for the event loop."""
        n_chars = len(paper.title) + len(paper.abstract)
        tokens = min(self._longest, CHARS_PER_TOKEN + n_chars // CHARS_PER_TOKEN)
        # Explained: the answer, the whole paper again, then the paper without each of its words.
        return tokens * (2 + min(MOST_WORDS, tokens)) if explain else tokens

    def submit(self, papers: Sequence[Paper], options: AnswerOptions) -> Future[list[Scored]]:
        """Queue papers, one or more, and return the future of their answers.

        Raises:
            Overloaded: they would not be ready in time.
        """
        tokens = [self.count_tokens(paper, explain=options.explain) for paper in papers]
        if options.deadline is not None:
            self.backlog.check(options.deadline - time.monotonic(), sum(tokens))
        job = _Job(papers, tokens, options)
        with self._changed:
            self._jobs.append(job)
            self.backlog.add(len(job.papers), sum(job.tokens))
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        while True:
            turns = self._take()
            if turns is None:
                return
            if turns:
                self._run(turns)

    def _take(self) -> list[_Turn] | None:
        """Wait for jobs and return the turns of a batch, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            if self._limits.wait_s and not self._is_closed:
                enough = self._limits.batch_tokens
                self._changed.wait_for(
                    lambda: self.backlog.waiting_size >= enough or self._is_closed,
                    self._limits.wait_s,
                )
            if self._is_closed:
                return None
            return self._turns()

    def _turns(self) -> list[_Turn]:
        """Take a turn of each job until the tokens are spent; an unfinished job queues again."""
        turns: list[_Turn] = []
        unfinished: list[_Job] = []
        spent = n_papers = 0
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
                n_papers += end - first
            if end < len(job.papers):
                unfinished.append(job)
                if end == first:
                    break
        self._jobs.extendleft(reversed([job for job in unfinished if not job.done]))
        self._jobs.extend(job for job in unfinished if job.done)
        self.backlog.begin(n_papers, spent)
        return turns

    def _is_over(self, job: _Job) -> bool:
        """Return whether nobody waits for a job any more; then it is dropped."""
        deadline = job.options.deadline
        late = deadline is not None and time.monotonic() > deadline
        if not (late or job.future.done()):
            return False
        self.backlog.drop(len(job.papers) - job.done, sum(job.tokens[job.done :]))
        _fail(job, DeadlineExceeded("the answer was not ready in time."))
        return True

    def _run(self, turns: list[_Turn]) -> None:
        tokens = sum(sum(turn.job.tokens[turn.first : turn.end]) for turn in turns)
        self._score([turn for turn in turns if not turn.job.options.explain])
        self._each_alone(self._explain, [turn for turn in turns if turn.job.options.explain])
        self.backlog.end(tokens)
        self._metrics.batch_done(sum(len(turn.papers) for turn in turns), tokens)

    def _score(self, turns: list[_Turn]) -> None:
        """Score the papers of turns together, and answer the jobs that are complete."""
        try:
            raw = self._classifier.score([paper for turn in turns for paper in turn.papers])
        except Exception as error:  # noqa: BLE001 - the waiting request gets it
            for turn in turns:
                _fail(turn.job, error)
            return
        row = 0
        for turn in turns:
            end = row + len(turn.papers)
            turn.job.parts.append(raw.rows(row, end))
            row = end
        self._each_alone(self._finish, [turn for turn in turns if turn.is_last])

    def _finish(self, turn: _Turn) -> None:
        job = turn.job
        raw, options = RawScores.joined(job.parts), job.options
        answers = self._classifier.answers(
            job.papers, raw, top=options.top, threshold=options.threshold
        )
        _give(job, scored_of(answers, raw))

    def _explain(self, turn: _Turn) -> None:
        job = turn.job
        job.answers += answer_papers(self._classifier, turn.papers, job.options)
        if turn.is_last:
            _give(job, job.answers)

    @staticmethod
    def _each_alone(work: Callable[[_Turn], None], turns: list[_Turn]) -> None:
        """Do something for each turn; an error reaches only its own job."""
        for turn in turns:
            try:
                work(turn)
            except Exception as error:  # noqa: BLE001 - the waiting request gets it
                _fail(turn.job, error)


def _give(job: _Job, answers: list[Scored]) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_result(answers)


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done() and job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
