"""The rooms in their layers, with the imports between them that no other import implies."""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp
from marks import WIDTH, box, document, words

LABEL = "The rooms in layers; lines go down from a room to those that it imports"
ROOT = Path(__file__).parents[2]
WIDE, TALL, STEP, TOP = 92.0, 26.0, 66.0, 30.0
PLACES = 5

Edge = tuple[str, str]


def layers() -> list[list[str]]:
    """Return the names of the contract, from the top; planned ones are in parentheses."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (found,) = (contract for contract in contracts if contract["id"] == "layers")
    return [[room.strip() for room in layer.split("|")] for layer in found["layers"]]


def imports() -> set[Edge]:
    """Return (room, imported room) for each import that does not follow from others."""
    graph = grimp.build_graph("classmark", cache_dir=None)
    rooms = graph.find_children("classmark")
    edges = {
        (one.partition(".")[2], other.partition(".")[2])
        for one in rooms
        for other in rooms
        if one != other
        and graph.direct_import_exists(importer=one, imported=other, as_packages=True)
    }
    return {edge for edge in edges if not _follows(edge, edges)}


def _follows(edge: Edge, edges: set[Edge]) -> bool:
    """Return whether the imported room can be reached by other edges."""
    reached, waiting = set[str](), [edge[0]]
    while waiting:
        room = waiting.pop()
        for start, end in edges:
            if start == room and (start, end) != edge and end not in reached:
                reached.add(end)
                waiting.append(end)
    return edge[1] in reached


def draw() -> str:
    """Return the figure."""
    places = {
        room.strip("()"): (x, TOP + STEP * row, room.startswith("("))
        for row, layer in enumerate(layers())
        for room, x in zip(layer, _columns(len(layer)), strict=True)
    }
    marks = [words(1, 14, "dashed: planned, not built yet", "note")]
    for start, end in sorted(imports()):
        (x1, y1, _), (x2, y2, _) = places[start], places[end]
        marks.append(_link(x1, y1 + TALL, x2, y2))
    for room, (x, y, planned) in places.items():
        marks.append(box(x - WIDE / 2, y, WIDE, TALL, "planned" if planned else "card"))
        marks.append(words(x, y + 17, room, "code", "middle"))
    height = TOP + STEP * (len(layers()) - 1) + TALL + 6
    return document(LABEL, round(height), marks)


def _columns(n: int) -> list[float]:
    """Return the middles of n boxes; a layer of more boxes is wider."""
    room = WIDTH / PLACES
    return [WIDTH / 2 + room * (i - (n - 1) / 2) for i in range(n)]


def _link(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (y2 - y1) / 2
    if y2 < y1 + 1:  # beside each other: client and wire
        x1, x2, y1, y2, bend = x1 + WIDE / 2, x2 - WIDE / 2, y1 - TALL / 2, y2 + TALL / 2, 0.0
    return (
        f'<path class="link" d="M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} '
        f'{x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"/>'
    )
