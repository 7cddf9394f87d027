"""Every number of a run as a line of ``metrics.csv`` in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
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

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Nothing: the model is in the run folder already."""

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
    """Remove from ``metrics.csv`` what a resumed fit will write again.

    Args:
        folder: of the run.
        step: lines of later steps are removed.
        measured: ``valid/...`` lines of later epochs are removed.
    """
    path = folder / METRICS_FILE
    if path.is_file():
        write_text(path, kept_rows(path, COLUMNS, step, measured))


def kept_rows(path: Path, columns: Sequence[str], step: int, measured: int) -> str:
    """Return a CSV file without the rows of later steps and of later measures on valid.

    Args:
        path: of the file; if there is none, the header alone is returned.
        columns: its header, the name or stage of a number first; ``step`` and ``epoch`` are in it.
        step: the last step to keep.
        measured: the last epoch whose ``valid`` rows are kept.
    """
    kept = io.StringIO(newline="")
    writer = csv.writer(kept, lineterminator="\n")
    writer.writerow(columns)
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                dict(zip(columns, r, strict=True))
                for r in csv.reader(file)
                if len(r) == len(columns)
            ]
        for row in rows:
            # A line that was cut off when the process ended is shorter, or has no step.
            is_before = row["step"].isdigit() and int(row["step"]) <= step
            is_measure = row[columns[0]].partition("/")[0] == "valid" and row["epoch"].isdigit()
            if is_before and not (is_measure and int(row["epoch"]) > measured):
                writer.writerow(row.values())
    return kept.getvalue()
