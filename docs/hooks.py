"""What MkDocs cannot say in YAML: notes found in their folder, and help that is never stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from classmark.cli.app import VERBS, app, load_verb

CLI_PAGE = "reference/cli.md"
_MARK = "<!-- help of every verb -->"
_WIDTH = {"COLUMNS": "92", "TERMINAL_WIDTH": "92", "NO_COLOR": "1"}


def on_config(config: Any) -> Any:
    """Append ``decisions/*.md`` and ``log.md``, as far as they exist, to the navigation."""
    docs = Path(config["docs_dir"])
    files = sorted((docs / "decisions").glob("*.md"))
    notes = [{_title(file): f"decisions/{file.name}"} for file in files]
    if notes:
        config["nav"].append({"Decisions": notes})
    if (docs / "log.md").is_file():
        config["nav"].append({"Log": "log.md"})
    return config


def _title(note: Path) -> str:
    """Return the title of a design note without its status and date, which follow wide space."""
    first, *_ = note.read_text(encoding="utf-8").splitlines()
    return first.removeprefix("# ").partition("  ")[0]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the help of every verb, as the program prints it, in place of the mark."""
    if page.file.src_uri != CLI_PAGE:
        return markdown
    return markdown.replace(_MARK, "\n".join(_help_sections()))


def _help_sections() -> list[str]:
    commands: list[list[str]] = [[]]
    for verb in VERBS:
        commands.append([verb])
        commands += [[verb, name] for name in getattr(load_verb(verb), "commands", ())]
    return [_help_section(words) for words in commands]


def _help_section(words: list[str]) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="classmark", env=_WIDTH)
    if result.exit_code:
        raise RuntimeError(f"`classmark {' '.join(words)} --help` failed: {result.output}")
    title = " ".join(["classmark", *words])
    return f"## {title}\n\n```text\n{result.output.strip()}\n```\n"
