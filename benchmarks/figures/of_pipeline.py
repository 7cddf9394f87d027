"""The whole pipeline: from files of papers to answers, and from what was answered back to data."""

from __future__ import annotations

from marks import WIDTH, arrow, box, document, lines, words

LABEL = (
    "Papers become a dataset, a dataset a run, a run a bundle; the bundle is evaluated and answers "
    "in the shell, in Python, in bulk and over HTTP, where a journal keeps what was answered"
)
BOX, HEIGHT, GAP = 148, 76, 32
COLUMNS = [24 + i * (BOX + GAP) for i in range(4)]
MARGIN = 6
MADE = [  # artifact, what it holds, the command that makes it
    ("papers", ["CSV, JSON lines, BibTeX,", "Parquet, XML, Excel"], "dataset download"),
    ("dataset", ["train, valid, test,", "manifest.json"], "dataset build"),
    ("run", ["weights, configuration,", "provenance.json"], "train"),
    ("bundle", ["bundle.json, arrays or", "ONNX, CARD.md"], "export"),
]
MEASURED = [
    ("score table", ["scores of a split, .npz"], "--write-scores"),
    ("reports", ["metrics, intervals,", "comparison, robustness"], "evaluate"),
]
ANSWERS = [
    ("shell, Python", ["one text, one file"], "classify"),
    ("bulk", ["files by the million,", "in parts"], "classify --workers"),
    ("service", ["HTTP, web page,", "worker processes"], "serve"),
    ("journal", ["predictions, feedback;", "kept, then forgotten"], "journal export"),
]
ROWS = (26, 176, 326)


def draw() -> str:
    """Return the figure."""
    marks = [*_row(ROWS[0], MADE, 0), *_row(ROWS[1], MEASURED, 0), *_row(ROWS[2], ANSWERS, 0)]
    for y, count in ((ROWS[0], 4), (ROWS[1], 2)):
        marks += [_between(x, y) for x in COLUMNS[: count - 1]]
    marks.append(_between(COLUMNS[2], ROWS[2]))
    marks += _ways_of_the_bundle()
    marks.append(_way_back())
    return document(LABEL, 450, marks)


def _row(y: float, cards: list[tuple[str, list[str], str]], first: int) -> list[str]:
    marks: list[str] = []
    for x, (name, content, command) in zip(COLUMNS[first:], cards, strict=False):
        marks.append(box(x, y, BOX, HEIGHT, "result" if name == "bundle" else "card"))
        marks.append(words(x + 12, y + 22, name, "head"))
        marks += lines(x + 12, y + 42, content, "tick", 15)
        marks.append(words(x + BOX / 2, y - 8, command, "code", "middle"))
    return marks


def _between(x: float, y: float) -> str:
    return arrow(x + BOX + 4, y + HEIGHT / 2, x + BOX + GAP - 5, y + HEIGHT / 2)


def _ways_of_the_bundle() -> list[str]:
    """Return the lines from the bundle to what measures it, and to what answers with it."""
    x, y = COLUMNS[3] + BOX / 2, ROWS[0] + HEIGHT
    over, above = ROWS[1] - 40, ROWS[2] - 40
    marks = [_line((x, y), (x, above), (COLUMNS[0] + BOX / 2, above))]
    marks.append(_line((x, over), (COLUMNS[0] + BOX / 2, over)))
    marks.append(arrow(COLUMNS[0] + BOX / 2, over, COLUMNS[0] + BOX / 2, ROWS[1] - 22))
    marks += [arrow(at + BOX / 2, above, at + BOX / 2, ROWS[2] - 22) for at in COLUMNS[:3]]
    return marks


def _way_back() -> str:
    """Return the line from the journal back to the papers: feedback becomes labels."""
    x, y = COLUMNS[3] + BOX / 2, ROWS[2] + HEIGHT
    start = ROWS[0] + HEIGHT / 2
    back = _line((x, y), (x, y + 20), (MARGIN, y + 20), (MARGIN, start), css="ideal")
    note = "papers with corrected labels are data for the next model"
    return (
        back
        + arrow(MARGIN, start, COLUMNS[0] - 4, start)
        + words(WIDTH / 2, y + 38, note, "note", "middle")
    )


def _line(*points: tuple[float, float], css: str = "arrow") -> str:
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{css}" style="fill: none" d="M{steps}"/>'
