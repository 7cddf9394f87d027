"""Figure 6: the way of a request through a worker, what may refuse it, and what is kept of it."""

from __future__ import annotations

from marks import WIDTH, arrow, box, document, lines, words

LABEL = (
    "A request passes connection, access, queue and classifier; each may refuse it. Beside them, a "
    "journal, metrics and a log keep what happened, and a supervisor replaces workers"
)
WAY = [  # name, what it does, what it refuses with
    ("connection", ["bytes counted", "before parsing"], "400, 408, 413, 431"),
    ("access", ["host, key, scope,", "requests a minute"], "401, 403, 421, 429"),
    ("queue", ["expected wait", "against deadline"], "503, 504"),
    ("classifier", ["one bundle, shared", "by all workers"], "422"),
]
KEPT = [
    ("journal", ["prediction, feedback;", "its own writer process"]),
    ("metrics", ["counters of all workers", "in shared memory"]),
    ("log", ["a JSON line a request,", "without its text"]),
    ("supervisor", ["starts workers again,", "stops them in order"]),
]
BOX, HEIGHT, GAP = 152, 76, 32
COLUMNS = [8 + i * (BOX + GAP) for i in range(4)]
UPPER, LOWER = 40, 226


def draw() -> str:
    """Return the figure."""
    marks = [words(COLUMNS[0], UPPER - 16, "one request", "name")]
    for x, (name, does, refusal) in zip(COLUMNS, WAY, strict=True):
        marks += _card(x, UPPER, name, does, "result" if name == "classifier" else "card")
        marks.append(arrow(x + BOX / 2, UPPER + HEIGHT + 4, x + BOX / 2, UPPER + HEIGHT + 30))
        marks.append(words(x + BOX / 2, UPPER + HEIGHT + 46, refusal, "code", "middle"))
    marks += [_between(x) for x in COLUMNS[:3]]
    marks.append(words(WIDTH - 8, UPPER - 16, "answer, X-Request-ID", "name", "end"))
    marks.append(words(COLUMNS[0], LOWER - 16, "beside it", "name"))
    for x, (name, does) in zip(COLUMNS, KEPT, strict=True):
        marks += _card(x, LOWER, name, does, "card")
    return document(LABEL, LOWER + HEIGHT + 10, marks)


def _card(x: float, y: float, name: str, does: list[str], css: str) -> list[str]:
    return [
        box(x, y, BOX, HEIGHT, css),
        words(x + 12, y + 24, name, "head"),
        *lines(x + 12, y + 44, does, "tick", 16),
    ]


def _between(x: float) -> str:
    return arrow(x + BOX + 4, UPPER + HEIGHT / 2, x + BOX + GAP - 4, UPPER + HEIGHT / 2)
