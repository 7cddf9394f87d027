"""Every number of a run as a line of ``metrics.csv`` in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from classmark.errors import TrackerDown
from classmark.storage import write_text
from classmark.tracking.tracker import RunInfo, Status

METRICS_FILE = "metrics.csv"
COLUMNS = ("name", "step", "epoch", "value")
_MAX_LINES = 100_000
_LINES_AT_ONCE = 200


class CsvTracker:
    """Appends to ``metrics.csv``: now and then where the run folder is, else when the run ends.

    A folder that is made whole at the end of a fit takes its lines then; a fit that fails leaves
    no folder, and no lines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = io.StringIO(newline="")
        self._n_lines = 0

    @property
    def name(self) -> str:
        """Return the file."""
        return str(self._folder / METRICS_FILE)

    def start(self, run: RunInfo) -> None:
        """Nothing: the run folder has ``config.yaml`` and ``provenance.json``."""

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        """Keep a line a number."""
        if self._n_lines >= _MAX_LINES:
            raise TrackerDown(f"{self._n_lines:,} lines wait for the folder of the run.")
        writer = csv.writer(self._lines, lineterminator="\n")
        shown_epoch = "" if epoch is None else epoch
        # repr of a float is read back as the same float.
        writer.writerows((name, step, shown_epoch, repr(float(v))) for name, v in values.items())
        self._n_lines += len(values)
        if self._n_lines >= _LINES_AT_ONCE:
            self._write()

    def artifact(self, path: Path, folder: str = "") -> None:
        """Nothing: the file is in the run folder already."""

    def figure(self, name: str, svg_or_png: Path) -> None:
        """Nothing: the picture is in the run folder already."""

    def finish(self, status: Status) -> None:  # noqa: ARG002 - the protocol's
        """Write the lines that wait."""
        self._write()

    def _write(self) -> None:
        if not self._n_lines or not self._folder.is_dir():
            return
        with (self._folder / METRICS_FILE).open("a", encoding="utf-8", newline="") as file:
            if not file.tell():
                file.write(",".join(COLUMNS) + "\n")
            file.write(self._lines.getvalue())
        self._lines, self._n_lines = io.StringIO(newline=""), 0


def drop_later_steps(folder: Path, step: int, measured: int) -> None:
    """Take out of ``metrics.csv`` what a fit that goes on will write again.

    Args:
        folder: of the run.
        step: lines of later steps go.
        measured: ``valid/...`` lines of later epochs go.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS) and row[1].isdigit()]
    kept = io.StringIO(newline="")
    writer = csv.writer(kept, lineterminator="\n")
    writer.writerows([COLUMNS, *(row for row in rows if _is_before(row, step, measured))])
    write_text(path, kept.getvalue())


def _is_before(row: list[str], step: int, measured: int) -> bool:
    name, at, epoch, _ = row
    is_measure = name.startswith("valid/") and epoch.isdigit()
    return int(at) <= step and not (is_measure and int(epoch) > measured)
