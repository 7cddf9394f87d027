"""Completion in a real shell, with the script that ``--show-completion`` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed"),
]
BIN = Path(sys.executable).parent


def bash(script: str, home: Path) -> str:
    """Return what a script prints in a shell of a user with this home folder."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "PATH": path, "SHELL": shutil.which("bash")}
    environment["CLASSMARK_HOME"] = str(home / "models-home")
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True,
        env={name: value for name, value in environment.items() if value},
    )  # fmt: skip
    return done.stdout


def completed(line: str, home: Path) -> list[str]:
    """Return what the shell offers for the last word of a line."""
    words = line.split(" ")
    script = (
        'eval "$(classmark --show-completion bash)"\n'
        f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}')\nCOMP_CWORD={len(words) - 1}\n"
        '_classmark_completion classmark\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return bash(script, home).split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("classmark cl", ["classify", "cloud"]),
        ("classmark dataset b", ["build"]),
        ("classmark classify --mod", ["--model"]),
        ("classmark classify --model f", ["fast@"]),
        ("classmark models show f", ["fast@"]),
    ],
)
def test_verbs_commands_options_and_models_are_completed(
    tmp_path: Path, line: str, offered: list[str]
) -> None:
    found = completed(line, tmp_path)
    assert len(found) == len(offered)
    assert all(one.startswith(start) for one, start in zip(found, offered, strict=True))


def test_an_installed_model_is_offered_too(
    tmp_path: Path, manifest: Callable[..., object], make_bundle: Callable[..., Path]
) -> None:
    shutil.copytree(make_bundle("shelves", "2.0").parent, tmp_path / "models-home" / "models")
    assert completed("classmark serve --model sh", tmp_path) == ["shelves@2.0"]


def test_it_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    bash(
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 classmark --install-completion bash",
        tmp_path,
    )
    script = (tmp_path / ".bash_completions" / "classmark.sh").read_text("utf-8")
    assert "complete -o default" in script
    assert str(tmp_path / ".bash_completions/classmark.sh") in (tmp_path / ".bashrc").read_text()
