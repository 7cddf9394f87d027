"""A connection to a cluster, a local one by default, whose nodes all have what they need."""

from __future__ import annotations

import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmark import __version__
from classmark.errors import ClusterFailed, MissingExtra, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGES = ("ray", "pyarrow", "pandas")
# Ray reads them when it is imported. A run reports nothing to anybody outside the cluster, and what
# a user should know is an error of ours. A thread of a run that has ended must not start a cluster.
_SETTINGS = {
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_DATA_THREADS = ("StreamingExecutor-", "ray-data-")
_THREADS_END_S = 30.0
_STARTS = 3
"""Ray gives up on a start after 30 seconds, which a busy machine may need."""
_ANSWER_S = 5.0
_PROBE_S = 120.0
_MOST_PORT = 65_535
_SHOWN_NODES = 3


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        n_cpus: CPUs of all nodes together, as Ray counts them.
        n_nodes: nodes that are alive.
    """

    n_cpus: int
    n_nodes: int


@contextmanager
def connect(address: str | None, *, n_cpus: int | None = None) -> Iterator[Cluster]:
    """Connect this process to a cluster for the block.

    Args:
        address: ``HOST:PORT`` of a cluster that this machine is a node of, or ``auto``, the one
            that runs on this machine; None starts a cluster of this machine, which ends with the
            block.
        n_cpus: of a cluster that is started; None takes all.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: the address is not one of these.
        ClusterFailed: nobody answers there, this machine is not a node of that cluster, or a node
            lacks what the work needs.
    """
    if address is not None:
        _check_address(address)
    if any(find_spec(package) is None for package in _PACKAGES):
        raise MissingExtra("working on a cluster", "ray")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    _start(address, n_cpus)
    try:
        _check_nodes(address)
        yield Cluster(int(ray.cluster_resources().get("CPU", 0)), len(_living_nodes()))
    finally:
        _wait_for_threads()
        ray.shutdown()


def _wait_for_threads() -> None:
    """Wait for the threads of Ray Data, which itself gives up on them after two seconds.

    What such a thread asked for after the end of this connection would reach the next one.
    """
    deadline = time.monotonic() + _THREADS_END_S
    for thread in threading.enumerate():
        if thread.name.startswith(_DATA_THREADS):
            thread.join(max(0.0, deadline - time.monotonic()))


def _start(address: str | None, n_cpus: int | None) -> None:
    import ray

    options: dict[str, Any] = {}
    if address is None:
        options = {"include_dashboard": False, "num_cpus": n_cpus}
    for rest in reversed(range(_STARTS if address is None else 1)):
        try:
            with _quiet_start():
                ray.init(
                    address=address or "local",
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    **options,
                )
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            if not rest:
                raise ClusterFailed(_why_not(address, error)) from error
        else:
            return


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Hide that Ray says at what level it logs, which its C++ does before any level counts."""
    saved = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _check_address(address: str) -> None:
    """Find out in seconds whether anybody listens; Ray itself waits for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdecimal() or int(port) > _MOST_PORT:
        raise UsageError(
            f"--address {address} is not HOST:PORT or auto. Give the address that `ray start "
            "--head` printed, and run the command on a node of that cluster."
        )
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise ClusterFailed(
            f"no cluster answers at {address} ({error.strerror or error}). Check the address and "
            "that the head node runs, or leave out --address for a cluster of this machine."
        ) from error


def _why_not(address: str | None, error: Exception) -> str:
    first_line = str(error).partition("\n")[0].rstrip(".")
    if address is None:
        return f"a cluster of this machine could not be started: {first_line}."
    return (
        f"the cluster at {address} cannot be used: {first_line}. Run the command on a node of it, "
        f"or make this machine one: ray start --address {address}"
    )


def _living_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _check_nodes(address: str | None) -> None:
    """Ask each node what it lacks.

    Raises:
        ClusterFailed: names the nodes and what to install.
    """
    if address is None:
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0, max_retries=1)(_make_probe())
    wanted = (__version__, platform.python_version_tuple()[:2], _PACKAGES)
    asked = {}
    for node in _living_nodes():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[node["NodeManagerAddress"], node["NodeID"]] = probe.options(
            scheduling_strategy=place
        ).remote(*wanted)
    lacking = []
    for (host, identifier), answer in asked.items():
        try:
            lack = ray.get(answer, timeout=_PROBE_S)
        except ray.exceptions.RayError as error:
            lack = str(error).strip().rpartition("\n")[2]
        if lack:
            lacking.append(f"node {identifier[:8]} ({host}) {lack}")
    if lacking:
        rest = len(lacking) - _SHOWN_NODES
        more = f" and {rest} more" if rest > 0 else ""
        raise ClusterFailed(
            f"{'; '.join(lacking[:_SHOWN_NODES])}{more}. Install the same version on every node: "
            f"pip install 'classmark[ray]=={__version__}'"
        )


def _make_probe() -> Callable[[str, tuple[str, ...], tuple[str, ...]], str]:
    """Return the question as a function that is sent whole: a node may lack this module."""

    def probe(version: str, python: tuple[str, ...], packages: tuple[str, ...]) -> str:
        import importlib
        import platform as its_platform

        for package in (*packages, "classmark"):
            try:
                module = importlib.import_module(package)
            except ImportError:
                return f"lacks {package}"
        if module.__version__ != version:
            return f"has classmark {module.__version__}, not {version}"
        found = its_platform.python_version_tuple()[:2]
        return "" if found == python else f"has Python {'.'.join(found)}, not {'.'.join(python)}"

    return probe
