"""Models that take turns, each in a process of its own: what one paper costs them.

A busy machine slows both alike, so their ratio says more than either of their times.
"""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import comb
from multiprocessing.connection import Connection
from pathlib import Path

from classmark.errors import ClassmarkError, WorkerFailed
from classmark.records import SILENT, Paper, Progress
from classmark.runtime import Classifier

_MB = 1e6
_GOODBYE_S = 10.0
_STATUS = Path("/proc/self/status")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What one model costs.

    Attributes:
        latency_ms: of each round, the median time for one paper, milliseconds.
        peak_mb: highest resident memory of its process, units of 10^6 bytes; None where the
            system does not tell.
    """

    latency_ms: tuple[float, ...]
    peak_mb: float | None


def take_turns(
    models: Sequence[Path], papers: Sequence[Paper], rounds: int, progress: Progress = SILENT
) -> tuple[ModelCost, ...]:
    """Return the cost of each model; one answers at a time, every other round in reverse order.

    Args:
        models: folders of bundles.
        papers: answered one by one in each round, after one round that does not count.
        rounds: how many count.
        progress: of the rounds.

    Raises:
        WorkerFailed: a process died, or its model could not answer.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(model, papers)) for model in models]
        times: list[list[float]] = [[] for _ in models]
        for number in range(rounds + 1):
            places = range(len(workers)) if number % 2 else reversed(range(len(workers)))
            for place in places:
                found = workers[place].ask("round")
                if number:
                    times[place].append(found)
            progress.advance(1)
        peaks = [worker.ask("peak") for worker in workers]
    return tuple(
        ModelCost(latency_ms=tuple(of_model), peak_mb=peak or None)
        for of_model, peak in zip(times, peaks, strict=True)
    )


def median_interval(values: Sequence[float], level: float = _LEVEL) -> tuple[float, float]:
    """Return values between which the median lies with this probability, whatever they are of.

    Args:
        values: independent, at least one; below six, the ends are the least and the greatest.
        level: 0..1.

    Source: order statistics; how many values are below the median is binomial with p = 1/2.
    """
    n, beyond, below = len(values), 0, 0.0
    while (below := below + comb(n, beyond) / 2**n) <= (1 - level) / 2:
        beyond += 1
    in_order, skipped = sorted(values), max(beyond - 1, 0)
    return in_order[skipped], in_order[n - 1 - skipped]


class _Worker:
    """The other end of a process."""

    def __init__(self, connection: Connection, model: Path) -> None:
        self._connection, self._model = connection, model

    def ask(self, what: str) -> float:
        """Return a number, in milliseconds or units of 10^6 bytes."""
        try:
            self._connection.send(what)
            answer: float | str = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise WorkerFailed(
                f"the process that answers with {self._model} has died. If memory is short, close "
                "other programs and run it again."
            ) from error
        if isinstance(answer, str):
            raise WorkerFailed(f"{self._model} cannot answer: {answer}")
        return answer


@contextmanager
def _worker(model: Path, papers: Sequence[Paper]) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer_rounds, args=(theirs, model, papers), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _Worker(ours, model)
    finally:
        ours.close()
        process.join(_GOODBYE_S)
        process.kill()
        process.join()


def answer_rounds(connection: Connection, model: Path, papers: Sequence[Paper]) -> None:
    """Answer papers one by one for each ``round`` that is asked for; runs in a process.

    Args:
        connection: takes ``round`` and ``peak``, gives numbers, or a text if there is none.
        model: folder of a bundle.
        papers: to answer.
    """
    try:
        classifier = Classifier(model)
        while True:
            what = connection.recv()
            connection.send(_median_ms(classifier, papers) if what == "round" else _peak_mb())
    except ClassmarkError as error:
        connection.send(str(error))
    except EOFError:
        return  # nobody asks any more


def _median_ms(classifier: Classifier, papers: Sequence[Paper]) -> float:
    times = []
    for paper in papers:
        start = time.perf_counter()
        classifier.classify(paper)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _peak_mb() -> float:
    """Return the highest resident memory, 0 if the system does not tell.

    ``getrusage`` would say what the parent held when it started this process.
    """
    if not _STATUS.exists():  # pragma: no cover - not on this system
        return 0.0
    found = _PEAK.search(_STATUS.read_text("utf-8"))
    return int(found[1]) * 1024 / _MB if found else 0.0
