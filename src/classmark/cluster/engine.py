"""Who does the work: processes of this machine, or a cluster."""

from __future__ import annotations

from typing import Literal, get_args

from classmark.errors import UsageError

Engine = Literal["local", "ray"]


def check_engine(engine: str, address: str | None) -> None:
    """Refuse an engine that does not exist, and an address where no cluster is wanted.

    Raises:
        UsageError: says which engines there are.
    """
    if engine not in get_args(Engine):
        raise UsageError(
            f"unknown engine {engine!r}. Choose one of: {', '.join(get_args(Engine))}."
        )
    if address is not None and engine != "ray":
        raise UsageError(
            f"the address {address} of a cluster is only for the engine ray. Choose that engine, "
            "or leave the address out."
        )
