"""Where output goes: standard streams and files, and text that is safe to show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Literal

from classmark.errors import UsageError

_STDOUT = Path("-")
Write = Callable[[str], None]


@contextmanager
def open_sink(
    path: Path | None, *, encoding: str = "utf-8", private: bool = False
) -> Iterator[Write]:
    """Yield a function that writes text: to stdout at once, to a file as a whole at the end.

    Args:
        path: the file; None means stdout.
        encoding: of stdout; what it cannot spell becomes a question mark.
        private: only its owner may read the file.

    Raises:
        StorageFailed: the file cannot be written; an older one of that name is then unharmed.
    """
    if path is None:
        yield _writer_to(sys.stdout.buffer, encoding)
    else:
        from classmark.storage import atomic_file

        with atomic_file(path, private=private) as file:
            yield _writer_to(file, "utf-8", flush=False)


def file_or_stdout(output: Path | None) -> Path | None:
    """Return the file of ``--output``; None, which is stdout, for ``-`` too."""
    return None if output == _STDOUT else output


def csv_mark(output: Path | None, *, raw_cells: bool) -> str:
    """Return what CSV begins with: a mark in a file for people, nothing for programs and pipes."""
    from classmark.records import CSV_MARK
    from classmark.storage import is_stream

    is_for_people = output is not None and not raw_cells and not is_stream(output)
    return CSV_MARK if is_for_people else ""


def check_ending(option: str, path: Path | None, endings: Iterable[str]) -> str:
    """Return the ending of a file's name in lower case; "" if it has none or is a device or pipe.

    Raises:
        UsageError: it ends in what is not written there.
    """
    from classmark.storage import is_stream

    ending = "" if path is None or is_stream(path) else path.suffix.lower()
    if ending and ending not in endings:
        *others, last = endings
        choice = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(
            f"{option} {path}: {ending} cannot be written. Use {choice}, or a name without ending."
        )
    return ending


def print_error(line: str) -> None:
    """Write one line to stderr; characters that steer a terminal are shown, not obeyed."""
    encoding = sys.stderr.encoding or "utf-8"
    text = printable(line).encode(encoding, "replace").decode(encoding)
    with suppress(OSError):  # nobody reads it
        sys.stderr.write(text + "\n")


def open_standard_streams() -> None:
    """Open each of stdin, stdout and stderr that is closed, so that no other file gets its number.

    A socket or a database that is opened as file 2 would have error messages written into it. What
    replaces stdout cannot be written to: results that nobody gets are an error.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest number that is free
    sys.stdin = sys.stdin or _text_file(0, "r")
    sys.stdout = sys.stdout or _text_file(1, "w")
    sys.stderr = sys.stderr or _text_file(2, "w")


def _text_file(number: int, mode: Literal["r", "w"]) -> TextIOWrapper:
    return open(number, mode, encoding="utf-8", errors="replace", closefd=False)


def silence_stdout() -> None:
    """Let what could not be written go nowhere, also in the interpreter's last flush."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def printable(text: str) -> str:
    """Return text on one line that cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text)


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return rows as text, each column as wide as its widest cell."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def stdout_encoding(*, for_people: bool) -> str:
    """Return the terminal's own encoding for what people read, UTF-8 for what programs read."""
    return (sys.stdout.encoding or "utf-8") if for_people else "utf-8"


def spelled(text: str, encoding: str) -> str:
    """Return a text as an encoding can spell it, else a sign that every one has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "#"
    return text


def _writer_to(file: IO[bytes], encoding: str, *, flush: bool = True) -> Write:
    def write(text: str) -> None:
        file.write(text.encode(encoding, "replace"))
        if flush:
            file.flush()

    return write
