"""Local processes that make parts: given tasks one at a time, replaced once when one dies.

The pool of many machines has the same ``run``; see the room ``cluster``.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from classmark.bulk.worker import Done, Task, WorkPlan, work
from classmark.errors import WorkerFailed

MAX_TRIES = 2
_GOODBYE_S = 10.0


class _Worker:
    """One process and the task that it works on."""

    def __init__(self, plan: WorkPlan) -> None:
        # Spawned on every platform: a fork would inherit the ends of the other workers' pipes, and
        # no worker would see that its parent is gone.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.task: Task | None = None
        self._process: SpawnProcess = context.Process(target=work, args=(theirs, plan), daemon=True)
        with _no_interrupt():
            self._process.start()
        theirs.close()

    @property
    def exit_code(self) -> int | None:
        """How it ended: minus the number of a signal if one killed it."""
        self._process.join(_GOODBYE_S)
        return self._process.exitcode

    def give(self, task: Task) -> None:
        """Hand over a task; that a worker is dead is found out when its answer is waited for."""
        self.task = task
        with suppress(ConnectionError):
            self.connection.send(task)

    def take(self) -> Done | str | None:
        """Return its answer, or why it cannot continue, or None if it has died."""
        try:
            answer: Done | str = self.connection.recv()
        except (EOFError, ConnectionError):
            return None
        self.task = None
        return answer

    def dismiss(self, *, at_once: bool) -> None:
        """End the process: an idle one ends by itself when its pipe closes."""
        self.connection.close()
        if not at_once:
            self._process.join(_GOODBYE_S)
        self._process.kill()
        self._process.join()


class Pool:
    """Up to n local processes."""

    def __init__(self, plan: WorkPlan, n_workers: int) -> None:
        self._start: Callable[[], _Worker] = lambda: _Worker(plan)
        self._n_workers = n_workers
        self._workers: list[_Worker] = []

    def run(self, tasks: Iterator[Task]) -> Generator[Done]:
        """Work on tasks and yield each when its part is written, in any order.

        No more than one task a worker, and one that was read ahead, are held at a time.

        Raises:
            WorkerFailed: a worker met an error, or died twice over the same task.
        """
        try:
            yield from self._run(tasks)
        except BaseException:
            self._dismiss(at_once=True)
            raise
        self._dismiss(at_once=False)

    def _run(self, tasks: Iterator[Task]) -> Iterator[Done]:
        tries: dict[int, int] = {}
        ahead = next(tasks, None)
        while True:
            while ahead is not None and (worker := self._idle()):
                worker.give(ahead)
                ahead = next(tasks, None)
            busy = {w.connection: w for w in self._workers if w.task is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                answer = worker.take()
                if answer is None:
                    self._replace(worker, tries)
                elif isinstance(answer, str):
                    raise WorkerFailed(answer)
                else:
                    tries.pop(answer.index, None)
                    yield answer

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) == self._n_workers:
            return None
        self._workers.append(self._start())
        return self._workers[-1]

    def _replace(self, dead: _Worker, tries: dict[int, int]) -> None:
        """Give the task of a dead worker to a new one, or give up."""
        task = dead.task
        assert task is not None  # noqa: S101 - an idle worker is not waited for
        tries[task.index] = tries.get(task.index, 1) + 1
        if tries[task.index] > MAX_TRIES:
            code = dead.exit_code
            ending = f"signal {-code}" if code and code < 0 else f"exit code {code}"
            raise WorkerFailed(
                f"a worker died {MAX_TRIES} times ({ending}) over the same "
                f"papers of {task.source}, part {task.index}. If memory is short, run again with "
                "fewer workers."
            )
        dead.dismiss(at_once=True)
        self._workers.remove(dead)
        self._workers.append(self._start())
        self._workers[-1].give(task)

    def _dismiss(self, *, at_once: bool) -> None:
        for worker in self._workers:
            worker.dismiss(at_once=at_once)
        self._workers = []


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back for the block; a process that is started in it never gets one."""
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - not on this system
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
