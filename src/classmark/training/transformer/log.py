"""``log.csv`` of a run: a line a step and a line a measure, kept across interruptions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from classmark.storage import write_text

COLUMNS = (
    *("stage", "epoch", "step", "loss", "lr", "head_lr", "gradient_norm", "layers"),
    *("top_1", "top_5", "macro_f1", "ece"),
)


class FitLog:
    """Appends to a log; what a broken-off run wrote after its checkpoint is taken out first."""

    def __init__(self, path: Path, step: int = 0, measured: int = 0) -> None:
        """Open a log.

        Args:
            path: of the file; it may be there.
            step: lines of later steps are dropped.
            measured: ``valid`` lines of later epochs are dropped.
        """
        write_text(path, "".join(_kept_lines(path, step, measured)))
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")

    def write(self, stage: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Add a line; numbers as they are read back the same."""
        numbers: dict[str, Any] = {name: repr(value) for name, value in values.items()}
        self._writer.writerow({"stage": stage, "epoch": epoch, "step": step, **numbers})

    def flush(self) -> None:
        """Write the lines that wait."""
        self._file.flush()

    def __enter__(self) -> FitLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()


def _kept_lines(path: Path, step: int, measured: int) -> list[str]:
    lines = [",".join(COLUMNS) + "\n"]
    if not path.is_file():
        return lines
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            # A line that was cut off by the end of the process is shorter than it should be.
            if len(row) != len(COLUMNS) or not row[2].isdigit():
                continue
            is_late = row[0] == "valid" and int(row[1]) > measured
            if int(row[2]) <= step and not is_late:
                lines.append(",".join(row) + "\n")
    return lines
