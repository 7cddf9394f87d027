"""REGISTRY: bundles by digest, channels in one atomic pointer, events that cannot be edited."""

from classmark.registry.admission import Proof
from classmark.registry.registry import Registry

__all__ = ["Proof", "Registry"]
