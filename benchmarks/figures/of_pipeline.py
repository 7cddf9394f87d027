"""The pipeline: what the rooms make of each other's files, and who reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marks import WIDTH, arrow, box, document, lines, words

LABEL = (
    "The pipeline: papers become a dataset, a run and a bundle; the bundle is evaluated and "
    "served, and predictions are kept in a journal; drift alarms and retraining are planned"
)
SOURCE = Path(__file__).parents[2] / "src" / "classmark"
WIDE, TALL, GAP = 147.0, 74.0, 44.0
TOPS = (34.0, 156.0, 278.0, 400.0)
HEIGHT = 488


@dataclass(frozen=True)
class Part:
    """One box.

    Attributes:
        column: from 0.
        row: from 0.
        name: what it is.
        notes: two lines below the name.
        room: that makes it; the box is dashed while this folder does not exist.
    """

    column: int
    row: int
    name: str
    notes: tuple[str, str]
    room: str

    @property
    def x(self) -> float:
        """Left edge."""
        return 1 + self.column * (WIDE + GAP)

    @property
    def y(self) -> float:
        """Upper edge."""
        return TOPS[self.row]

    def marks(self) -> list[str]:
        """Return the box and its words."""
        css = "card" if (SOURCE / self.room).is_dir() else "planned"
        if self.row == 1:
            css = "result"
        return [
            box(self.x, self.y, WIDE, TALL, css),
            words(self.x + 10, self.y + 22, self.name, "head"),
            *lines(self.x + 10, self.y + 42, self.notes, "tick", 16),
        ]


STATISTICS = Part(1, 0, "Statistics", ("counts, duplicates,", "what has changed"), "pages")
TRACKED = Part(2, 0, "Tracked runs", ("metrics.csv, MLflow,", "configuration"), "tracking")
REPORT = Part(
    3, 0, "Evaluation report", ("metrics, calibration,", "robustness, gates"), "evaluation"
)
PAPERS = Part(0, 1, "Papers", ("files of any format,", "arXiv's dump"), "papers")
DATASET = Part(1, 1, "Dataset", ("Parquet, manifest,", "digest of the rows"), "dataset")
RUN = Part(2, 1, "Run", ("weights, scores,", "provenance"), "training")
BUNDLE = Part(3, 1, "Bundle", ("arrays or ONNX, card,", "digest, thresholds"), "bundle")
RETRAIN = Part(0, 2, "Retraining", ("an order with", "its reason"), "retrain")
MONITOR = Part(1, 2, "Drift", ("detectors,", "alarms"), "monitor")
JOURNAL = Part(2, 2, "Journal", ("predictions, feedback", "in SQLite"), "journal")
SERVICE = Part(3, 2, "Service", ("workers, limits, keys,", "metrics, logs"), "service")
BULK = Part(2, 3, "Bulk files", ("millions of papers,", "resumable"), "bulk")
USERS = Part(3, 3, "Answers", ("page, HTTP, client,", "command line, Python"), "wire")
PARTS = (
    STATISTICS, TRACKED, REPORT, PAPERS, DATASET, RUN, BUNDLE, RETRAIN, MONITOR, JOURNAL, SERVICE,
    BULK, USERS,
)  # fmt: skip
# From, to, the command that does it.
STEPS = (
    (PAPERS, DATASET, "build"),
    (DATASET, RUN, "train"),
    (RUN, BUNDLE, "export"),
    (DATASET, STATISTICS, "dataset stats"),
    (RUN, TRACKED, "runs"),
    (BUNDLE, REPORT, "evaluate"),
    (BUNDLE, SERVICE, "serve"),
    (SERVICE, JOURNAL, ""),
    (JOURNAL, MONITOR, ""),
    (MONITOR, RETRAIN, ""),
    (RETRAIN, PAPERS, ""),
    (SERVICE, USERS, ""),
    (BULK, USERS, ""),
)


def draw() -> str:
    """Return the figure."""
    marks = [mark for part in PARTS for mark in part.marks()]
    for start, end, command in STEPS:
        marks += step(start, end, command)
    marks.append(words(1, 14, "dashed: planned, not built yet", "note"))
    return document(LABEL, HEIGHT, marks, WIDTH + 2)


def step(start: Part, end: Part, command: str) -> list[str]:
    """Return the arrow between two parts, with the command beside it."""
    if start.row == end.row:
        forwards = end.column > start.column
        x1, x2 = (start.x + WIDE, end.x) if forwards else (start.x, end.x + WIDE)
        y = start.y + TALL / 2
        shift = 4.0 if forwards else -4.0
        return [
            arrow(x1 + shift, y, x2 - shift, y),
            words((x1 + x2) / 2, y - 8, command, "note", "middle"),
        ]
    down = end.row > start.row
    y1, y2 = (start.y + TALL + 4, end.y - 4) if down else (start.y - 4, end.y + TALL + 4)
    x = start.x + WIDE / 2
    return [arrow(x, y1, x, y2), words(x + 8, (y1 + y2) / 2 + 4, command, "note")]
