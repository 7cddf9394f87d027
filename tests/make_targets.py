"""Runs targets of make as a workflow does, with the environment of these tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

needs_make = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / ".git").exists(),
    reason="needs make and a checkout of git",
)


def make(target: str, *words: str, root: Path = ROOT, **environment: str) -> Any:
    """Return the finished process of a target.

    Args:
        target: of the Makefile.
        *words: variables, as ``NAME=value``.
        root: checkout that it runs in.
        **environment: added to that of these tests.
    """
    venv = sys.prefix
    # The environment that runs these tests is ready, whatever the times of its files say.
    ready = [word for name in (".ready", ".ready-check") for word in ("-o", f"{venv}/{name}")]
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "MAKE", "COV_"))}
    return subprocess.run(
        [
            "make",
            "--silent",
            *ready,
            target,
            f"TEST_VENV={venv}",
            f"PYTHON={sys._base_executable}",  # which has pip; an environment of make has none
            *words,
        ],
        cwd=root,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def clone(folder: Path) -> Path:
    """Return a clone of HEAD, in which tests may change and commit."""
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    git(folder, "config", "user.name", "tester")
    git(folder, "config", "user.email", "tester@localhost")
    return folder


def git(root: Path, *words: str) -> str:
    """Return what a command of git prints."""
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
