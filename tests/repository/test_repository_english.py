"""The English of help, errors, docs, docstrings and comments: no stilted phrase that was once here.

``python tests/repository/test_repository_english.py [ROOM]`` lists what is left, by file and line.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# Each phrase with what to write instead. A pattern leaves alone what a native writer would say:
# "there is no file", "is no longer", "told apart", "stands in for".
PHRASES = {
    "is no X": (
        r"(?<!there\s)(?<!this\s)\b(?:is|are|was|were) no "
        r"(?!(?:longer|more|less|fewer|later|better|worse|larger|smaller|different|one)\b)[a-z]+",
        "is not a X",
    ),
    "are none": (r"(?<!there\s)(?<!one\s)\b(?:is|are|was|were) (?-i:none)\b", "are not X"),
    "as long.": (r"\bas long[.,;:)]", "name the duration"),
    "told": (r"\btold\b(?! apart\b)", "said, given, named"),
    "tells what": (r"\btells? (?:what|how|why|where|which|the rest)\b", "says, describes"),
    "heed": (r"\b(?:un)?heed(?:s|ed|ing)?\b", "is respected, is honoured"),
    "whoever": (r"\bwho(?:so)?ever\b", "the process that, anyone who"),
    "stands in": (
        r"\b(?:stands?|stood|standing) (?:in\b(?! for\b)|(?:beside|below|after|before|there)\b)",
        "is in, is next to",
    ),
    "gone on": (r"\bgone on\b|\b(?:go|goes|going|went) on with\b", "resumed, continued"),
    "anew": (r"(?<!-)\banew\b", "again"),
    "belong into": (r"\bbelongs? into\b", "goes in"),
    "find out it": (r"\b(?:finds?|found) out it\b", "finds out that it"),
    "as it must be": (r"\bas (?:it|they) must be\b", "is invalid"),
    "that is there": (r"\bthat (?:is|are|was|were) (?:not )?there\b", "existing"),
    "bring nothing": (r"\bbr(?:ings?|ought) nothing\b", "fail"),
    "at most.": (r"\bat most(?=[.,;:)\]]|\s*$)", "maximum, up to, at most N"),
    "hears of": (r"\bhears? (?:of|nothing)\b", "is informed of"),
    "says of itself": (r"\bsays? of (?:itself|themselves)\b", "describes, reports"),
    "stranger": (r"\bstrangers?\b", "unknown"),
    "in vain": (r"\bin vain\b", "without success"),
    "place of a bad": (r"\bReturn the place of\b", "say what comes back"),
}
# A blank of a phrase may be the end of a line, with the mark of a comment after it.
_GAP = r"(?:[^\S\n]+|[^\S\n]*\n[^\S\n]*(?:(?:#|//|\*)[^\S\n]*)?)"
PATTERNS = {
    name: re.compile(pattern.replace(" ", _GAP), re.IGNORECASE)
    for name, (pattern, _) in PHRASES.items()
}

# Rooms that still hold such phrases, and how many: numbers only fall, and a room at 0 goes.
LEFT: dict[str, int] = {}

SOURCES = ("src/**/*", "benchmarks/**/*", "deploy/**/*", "docs/**/*", "reports/**/*", "*")
PLAIN = {".md", ".yaml", ".yml", ".html", ".css", ".js", ".c", ".h", ".service", ".toml", ".jsonl"}
# What was written on its day, and texts that are data.
PAST = re.compile(
    r"docs/decisions/|docs/log\.md|bundles/|benchmarks/(?:reports|holdout|gates)/"
    r"|\.jsonl$|dataset/sample/.*\.json$"
)
_GENERATED = re.compile(r"<!-- generated: .+? -->\n.*?<!-- end -->", re.DOTALL)


class Finding(NamedTuple):
    """One phrase in one place."""

    path: str
    line: int
    phrase: str
    text: str


def room_of(path: str) -> str:
    """Return the room of a file: a folder of the package, or a folder or page at the top."""
    parts = path.split("/")
    return parts[2].removesuffix(".py") if path.startswith("src/classmark/") else parts[0]


def phrases_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line (from 0), name and words of each stilted phrase, across line ends too."""
    for name, pattern in PATTERNS.items():
        for found in pattern.finditer(text):
            yield text.count("\n", 0, found.start()), name, found[0]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield first line and text of everything in a file that people read."""
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from _strings(source)
        yield 1, _comments(source)
    elif path.suffix == ".md":
        yield 1, _GENERATED.sub(lambda found: "\n" * found[0].count("\n"), source)
    else:
        yield 1, source


def _strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield string literals: those in a row as one, with a sign for what a format inserts."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(value) for value in node.values}
            values = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
            yield node.lineno, "".join(str(value) for value in values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, "" if id(node) in inside else node.value


def _comments(source: str) -> str:
    """Return the comments, each in its line; lines without one are empty."""
    return "\n".join(line.partition("# ")[2] for line in source.splitlines())


@cache
def findings() -> tuple[Finding, ...]:
    """Return every stilted phrase of the repository."""
    found = []
    for path in sorted({p for pattern in SOURCES for p in ROOT.glob(pattern) if p.is_file()}):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in {".py", *PLAIN} or PAST.search(name):
            continue
        for first, text in texts_of(path):
            found += [Finding(name, first + line, *rest) for line, *rest in phrases_in(text)]
    return tuple(dict.fromkeys(found))


def counts() -> Counter[str]:
    """Return how many phrases each room holds."""
    return Counter(room_of(finding.path) for finding in findings())


@pytest.mark.slow  # reads the whole source
def test_no_room_holds_more_stilted_phrases_than_it_is_known_for() -> None:
    over = {room for room, n in counts().items() if n > LEFT.get(room, 0)}
    shown = [
        f"{f.path}:{f.line}: {f.text!r}; write: {PHRASES[f.phrase][1]}"
        for f in findings()
        if room_of(f.path) in over
    ]
    assert not over, "\n".join(shown)


@pytest.mark.slow
def test_a_room_without_stilted_phrases_is_not_exempt() -> None:
    assert not sorted(LEFT.keys() - counts().keys())


@pytest.mark.parametrize(
    "text",
    [
        "x is no file that exists",
        "texts that are none",
        "It waits as long.",
        "what it was told",
        "[Papers](papers.md) tells what is read",
        "the variable is heeded",
        "whoever answered",
        "the reason stands in\nthe log",
        "it can be gone on with",
        "a fit that goes on with the run",
        "written anew",
        "belong into MLFLOW_TRACKING_USERNAME",
        "the content is not as it must be",
        "a folder that is not there",
        "Attempts in a row that bring nothing",
        "The number of attempts, at most.",
        "What the model says of itself",
        "Return the place of a bad record",
        "tells a stranger from a known feature",
    ],
)
def test_a_stilted_phrase_is_found(text: str) -> None:
    assert list(phrases_in(text))


@pytest.mark.parametrize(
    "text",
    [
        "there is no file",
        "If there are none, the set is empty.",
        "the file is no longer read",
        "two kinds that can be told apart",
        "a fake that stands in for the model",
        "0003-prune-then-fit-anew.md",
        "at most 4,000 papers",
        "as long as the disk lasts",
        "and so on with the next",
    ],
)
def test_plain_english_is_left_alone(text: str) -> None:
    assert not list(phrases_in(text))


def test_strings_in_a_row_comments_and_docstrings_are_read(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text(
        '"""What it was\n\ntold."""\n\n# a file that is\n# there\nx = f"{1} is " "no paper"\n'
    )
    found = [name for _, text in texts_of(source) for _, name, _ in phrases_in(text)]
    assert sorted(found) == ["is no X", "that is there", "told"]


if __name__ == "__main__":
    for one in findings():
        if not sys.argv[1:] or room_of(one.path) in sys.argv[1:]:
            sys.stdout.write(f"{one.path}:{one.line}: {one.text!r} ({one.phrase})\n")
    sys.stdout.write(f"{dict(sorted(counts().items()))}\n")
