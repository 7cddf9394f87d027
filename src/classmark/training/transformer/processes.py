"""The processes of one fit: started here for one machine, by torchrun for several.

Nothing here imports torch before a group is joined, so that a command line can ask who it is.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from classmark.errors import ClassmarkError, InvalidConfig, WorkerFailed
from classmark.training.transformer.config import TransformerConfig

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets for each process that it starts."""
_LOOPBACK = "127.0.0.1"
_END_SECONDS = 30.0
# What gloo and NCCL say when the other end of a connection has gone.
_LOST = ("connection closed", "connection reset", "broken pipe", "gloo", "nccl", "rank")

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a fit as one of them sees them; by default it is alone.

    Attributes:
        rank: of this one, from 0.
        count: of all.
        local_rank: of this one among those of its machine.
        local_count: of those.
        reports: what processes that this one started have reported as their errors.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    reports: Callable[[], list[ClassmarkError]] = field(default=list, compare=False)

    @property
    def is_first(self) -> bool:
        """Return whether this one writes, logs and shows progress."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """Return on how many machines they run, each with as many."""
        return self.count // self.local_count

    def share(self, value: _Value) -> _Value:
        """Return the value of the first process."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def total(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum over the processes, in the same array."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            dist.all_reduce(torch.from_numpy(values))
        return values

    def sum(self, value: float) -> float:
        """Return the sum of a number over the processes; one alone gets its own back."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        held = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(held)
        return float(held)

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Return of each flag whether it is set in any process."""
        if self.count == 1:
            return flags
        counts = self.total(np.array(flags, dtype=np.float32))
        return tuple(bool(n) for n in counts)

    def copy_weights(self, model: Any) -> None:
        """Give the model of every process the weights of the first one's."""
        if self.count == 1:
            return
        import torch.distributed as dist

        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)

    @contextmanager
    def lost_ones(self) -> Iterator[None]:
        """Turn what torch raises when another process has gone into one line that names it.

        Raises:
            ClassmarkError: what that process reported, if it could.
            WorkerFailed: it could not.
        """
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if self.count == 1 or not any(sign in text.lower() for sign in _LOST):
                raise
            for reported in self.reports():
                raise reported from error
            raise WorkerFailed(
                f"process {self.rank} of {self.count} has lost another one "
                f"({text.splitlines()[0][:200]})."
            ) from error


ALONE = Processes()


def read_variables(environment: Mapping[str, str]) -> Processes | None:
    """Return the place that torchrun gave to this process; None without torchrun.

    Raises:
        InvalidConfig: some of its variables are set and others are not, or they contradict.
    """
    given = {name: environment[name] for name in VARIABLES if environment.get(name)}
    if not given:
        return None
    if missing := [name for name in VARIABLES if name not in given]:
        raise InvalidConfig(
            f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} set, but "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not. Start the command "
            f"with torchrun, which sets them all, or unset {' '.join(given)}."
        )
    try:
        rank, local_rank, count, local_count = (int(given[name]) for name in VARIABLES[:4])
        valid = 0 <= rank < count and 0 <= local_rank < local_count <= count
        valid = valid and count % local_count == 0
    except ValueError:
        valid = False
    if not valid:
        seen = " ".join(f"{name}={given[name]}" for name in VARIABLES[:4])
        raise InvalidConfig(
            f"{seen} are not the place of one process among others. Start the command with "
            "torchrun, with as many processes on each machine, or unset them."
        )
    return Processes(rank=rank, count=count, local_rank=local_rank, local_count=local_count)


@contextmanager
def joined(config: TransformerConfig, beside: Callable[[], object]) -> Iterator[Processes]:
    """Yield the processes of a fit, this one among them, connected with each other.

    Args:
        config: how many, if torchrun has not started them.
        beside: what a process that is started here does; it is pickled.

    Raises:
        InvalidConfig: this machine has too few devices, the batches of a step cannot be shared
            among the processes, or the variables of torchrun are half set.
        WorkerFailed: a process did not start.
    """
    place = read_variables(os.environ)
    if place is None and config.devices > 1:
        _check(config, Processes(count=config.devices, local_count=config.devices))
        with _started(config.devices, beside) as reports, _connected(config, reports) as processes:
            yield processes
        return
    _check(config, place or ALONE)
    if place is None or place.count == 1:
        yield ALONE
        return
    with _connected(config, list) as processes:
        yield processes


