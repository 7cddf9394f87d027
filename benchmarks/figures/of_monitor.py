"""Figure 7: from the journal and a reference to what a look says, and what it asks for."""

from __future__ import annotations

from marks import WIDTH, arrow, box, document, lines, words

LABEL = (
    "Journal and reference give the same features; a window, a stream, a size and an estimated "
    "accuracy are made of them; the policy decides by the size"
)
SOURCES = [
    ("journal", ["scores of the text", "of each prediction"]),
    ("reference", ["the same of validation", "papers, in the bundle"]),
]
MADE = [
    ("window", ["exchanged with the", "reference 999 times"]),
    ("stream", ["a fair bet on every", "prediction, for good"]),
    ("size", ["papers from another", "field, with interval"]),
    ("accuracy", ["estimated; scored when", "categories are known"]),
]
ACTIONS = ["none", "report", "retrain", "page"]
BOX, HEIGHT, GAP = 152, 76, 32
COLUMNS = [8 + i * (BOX + GAP) for i in range(4)]
UPPER, MIDDLE, LOWER = 40, 176, 312
STRIP = 34


def draw() -> str:
    """Return the figure."""
    marks = [words(COLUMNS[0], UPPER - 16, "what is kept", "name")]
    for x, (name, holds) in zip(COLUMNS[1:3], SOURCES, strict=True):
        marks += _card(x, UPPER, name, holds, "card")
        marks.append(arrow(x + BOX / 2, UPPER + HEIGHT + 4, x + BOX / 2, MIDDLE - 8))
    marks.append(words(COLUMNS[0], MIDDLE - 16, "one look", "name"))
    marks.append(words(WIDTH - 8, MIDDLE - 16, "DriftReport", "name", "end"))
    for x, (name, does) in zip(COLUMNS, MADE, strict=True):
        marks += _card(x, MIDDLE, name, does, "result")
    marks.append(arrow(WIDTH / 2, MIDDLE + HEIGHT + 4, WIDTH / 2, LOWER - 8))
    marks.append(words(COLUMNS[0], LOWER - 16, "the policy, by the size", "name"))
    for x, action in zip(COLUMNS, ACTIONS, strict=True):
        marks.append(box(x, LOWER, BOX, STRIP, "card"))
        marks.append(words(x + BOX / 2, LOWER + 22, action, "head", "middle"))
    return document(LABEL, LOWER + STRIP + 10, marks)


def _card(x: float, y: float, name: str, does: list[str], css: str) -> list[str]:
    return [
        box(x, y, BOX, HEIGHT, css),
        words(x + 12, y + 24, name, "head"),
        *lines(x + 12, y + 44, does, "tick", 16),
    ]
