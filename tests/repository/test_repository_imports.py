"""Importing a module changes nothing: no file, logger, filter, variable, handler or thread."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import classmark

# Prints the libraries that some modules import: what these do on import is not classmark's doing.
LIBRARIES = """
import importlib, json, sys

[package, names] = json.load(sys.stdin)
for name in names:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
print(json.dumps([name for name in sys.modules if name.partition(".")[0] != package]))
"""
# Imports those libraries, then each module, and prints what changed with the module.
CHANGES = """
import importlib, json, logging, os, signal, sys, threading, warnings
from pathlib import Path

def state():
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        "environment": dict(os.environ),
        "filters": repr(warnings.filters),
        "folder": os.getcwd(),
        "files": sorted(str(path) for path in Path.home().rglob("*")),
        "handlers": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
        "logging": [
            (one.name, one.level, len(one.handlers), one.disabled)
            for one in loggers
            if isinstance(one, logging.Logger) and (one.level or one.handlers or one.disabled)
        ],
        "streams": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }

package, names, libraries = json.load(sys.stdin)
for name in libraries:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
changes, before = {}, state()
for name in names:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    after = state()
    changed = sorted(key for key in before if before[key] != after[key])
    if changed:
        changes[name] = changed
    before = after
print(json.dumps(changes))
"""


def changes_of(folder: Path, package: str, names: list[str]) -> Any:
    libraries = run(LIBRARIES, folder / "first", package, names)
    return run(CHANGES, folder / "second", package, names, libraries)


def run(code: str, home: Path, *values: object) -> Any:
    """Return what the code prints as JSON; it finds the values, also long ones, on stdin."""
    home.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(values),
        cwd=home,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(home.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_importing_any_module_changes_nothing(tmp_path: Path) -> None:
    found = pkgutil.walk_packages(classmark.__path__, "classmark.", onerror=lambda _: None)
    names = sorted({module.name for module in found})
    assert len(names) > 150
    assert changes_of(tmp_path, "classmark", names) == {}


LOUD = {
    "environment": "import os; os.environ['LOUD'] = '1'",
    "files": "from pathlib import Path; Path('made').mkdir()",
    "filters": "import warnings; warnings.simplefilter('ignore')",
    "handlers": "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "logging": "import logging; logging.basicConfig()",
    "streams": "import io, sys; sys.stdin = io.StringIO()",
    "threads": "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
}


def test_each_kind_of_change_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "loud").mkdir()
    for kind, code in {**LOUD, "quiet": "", "__init__": ""}.items():
        (tmp_path / "loud" / f"{kind}.py").write_text(code, encoding="utf-8")
    found = changes_of(tmp_path, "loud", [f"loud.{kind}" for kind in (*LOUD, "quiet")])
    assert found == {f"loud.{kind}": [kind] for kind in LOUD}