def _check(config: TransformerConfig, place: Processes) -> None:
    if config.strategy == "fsdp" and place.count == 1:
        raise InvalidConfig(
            "model.strategy is 'fsdp', which divides a model among processes, but there is only "
            "one. Give model.devices=2 or more, or start the command with torchrun."
        )
    if place.count == 1:
        return
    if config.devices not in (1, place.local_count):
        raise InvalidConfig(
            f"model.devices is {config.devices}, but torchrun has started {place.local_count} on "
            f"this machine. Leave model.devices out, or give --nproc-per-node {config.devices}."
        )
    has, what = _devices(config)
    if place.local_count > has:
        raise InvalidConfig(
            f"model.devices is {place.local_count}, this machine has {has} {what}. Give "
            f"model.devices={has} or less; torchrun joins several machines."
        )
    if config.accumulation % place.count:
        raise InvalidConfig(
            f"model.accumulation is {config.accumulation}: {config.accumulation} batches of a step "
            f"cannot be shared equally among {place.count} processes. Give a multiple of "
            f"{place.count}, and a smaller model.batch_size for as many papers a step."
        )


def _devices(config: TransformerConfig) -> tuple[int, str]:
    """Return how many processes this machine has a device for, and what those are."""
    import torch

    if config.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count(), "GPUs"
    return processors(), "processors"


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _connected(
    config: TransformerConfig, reports: Callable[[], list[ClassmarkError]]
) -> Iterator[Processes]:
    """Yield this process's place in a group that the environment describes."""
    import torch
    import torch.distributed as dist

    place = read_variables(os.environ)
    if place is None:  # pragma: no cover - the caller has read or set them
        raise InvalidConfig("no variables of torchrun are set.")
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(place.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield Processes(
            rank=place.rank,
            count=place.count,
            local_rank=place.local_rank,
            local_count=place.local_count,
            reports=reports,
        )
    finally:
        dist.destroy_process_group()


@contextmanager
def _started(
    count: int, beside: Callable[[], object]
) -> Iterator[Callable[[], list[ClassmarkError]]]:
    """Start all processes but the first, which is this one; yield how to ask for their errors."""
    from lightning.fabric.plugins.environments.lightning import find_free_network_port

    shared = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": _LOOPBACK,
        "MASTER_PORT": str(find_free_network_port()),
    }
    if sys.platform == "linux":
        # Without it gloo listens where the name of the machine points to.
        shared["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    spawn = mp.get_context("spawn")
    others: list[tuple[Any, Connection]] = []
    with ExitStack() as stack:
        stack.enter_context(_environment({**shared, "RANK": "0", "LOCAL_RANK": "0"}))
        for rank in range(1, count):
            here, there = spawn.Pipe()
            variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # No daemon: that could not start workers of its own.
            process = spawn.Process(target=_take_part, args=(variables, beside, there))
            process.start()
            there.close()
            others.append((process, here))
            stack.callback(_end, process)
        for process, connection in others:
            _wait_until_ready(process, connection)
        yield lambda: _reports_of(others)
        for process, _ in others:  # they have nothing more to do
            process.join(_END_SECONDS)


def _take_part(variables: dict[str, str], beside: Callable[[], object], parent: Connection) -> None:
    """Be one of the other processes; Ctrl-C is for the first one, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(variables)
    import torch.distributed  # noqa: F401 - what takes longest, before it says that it is ready

    parent.send(None)
    try:
        beside()
    except Exception as error:  # noqa: BLE001 - whatever it is, the first process reports it
        kept = error if isinstance(error, ClassmarkError) else _named(error, variables["RANK"])
        with suppress(OSError):
            parent.send(kept)
        sys.exit(1)


def _named(error: Exception, rank: str) -> WorkerFailed:
    return WorkerFailed(f"process {rank} of the fit failed: {type(error).__name__}: {error}")


def _wait_until_ready(process: Any, connection: Connection) -> None:
    if connection in wait([connection, process.sentinel]):
        with suppress(EOFError):
            connection.recv()
            return
    process.join(_END_SECONDS)
    raise WorkerFailed(
        f"a process of the fit did not start (exit code {process.exitcode}). Its own message is "
        "above; model.devices=1 does without it."
    )


def _reports_of(others: list[tuple[Any, Connection]]) -> list[ClassmarkError]:
    """Return errors of processes that have ended: causes before those that lost a connection."""
    found: list[ClassmarkError] = []
    ended = wait([process.sentinel for process, _ in others], timeout=_END_SECONDS)
    for process, _ in others:
        if process.sentinel in ended:
            process.join(_END_SECONDS)
    for rank, (process, connection) in enumerate(others, 1):
        with suppress(EOFError, OSError):
            if connection.poll():
                found.append(connection.recv())
                continue
        if process.exitcode:
            how = f"was ended by signal {-process.exitcode}" if process.exitcode < 0 else "ended"
            found.append(WorkerFailed(f"process {rank} of the fit {how}."))
    return sorted(found, key=lambda error: "has lost another" in str(error))


def _end(process: Any) -> None:
    """End a process that is still there, because the fit has failed in this one."""
    if process.is_alive():
        process.terminate()
        process.join(_END_SECONDS)
    if process.is_alive():  # pragma: no cover - it does not answer SIGTERM
        process.kill()
        process.join()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
