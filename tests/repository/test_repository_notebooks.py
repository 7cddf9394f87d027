"""The notebooks: every cell runs, prints what the page shows, and the page is part of the site."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "notebooks_run.py"
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def runner() -> Any:
    sys.path.append(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("notebooks_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(source: str, shown: str) -> Any:
    cell = nbformat.v4.new_code_cell(source, id="one")
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=shown)]
    return nbformat.v4.new_notebook(cells=[cell])


def test_there_are_two_notebooks_with_figures_and_all_their_outputs() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["explore-a-dataset", "look-inside-a-model"]
    for path in NOTEBOOKS:
        text = path.read_text("utf-8")
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        assert "image/svg+xml" in text
        assert not [cell["source"] for cell in cells if not cell["outputs"]]


def test_every_notebook_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert not [path for path in NOTEBOOKS if f"notebooks/{path.stem}.md" not in navigation]


@pytest.mark.slow  # starts a kernel
def test_a_cell_that_prints_something_else_is_found(runner: Any, tmp_path: Path) -> None:
    shown = notebook("print('one')", "two\n")
    (found,) = runner.differences(shown, runner.execute(shown, tmp_path))
    assert found == "cell 1:\nprint('one')\nshows:\ntwo\n\nprints:\none\n"


@pytest.mark.slow  # starts a kernel for each notebook
def test_every_cell_prints_what_the_page_shows() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 notebooks show what they print\n"
