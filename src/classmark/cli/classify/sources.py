"""The arguments of ``classmark classify``, and the records that they hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from classmark.cli.options import parse_source
from classmark.errors import UnreadableSource
from classmark.papers import KNOWN_SUFFIXES, read_papers
from classmark.records import BadRecord, Paper
from classmark.runtime.intake import read_items
from classmark.storage import is_remote

if TYPE_CHECKING:
    from classmark.cli.classify.command import CommandOptions

Report = Callable[[str], None]

STDIN = "-"
_STDIN_FILE = Path("/dev/stdin")
_MAX_SHOWN_CHARS = 60
_LONGEST_PATH_CHARS = 4096
_OTHER_SUFFIXES = (
    *(".rdf", ".html", ".htm", ".tex", ".md"),
    *(".pdf", ".ps", ".doc", ".docx", ".odt", ".rtf", ".epub", ".xls", ".ods"),
    *(".db", ".sqlite", ".feather", ".arrow", ".zst", ".7z", ".tar", ".tgz"),
)
"""Endings that a word has only as the name of a file, whether or not such files are read."""


@dataclass(frozen=True)
class Source:
    """One argument: a text to classify, a file of papers, or standard input."""

    kind: Literal["text", "file", "stdin"]
    value: str

    @classmethod
    def from_argument(cls, argument: str) -> Source:
        """Return the source that an argument names.

        Raises:
            UnreadableSource: it must be a file, but does not exist.
        """
        if argument == STDIN:
            return cls("stdin", "standard input")
        if not is_file_argument(argument):
            return cls("text", _as_text(argument))
        if not is_remote(argument) and not os.path.lexists(argument):
            raise UnreadableSource(
                f"no file {_as_text(argument)[:_MAX_SHOWN_CHARS]!r}. Check the path; if it is a "
                "text, end it with a full stop or pass it on standard input."
            )
        return cls("file", argument)

    @property
    def path(self) -> Path | None:
        """The file that is read, for standard input too; None for a text."""
        if self.kind == "stdin":
            return _STDIN_FILE
        return parse_source(self.value) if self.kind == "file" else None


def is_file_argument(argument: str) -> bool:
    """Tell whether an argument names a file: it is one, or looks like the name of one.

    A separator in a text with white space (``TCP/IP networks``) makes no file of it, unless there
    is one.
    """
    if "\n" in argument or len(argument) > _LONGEST_PATH_CHARS:
        return False
    if os.path.isfile(argument) or argument.lower().endswith(KNOWN_SUFFIXES):  # noqa: PTH113
        return True
    if any(character.isspace() for character in argument):
        return ("/" in argument or os.sep in argument) and os.path.lexists(argument)
    return "/" in argument or os.sep in argument or argument.lower().endswith(_OTHER_SUFFIXES)


def read_arguments(arguments: Sequence[str]) -> list[Source]:
    """Return a source for each argument; without any, standard input unless it is a terminal."""
    if not arguments and not sys.stdin.isatty():
        arguments = [STDIN]
    return [Source.from_argument(argument) for argument in arguments]


def read_records(
    sources: Sequence[Source], options: CommandOptions, report: Report, *, whole_labels: bool
) -> Iterator[Paper | BadRecord]:
    """Yield the records of all sources in order.

    Args:
        sources: what to read.
        options: how to read it.
        report: takes the line for people about each bad record.
        whole_labels: as for ``read_papers``.
    """
    for source in sources:
        name = "text" if source.kind == "text" else source.value
        for item in _items(source, options, whole_labels=whole_labels):
            (record,) = read_items(item, errors="return")
            if isinstance(record, BadRecord):
                report(record.line(name))
            yield record


def _items(
    source: Source, options: CommandOptions, *, whole_labels: bool
) -> Iterable[str | Paper | BadRecord]:
    if source.kind == "text":
        return [source.value]
    return read_papers(
        sys.stdin.buffer if source.kind == "stdin" else parse_source(source.value),
        format=options.format,
        columns=options.columns,
        whole_labels=whole_labels,
    )


def _as_text(argument: str) -> str:
    """Return an argument as UTF-8 where the locale has no such characters, as ``C`` has none."""
    if any("\udc80" <= character <= "\udcff" for character in argument):  # bytes as they came
        return os.fsencode(argument).decode("utf-8", "replace")
    return argument
