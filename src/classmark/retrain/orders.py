"""Orders and what became of them, in a folder: ``orders/ID/order.json``, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from classmark.errors import RunCorrupt
from classmark.records import RetrainEvent, RetrainOrder, RetrainState, utc_text
from classmark.records.fields import WrongField
from classmark.records.registry import RetrainStep
from classmark.storage import storage_errors, write_json

ORDERS, ORDER_FILE = "orders", "order.json"


class Orders:
    """The orders of a folder; only the holder of its lock adds to them."""

    def __init__(self, folder: Path) -> None:
        """Name the folder, which need not exist."""
        self.folder = folder.absolute()

    def place(self, order: RetrainOrder) -> Path:
        """Return the folder that an order is carried out in."""
        return self.folder / ORDERS / order.id

    def all(self) -> tuple[RetrainState, ...]:
        """Return the orders, the oldest first.

        Raises:
            RunCorrupt: one cannot be read; names the file.
        """
        found = sorted((self.folder / ORDERS).glob(f"*/{ORDER_FILE}"))
        return tuple(_read_state(path) for path in found)

    def begin(self, order: RetrainOrder, facts: Mapping[str, Any]) -> RetrainState:
        """Keep a new order; with ``facts`` of what it was made for.

        Raises:
            StorageFailed: it cannot be written.
        """
        with storage_errors(self.place(order)):
            self.place(order).mkdir(parents=True, exist_ok=True)
        return self.add(RetrainState(order=order, events=()), "ordered", facts)

    def add(
        self, state: RetrainState, step: RetrainStep, facts: Mapping[str, Any], cpu_s: float = 0.0
    ) -> RetrainState:
        """Keep a step of an order, whole or not at all; return the new state.

        Args:
            state: before it.
            step: that is done.
            facts: what came of it, as JSON values.
            cpu_s: CPU-seconds that it took.

        Raises:
            StorageFailed: it cannot be written.
        """
        event = RetrainEvent(step=step, at_utc=utc_text(), facts=dict(facts), cpu_s=round(cpu_s, 2))
        after = replace(state, events=(*state.events, event))
        write_json(self.place(state.order) / ORDER_FILE, after.to_dict())
        return after


def _read_state(path: Path) -> RetrainState:
    try:
        return RetrainState.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, WrongField, TypeError, RecursionError) as error:
        raise RunCorrupt(
            f"{path} is not an order that this classmark can read: {error}. Restore it from a "
            f"copy, or remove {path.parent} to give the order up."
        ) from error
