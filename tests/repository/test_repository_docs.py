"""The commands in the documentation: verbs and options that the program has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from classmark.cli.app import VERBS, load_verb

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "MODELS.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "reports" / "README.md",
]
_BLOCK = re.compile(r"^```(?:console|sh|bash|text)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|\|)\s*(?:\$ )?classmark +(?=[a-z-])(.+)$", re.MULTILINE)


def commands_in(text: str) -> list[list[str]]:
    """Return the words after ``classmark`` of each command line in the code blocks of a page."""
    blocks = [block.replace("\\\n", " ") for block in _BLOCK.findall(text)]
    lines = [line for block in blocks for line in _COMMAND.findall(block)]
    return [shlex.split(line.split("  #")[0]) for line in lines]


def check(words: list[str]) -> None:
    """Check that verb, sub-command and every option of a command line exist."""
    if words[0].startswith("-"):
        assert words[0] in ("--version", "--help", "--install-completion", "--show-completion")
        return
    assert words[0] in VERBS, f"no verb {words[0]!r}"
    command: Any = load_verb(words[0])
    if hasattr(command, "commands"):
        second = (*words, "--help")[1]
        if second in command.commands:
            command = command.commands[second]
            if hasattr(command, "commands"):  # a group in a group: registry keys
                command = command.commands[words[2]]
        elif default := getattr(command, "default_command", ""):
            command = command.commands[default]
        else:  # a group may be a command itself: classmark evaluate --scores FILE
            assert command.invoke_without_command, f"no command {' '.join(words[:2])!r}"
            assert second.startswith("-"), f"no command {' '.join(words[:2])!r}"
    if "--" in words:  # what follows is of the command that `profile` runs
        at = words.index("--")
        check([words[1], *words[at + 1 :]])
        words = words[:at]
    known = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)} | {"--help"}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known, f"{' '.join(words)}: no option {sorted(used - known)}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.exists()], ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_command_of_a_page_exists(page: Any) -> None:
    for words in commands_in(page.read_text("utf-8")):
        check(words)


def test_a_wrong_command_would_be_found() -> None:
    page = "```\nclassmark classify x \\\n  --nonsense\n```\n"
    with pytest.raises(AssertionError, match=r"no option \['--nonsense'\]"):
        check(commands_in(page)[0])


def test_commands_behind_a_pipe_and_a_prompt_are_read() -> None:
    page = "```console\n$ printf x | classmark classify -\n$ classmark models list\n```\n"
    assert commands_in(page) == [["classify", "-"], ["models", "list"]]
