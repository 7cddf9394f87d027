"""Work that flows through a cluster: sources are divided into items, and each item is worked on.

Ray Data moves the items, holds back the division when the workers are behind, and does again what
was on a node that died. Items and results are objects, which Ray passes between processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from classmark.errors import ClassmarkError, WorkerFailed

_COLUMN = "object"
_TRIES = 10
"""An item is tried as often again before its run ends: many tries find only that a node is gone."""
_INIT_TRIES = 3

Work = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What flows, and how.

    Attributes:
        n_sources: how many sources there are; they are known by their number.
        divide: yields the items of a source; runs on a node.
        make_work: makes what turns an item into a result; called once in each worker.
        workers: maximum number of processes that work at a time.
        readers: maximum number of sources that are divided at a time.
        here: divide the sources on this machine, because no other one sees them.
        in_order: yield results in the order of sources and items.
    """

    n_sources: int
    divide: Callable[[int], Iterator[Any]]
    make_work: Callable[[], Work]
    workers: int
    readers: int = 1
    here: bool = True
    in_order: bool = False


@dataclass(frozen=True)
class _Failed:
    """Why an item, or the rest of a source, cannot be had."""

    error: ClassmarkError


def run_flow(flow: Flow) -> Generator[Any]:
    """Yield the result of each item, when it is there or in order.

    Raises:
        ClassmarkError: what a division or a work raised.
        WorkerFailed: a worker raised anything else, or died too often.
    """
    import ray
    from ray.data.exceptions import UserCodeException

    try:
        with warnings.catch_warnings():
            # Ray warns of settings that only its own code touches, and of ``max_task_retries``;
            # there is no other way yet to give up on an item that kills its workers.
            warnings.simplefilter("ignore", DeprecationWarning)
            dataset = _dataset(flow)
        for rows in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            for result in _unpacked(rows):
                if isinstance(result, _Failed):
                    raise result.error
                yield result
    except (ray.exceptions.RayError, UserCodeException) as error:
        raise WorkerFailed(_reason(error)) from error


def _dataset(flow: Flow) -> Any:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = flow.in_order
    # A block holds one item: what is large enough is not held back until more has come.
    context.target_max_block_size = context.target_min_block_size = 1
    # A node that dies while a worker starts on it did not fail at the work.
    context.max_consecutive_actor_init_deaths = _INIT_TRIES
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    with DataContext.current(context):
        sources = ray.data.from_items(
            list(range(flow.n_sources)), override_num_blocks=max(1, flow.n_sources)
        )
        items = sources.map_batches(
            _divided(flow.divide),
            batch_size=1,
            batch_format="numpy",
            num_cpus=0,
            compute=TaskPoolStrategy(size=flow.readers),
            label_selector=here if flow.here else None,
        )
        return items.map_batches(
            _Worker,
            fn_constructor_args=(_Opaque(flow.make_work),),
            batch_size=None,
            batch_format="numpy",
            num_cpus=1,
            compute=ActorPoolStrategy(min_size=1, max_size=flow.workers),
            max_task_retries=_TRIES,
        )


def _divided(divide: Callable[[int], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def tables(source: Any) -> Iterator[Any]:
        try:
            for number in source["item"].tolist():
                for item in divide(number):
                    yield _packed([item])
        except ClassmarkError as error:
            yield _packed([_Failed(error)])

    return tables


class _Opaque:
    """Holds what makes the work: Ray prints the arguments of workers, and a model has megabytes."""

    def __init__(self, make_work: Callable[[], Work]) -> None:
        self.make_work = make_work


class _Worker:
    """A process of a node. It makes what it needs with the first item: then errors are results."""

    def __init__(self, held: _Opaque) -> None:
        self._make_work = held.make_work
        self._work: Work | None = None

    def __call__(self, rows: Any) -> Any:
        """Return the results of items."""
        return _packed([self._result(item) for item in _unpacked(rows)])

    def _result(self, item: Any) -> Any:
        if isinstance(item, _Failed):
            return item
        try:
            self._work = self._work or self._make_work()
            return self._work(item)
        except ClassmarkError as error:
            return _Failed(error)


@dataclass(frozen=True)
class _Held:
    """An object in a row: of a bare one, Ray would make a value of Arrow if it can."""

    object: Any


def _packed(objects: list[Any]) -> dict[str, Any]:
    import numpy as np

    column = np.empty(len(objects), dtype=object)
    column[:] = [_Held(item) for item in objects]
    return {_COLUMN: column}


def _unpacked(rows: dict[str, Any]) -> Iterator[Any]:
    for held in rows[_COLUMN]:
        yield held.object


def _reason(error: BaseException) -> str:
    from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

    cause = _first_cause(error)
    if not isinstance(error, OutOfMemoryError | RayActorError | WorkerCrashedError):
        return cause
    return (
        f"workers of the cluster died over the same work, in {_TRIES} more tries too. If memory is "
        f"short, run again with fewer workers. Ray says: {cause}"
    )


def _first_cause(error: BaseException) -> str:
    """Return the last line of what Ray says, which names the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
