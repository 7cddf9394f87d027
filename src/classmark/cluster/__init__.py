"""A cluster of Ray: many machines that work on what one machine divides and joins."""

from classmark.cluster.connection import Cluster, connect
from classmark.cluster.engine import Engine, check_engine
from classmark.cluster.flow import Flow, run_flow

__all__ = ["Cluster", "Engine", "Flow", "check_engine", "connect", "run_flow"]
