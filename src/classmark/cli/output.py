"""Where results go and what they look like: aligned lines, a table, JSON, JSON lines, CSV."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, TypeGuard, cast

from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.records import BadRecord, Paper
    from classmark.wire import Answer, Ranked

ABSTAIN = "abstain"
BAR_WIDTH = 24
_STDOUT = Path("-")
_MAX_CHARS_OF_ID = 40
_MAX_SHOWN_ARCHIVES = 3
_MIN_SHOWN = 0.005  # less would be printed as 0.00

_NO_SET = {
    None: "none",
    "out_of_scope": "none: out of scope",
    "few_known_terms": "none: too few words that the model knows",
}

Write = Callable[[str], None]
Results = Sequence[tuple["Paper | BadRecord", "Answer | BadRecord"]]
"""Records in order, each with what came of it."""


Layout = Literal["human", "jsonl", "json", "csv", "parquet"]

_LAYOUTS: dict[str, Layout] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
"""By the ending of the output."""


class Writer(Protocol):
    """Writes results in one format, batch by batch."""

    shows_errors: bool
    """Whether a bad record has its place in this format; else it is reported on stderr."""

    def write(self, results: Results) -> None:
        """Write a batch of results, in order."""
        ...

    def close(self) -> None:
        """Write what comes after the last result."""
        ...


class LineWriter:
    """One aligned line for each answer: id, primary, probability, name or reason."""

    shows_errors = False

    def __init__(self, write: Write, threshold_of: Callable[[str], float]) -> None:
        self._write = write
        self._threshold_of = threshold_of
        self._widths = (0, len(ABSTAIN))

    def write(self, results: Results) -> None:
        """Write a batch; columns never get narrower than in the batch before."""
        rows = [self._row(result) for _, result in results if is_answer(result)]
        ids, primaries = self._widths
        self._widths = ids, primaries = (
            max([ids, *(len(row[0]) for row in rows)]),
            max([primaries, *(len(row[1]) for row in rows)]),
        )
        self._write("".join(f"{i:<{ids}}  {p:<{primaries}}  {rest}\n" for i, p, rest in rows))

    def close(self) -> None:
        """Nothing comes after the last line."""

    def _row(self, answer: Answer) -> tuple[str, str, str]:
        note = _name_beside(answer.ranked[0])
        if answer.primary is None:
            note = reason_text(answer, self._threshold_of)
        identifier = printable(answer.id or "-")[:_MAX_CHARS_OF_ID]
        return identifier, answer.primary or ABSTAIN, f"{answer.probability:.2f}  {note}".rstrip()


class TableWriter:
    """A few lines for one answer: categories with bars, and what else there is to say."""

    shows_errors = False

    def __init__(
        self, write: Write, threshold_of: Callable[[str], float], set_coverage: float, bar: str
    ) -> None:
        self._write = write
        self._threshold_of = threshold_of
        self._set_coverage = set_coverage
        self._bar = bar
        self._before = ""

    def write(self, results: Results) -> None:
        """Write the answers one below the other."""
        for _, result in results:
            if is_answer(result):
                self._write(self._before + "\n".join(self._lines(result)) + "\n")
                self._before = "\n"

    def close(self) -> None:
        """Nothing comes after the table."""

    def _lines(self, answer: Answer) -> Iterator[str]:
        if answer.id is not None:
            yield printable(answer.id)
        if answer.primary is None:
            yield f"{ABSTAIN}: {reason_text(answer, self._threshold_of)}"
        width = max(len(ranked.code) for ranked in answer.ranked)
        for ranked in answer.ranked:
            bar = f"{self._bar * round(ranked.probability * BAR_WIDTH):<{BAR_WIDTH}}"
            name = _name_beside(ranked)
            yield f"{ranked.code:<{width}}  {ranked.probability:.2f}  {bar}  {name}".rstrip()
        yield ""
        for label, value in self._facts(answer):
            yield f"{label:<11}  {value}"
        if answer.explanation is not None:
            yield from _explanation_lines(answer)

    def _facts(self, answer: Answer) -> Iterator[tuple[str, str]]:
        if answer.cross_lists:
            yield "cross-lists", _listed(answer.cross_lists)
        members = _NO_SET[answer.set_reason] if answer.set is None else _listed(answer.set)
        yield f"{self._set_coverage:.0%} set", members
        if answer.levels.archive:
            first, *others = answer.levels.archive[:_MAX_SHOWN_ARCHIVES]
            shown = [first, *(level for level in others if level.probability >= _MIN_SHOWN)]
            yield "archives", ", ".join(f"{level.code} {level.probability:.2f}" for level in shown)
        yield "model", f"{answer.model.name} {answer.model.version}"


class FirstDecides:
    """A table if the first that comes is one plain text, which has no id; else lines."""

    shows_errors = False

    def __init__(self, table: TableWriter, lines: LineWriter) -> None:
        self._table = table
        self._lines = lines
        self._chosen: Writer | None = None

    def write(self, results: Results) -> None:
        """Write a batch."""
        if self._chosen is None:
            is_text = len(results) == 1 and results[0][1].id is None
            self._chosen = self._table if is_text else self._lines
        self._chosen.write(results)

    def close(self) -> None:
        """Nothing comes after the last answer."""


class JsonLinesWriter:
    """One JSON object a line, also for a record that cannot be read."""

    shows_errors = True

    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, results: Results) -> None:
        """Write a batch."""
        from classmark.records import json_line

        self._write("".join(json_line(result) + "\n" for _, result in results))

    def close(self) -> None:
        """Nothing comes after the last line."""


class JsonWriter:
    """One JSON document: an array, or the object alone if there is to be just one."""

    shows_errors = True

    def __init__(self, write: Write, *, single: bool) -> None:
        self._write = write
        self._before, self._between, self._after = ("", "", "\n") if single else ("[", ",\n", "]\n")

    def write(self, results: Results) -> None:
        """Write a batch."""
        from classmark.records import json_line

        for _, result in results:
            self._write(self._before + json_line(result))
            self._before = self._between

    def close(self) -> None:
        """Close the array; without any result it is empty."""
        opening = "[" if self._before == "[" else ""
        self._write(opening + self._after)


class CsvWriter:
    """A table with a row for each answer; see ``csv_header`` for its columns."""

    shows_errors = False

    def __init__(self, write: Write, *, top: int, raw_cells: bool, mark: str) -> None:
        from classmark.records import csv_header

        self._write = write
        self._raw_cells = raw_cells
        self._write(mark + csv_header(top))

    def write(self, results: Results) -> None:
        """Write a batch."""
        from classmark.records import csv_lines

        answered = [(cast("Paper", paper), found) for paper, found in results if is_answer(found)]
        self._write(csv_lines(answered, raw_cells=self._raw_cells))

    def close(self) -> None:
        """Nothing comes after the last row."""


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


def choose_layout(output: Path | None, **wanted: bool) -> Layout:
    """Return the layout that an option names, else that of the output's ending.

    Raises:
        UsageError: two options, or option and ending, contradict each other; or what the ending
            stands for cannot be written.
    """
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise UsageError(f"--{' and --'.join(chosen)} exclude each other. Choose one.")
    ending = check_ending("--output", output, _LAYOUTS)
    named = _LAYOUTS.get(ending, "human")
    if chosen and ending and named != chosen[0]:
        raise UsageError(
            f"--{chosen[0]} is not the format of --output {output}, which ends in {ending}. "
            "Leave the option out, or rename the file."
        )
    return cast("Layout", chosen[0]) if chosen else named


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


def _text_file(number: int, mode: str) -> Any:
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


def _name_beside(ranked: Ranked) -> str:
    """Return the name to show beside a code: none of a label of one's own, which is both.

    It warns of a category that was never right on the test papers.
    """
    measured = ranked.reliability
    name = "" if ranked.name == ranked.code else ranked.name
    is_rare = measured is not None and measured.is_rarely_right
    return f"{name} (rarely right)".lstrip() if is_rare else name


def _listed(codes: Sequence[str]) -> str:
    """Return codes in a row; commas part no labels that hold commas."""
    return ("; " if any("," in code for code in codes) else ", ").join(codes)


def spelled(text: str, encoding: str) -> str:
    """Return a text as an encoding can spell it, else a sign that every one has."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "#"
    return text


def reason_text(answer: Answer, threshold_of: Callable[[str], float]) -> str:
    """Return why there is no primary, in words."""
    if answer.reason == "out_of_scope":
        return "out of scope: not like the papers that the model knows"
    code = answer.ranked[0].code
    return f"below threshold {threshold_of(code):.2f} for {code}"


def is_answer(result: Answer | BadRecord) -> TypeGuard[Answer]:
    """Tell an answer from a bad record without importing the records."""
    return hasattr(result, "ranked")


def _explanation_lines(answer: Answer) -> Iterator[str]:
    first, second = (ranked.code for ranked in answer.ranked[:2])
    yield ""
    yield f"why {first} and not {second} (log-odds, {answer.explanation_method}):"
    for evidence in answer.explanation or ():
        yield f"  {evidence.weight:+7.2f}  {printable(evidence.term)}"


def _writer_to(file: IO[bytes], encoding: str, *, flush: bool = True) -> Write:
    def write(text: str) -> None:
        file.write(text.encode(encoding, "replace"))
        if flush:
            file.flush()

    return write
