"""A cluster of two nodes on this machine, which really run; one has the only CPUs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bulk"))
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # as `connect` has it, before anything imports Ray


@pytest.fixture(autouse=True)
def no_home(models_home: Path) -> Path:
    """Let no model of this machine's user be found."""
    return models_home


class Nodes:
    """The nodes of a cluster: a head that only divides, and others that work."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.address: str = self._cluster.address
        self._workers: list[Any] = []

    def add(self, *, n_cpus: int = 1) -> None:
        """Start a node with CPUs."""
        self._workers.append(self._cluster.add_node(num_cpus=n_cpus))

    def kill_oldest(self) -> None:
        """Kill the processes of a node, with no goodbye."""
        self._cluster.remove_node(self._workers.pop(0), allow_graceful=False)

    def stop(self) -> None:
        for node in list(self._cluster.list_all_nodes()):
            self._cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def make_nodes() -> Iterator[Callable[[], Nodes]]:
    """Return what starts a cluster of a head and one node that works."""
    started: list[Nodes] = []

    def start() -> Nodes:
        nodes = Nodes()
        started.append(nodes)
        nodes.add()
        return nodes

    yield start
    for nodes in started:
        nodes.stop()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Return a cluster of two nodes for the tests of a file that kill none."""
    nodes = Nodes()
    nodes.add(n_cpus=2)
    yield nodes
    nodes.stop()
