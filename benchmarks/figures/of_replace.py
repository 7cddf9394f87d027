"""Figure 8: what a new bundle passes before it is the champion, and what each test sees."""

from __future__ import annotations

from dataclasses import fields

from marks import arrow, box, document, lines, words

from classmark.evaluation.gate import GateRules
from classmark.registry.rules import CanaryRules

LABEL = (
    "A bundle that was added to the registry passes gate, shadow and canary, and is the champion; "
    "each of them may refuse it"
)
BOX, HEIGHT, GAP, TOP = 156, 96, 26, 44
COLUMNS = [8 + i * (BOX + GAP) for i in range(4)]
STEPS = [
    ("gate", ["the test papers of", "the dataset, beside", "the champion"], "refused"),
    ("shadow", ["papers of today, in", "the background: no", "client sees it"], "refused"),
    ("canary", ["a share of the clients,", "always the same ones"], "rolled back"),
    ("champion", ["every client; the one", "before stays loaded"], "registry rollback"),
]
NOT_MEASURED = ("format_version", "measurement")
NOT_RULES = ("requests", "minutes", "false_rollback")


def draw() -> str:
    """Return the figure."""
    marks = []
    for number, (x, (name, sees, ends)) in enumerate(zip(COLUMNS, STEPS, strict=True)):
        marks.append(box(x, TOP, BOX, HEIGHT, "result" if name == "champion" else "card"))
        marks.append(words(x + 12, TOP + 24, name, "head"))
        marks += lines(x + 12, TOP + 46, sees, "tick", 16)
        if number:
            marks.append(arrow(x - GAP + 4, TOP + HEIGHT / 2, x - 5, TOP + HEIGHT / 2))
        marks.append(arrow(x + BOX / 2, TOP + HEIGHT + 4, x + BOX / 2, TOP + HEIGHT + 28))
        marks.append(words(x + BOX / 2, TOP + HEIGHT + 44, ends, "code", "middle"))
    marks.append(words(COLUMNS[0], TOP - 16, "what each test sees", "name"))
    y = TOP + HEIGHT + 78
    measured = f"the gate measures: {_names(GateRules, NOT_MEASURED)}"
    compared = f"the canary compares: {_names(CanaryRules, NOT_RULES)}"
    marks += lines(COLUMNS[0], y, [measured, compared], "tick", 18)
    return document(LABEL, y + 32, marks)


def _names(rules: type, without: tuple[str, ...]) -> str:
    """Return the names of the rules, as their file has them."""
    names = [field.name for field in fields(rules) if field.name not in without]
    return ", ".join(name.replace("_", " ") for name in names)
