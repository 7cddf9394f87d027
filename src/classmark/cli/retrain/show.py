"""How orders and decisions are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from classmark.records import RetrainDecision, RetrainState

COLUMNS = ("order", "bundle", "state", "CPU-hours", "because of")


def print_decision(decision: RetrainDecision) -> None:
    """Print whether there is an order, and everything that was considered."""
    order = decision.order
    if order is None:
        typer.echo("no new model")
    else:
        gain = order.expected_gain
        hope = f", up to {gain:.1%} more accuracy expected" if gain is not None else ""
        typer.echo(f"a new model is wanted{hope}")
    for reason in decision.reasons:
        side = "for" if reason.speaks_for else "against"
        typer.echo(f"  {side:<9}{reason.kind:<12}{reason.text}")


def words_of(state: RetrainState) -> str:
    """Return where an order is, in a few words."""
    if state.outcome:
        return state.outcome.replace("_", " ")
    waits = {"shadow": "in the shadow", "canary": "in the canary"}
    return waits.get(state.events[-1].step, f"open after {state.events[-1].step}")


def row_of(state: RetrainState) -> tuple[str, ...]:
    """Return the line of an order in a table of ``COLUMNS``."""
    ordered = state.events[0].facts
    causes = sorted({reason.kind for reason in state.order.reasons})
    return (
        state.order.id,
        f"{ordered['name']}@{ordered['version']}",
        words_of(state),
        f"{state.cpu_hours:.3g}",
        ", ".join(causes),
    )
