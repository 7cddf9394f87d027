"""The rooms of the code, drawn from the plan in pyproject.toml and from the imports themselves."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grimp
from marks import WIDTH, box, document, words

LABEL = "The rooms of classmark in layers; arrows lead from a room to those that it imports"
PACKAGE = "classmark"
ROW, BOX_HEIGHT, BOX_WIDTH, TOP = 62, 30, 104, 34
LEFT = 8


def draw() -> str:
    """Return the figure."""
    contracts = _contracts()
    rows = _rows(contracts["layers"]["layers"])
    serving = {name.partition(".")[2] for name in contracts["serving"]["source_modules"]}
    places = {room: at for row in rows for room, at in _places(row, rows, serving).items()}
    arrows = [
        _arrow(places[one], places[other])
        for one, others in sorted(reduced(imports()).items())
        for other in sorted(others)
        if one in places and other in places
    ]
    boxes = [
        mark
        for room, (x, y) in places.items()
        for mark in (
            box(x, y, BOX_WIDTH, BOX_HEIGHT, "result" if room in serving else "card"),
            words(x + BOX_WIDTH / 2, y + 19, room, "code", "middle"),
        )
    ]
    bottom = TOP + ROW * len(rows)
    notes = [
        words(LEFT, 16, "A room imports from lines below its own only.", "note"),
        words(LEFT, bottom, "green: what serves, and never loads what trains", "note"),
        words(
            WIDTH - LEFT, bottom, "An arrow is left out where a way of others leads there.", "note",
            "end",
        ),
    ]  # fmt: skip
    return document(LABEL, bottom + 10, [*notes, *arrows, *boxes])


def _contracts() -> dict[str, Mapping[str, Any]]:
    """Return the contracts of the imports by their id."""
    path = Path(__file__).parents[2] / "pyproject.toml"
    settings = tomllib.loads(path.read_text("utf-8"))["tool"]["importlinter"]
    return {contract["id"]: contract for contract in settings["contracts"]}


def _rows(layers: list[str]) -> list[list[str]]:
    """Return the rooms that exist, line by line from the top; planned ones are in parentheses."""
    rows = [[name.strip() for name in layer.split("|")] for layer in layers]
    return [[name for name in row if not name.startswith("(")] for row in rows]


def _places(
    row: list[str], rows: list[list[str]], serving: set[str]
) -> dict[str, tuple[float, float]]:
    """Return the upper left corner of each room of a row.

    One alone that does not serve is left of the middle, where arrows of serving rooms pass.
    """
    gap = (WIDTH - 2 * LEFT) / len(row)
    y = TOP + ROW * rows.index(row)
    shift = -WIDTH / 4 if len(row) == 1 and row[0] not in serving and y > 2 * ROW + TOP else 0
    middle = LEFT - BOX_WIDTH / 2 + shift
    return {name: (middle + gap * (i + 0.5), y) for i, name in enumerate(row)}


def imports() -> dict[str, set[str]]:
    """Return which rooms each room imports directly."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            one, two = _room(module), _room(other)
            if one and two and one != two:
                found.setdefault(one, set()).add(two)
    return found


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def reduced(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports without those that others imply."""

    def reached(room: str) -> set[str]:
        nearest = imports.get(room, set())
        return nearest.union(*(reached(other) for other in nearest))

    return {
        room: nearest - set().union(*(reached(other) for other in nearest))
        for room, nearest in imports.items()
        if nearest
    }


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a curve from the lower edge of one box to the upper edge of another."""
    x1, y1 = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT
    x2, y2 = end[0] + BOX_WIDTH / 2, end[1]
    if y2 <= y1:  # beside each other: client imports wire
        left, right = (start, end) if start[0] < end[0] else (end, start)
        y = start[1] + BOX_HEIGHT / 2
        x1, x2 = left[0] + BOX_WIDTH, right[0]
        return f'<path class="arrow" d="M{x1:.1f} {y:.1f} L{x2:.1f} {y:.1f}"/>'
    bend = (y2 - y1) / 2
    tip = f"M{x2 - 4:.1f} {y2 - 6:.1f} L{x2:.1f} {y2:.1f} L{x2 + 4:.1f} {y2 - 6:.1f}"
    curve = f"M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f}"
    return f'<path class="arrow" d="{curve} {x2:.1f} {y2:.1f} {tip}"/>'
