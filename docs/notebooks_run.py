"""Runs the notebooks as a reader would, and compares what they print with what they show.

python docs/notebooks_run.py            every cell, in an empty folder; fails on a difference
python docs/notebooks_run.py --write    the same, and keeps what was printed and drawn

Printed lines are compared as those of the tutorial are; of a figure only the kind is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tutorial_run import is_as_shown

FOLDER = Path(__file__).parent / "notebooks"
_TIMEOUT_S = 240


def execute(notebook: Any, folder: Path) -> Any:
    """Return a notebook with the outputs of its cells, run in order in that folder.

    Raises:
        CellExecutionError: a cell failed; says which, and how.
    """
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(copy, timeout=_TIMEOUT_S, resources=resources).execute()
    copy.metadata = notebook.metadata  # without the version of Python
    for cell in copy.cells:
        cell.metadata.clear()  # when it ran
    return copy


def outputs_of(cell: Any) -> tuple[str, list[str]]:
    """Return what a cell prints, and the kinds of its figures."""
    printed, figures = "", []
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream":
            printed += output["text"]
        else:
            figures.append(next(iter(sorted(output["data"]))))
    return printed, figures


def differences(shown: Any, run: Any) -> Iterator[str]:
    """Yield each cell whose outputs are not what the notebook shows."""
    for number, (before, after) in enumerate(zip(shown.cells, run.cells, strict=True), 1):
        (printed, figures), (now, drawn) = outputs_of(before), outputs_of(after)
        if figures != drawn or not is_as_shown(printed, now):
            yield f"cell {number}:\n{after.source}\nshows:\n{printed}\nprints:\n{now}"


def main() -> None:
    """Run every notebook, and compare or rewrite it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the outputs")
    write = parser.parse_args().write
    wrong = []
    for path in sorted(FOLDER.glob("*.ipynb")):
        shown = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = execute(shown, Path(folder))
            except CellExecutionError as error:
                sys.exit(f"{path.name} failed:\n{error}")
        if write:
            nbformat.write(run, path)
        else:
            wrong += [f"{path.name}, {text}" for text in differences(shown, run)]
    if wrong:
        sys.exit("\n".join([*wrong, "Run python docs/notebooks_run.py --write and read the page."]))
    sys.stdout.write(f"{len(list(FOLDER.glob('*.ipynb')))} notebooks show what they print\n")


if __name__ == "__main__":
    main()
