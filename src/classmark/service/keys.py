"""API keys."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """."""

    id: str
