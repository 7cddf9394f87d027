"""What results look like: aligned lines, a table, JSON, JSON lines or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from classmark.cli.output import Write, csv_mark, printable, spelled, stdout_encoding
from classmark.records import BadRecord, Paper, csv_header, csv_lines
from classmark.wire import Answer, Ranked

if TYPE_CHECKING:
    from classmark.cli.classify.command import CommandOptions
    from classmark.cli.classify.sources import Source
    from classmark.runtime import Answers, Classifier

_BAR = "█"
ABSTAIN = "abstain"
BAR_WIDTH = 24
_MAX_CHARS_OF_ID = 40
_MAX_SHOWN_ARCHIVES = 3
_MIN_SHOWN = 0.005  # less would be printed as 0.00

_NO_SET = {
    None: "none",
    "out_of_scope": "none: out of scope",
    "few_known_terms": "none: too few words that the model knows",
}

Records = Sequence[Paper | BadRecord]
if TYPE_CHECKING:
    Results = Answers[Answer | BadRecord]
    """Of each record its answer, or what was wrong."""


def make_writer(
    write: Write,
    options: CommandOptions,
    classifier: Classifier,
    sources: Sequence[Source],
    output: Path | None,
) -> Writer:
    """Return the writer of a layout; for people a table of one text, else a line for each paper."""
    single = len(sources) == 1 and sources[0].kind == "text"
    if options.layout == "jsonl":
        return JsonLinesWriter(write)
    if options.layout == "json":
        return JsonWriter(write, single=single)
    if options.layout == "csv":
        mark = csv_mark(output, raw_cells=options.raw_cells)
        top = min(options.top, len(classifier.labels))
        return CsvWriter(write, top=top, raw_cells=options.raw_cells, mark=mark)
    own = dict(zip(classifier.labels, classifier.thresholds, strict=True))

    def threshold_of(code: str) -> float:
        return own[code] if options.threshold is None else options.threshold

    bar = _BAR if output else spelled(_BAR, stdout_encoding(for_people=True))
    table = TableWriter(write, threshold_of, classifier.set_coverage, bar)
    if single or options.explain:
        return table
    lines = LineWriter(write, threshold_of)
    return FirstDecides(table, lines) if sources[0].kind == "stdin" else lines


class Writer(Protocol):
    """Writes results in one format, batch by batch."""

    shows_errors: bool
    """Whether a bad record has its place in this format; else it is reported on stderr."""

    def write(self, records: Records, results: Results, /) -> None:
        """Write the results of a batch of records, in order."""
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

    def write(self, _: Records, results: Results, /) -> None:
        """Write a batch; columns never get narrower than in the batch before."""
        rows = [self._row(result) for result in results if isinstance(result, Answer)]
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

    def write(self, _: Records, results: Results, /) -> None:
        """Write the answers one below the other."""
        for result in results:
            if isinstance(result, Answer):
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
        if not {"authors", "neighbours"}.isdisjoint(answer.evidence):
            yield "based on", ", ".join(answer.evidence)
        if answer.text_alone is not None:
            yield "text alone", f"{answer.text_alone.code} {answer.text_alone.probability:.2f}"
        yield "model", f"{answer.model.name} {answer.model.version}"


class FirstDecides:
    """A table if the first that comes is one plain text, which has no id; else lines."""

    shows_errors = False

    def __init__(self, table: TableWriter, lines: LineWriter) -> None:
        self._table = table
        self._lines = lines
        self._chosen: Writer | None = None

    def write(self, records: Records, results: Results, /) -> None:
        """Write a batch."""
        if self._chosen is None:
            is_text = len(results) == 1 and results[0].id is None
            self._chosen = self._table if is_text else self._lines
        self._chosen.write(records, results)

    def close(self) -> None:
        """Nothing comes after the last answer."""


class JsonLinesWriter:
    """One JSON object a line, also for a record that cannot be read."""

    shows_errors = True

    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, _: Records, results: Results, /) -> None:
        """Write a batch."""
        self._write("".join([line.decode() + "\n" for line in results.json_objects()]))

    def close(self) -> None:
        """Nothing comes after the last line."""


class JsonWriter:
    """One JSON document: an array, or the object alone if there is to be just one."""

    shows_errors = True

    def __init__(self, write: Write, *, single: bool) -> None:
        self._write = write
        self._before, self._between, self._after = ("", "", "\n") if single else ("[", ",\n", "]\n")

    def write(self, _: Records, results: Results, /) -> None:
        """Write a batch."""
        for line in results.json_objects():
            self._write(self._before + line.decode())
            self._before = self._between

    def close(self) -> None:
        """Close the array; without any result it is empty."""
        opening = "[" if self._before == "[" else ""
        self._write(opening + self._after)


class CsvWriter:
    """A table with a row for each answer; see ``csv_header`` for its columns."""

    shows_errors = False

    def __init__(self, write: Write, *, top: int, raw_cells: bool, mark: str) -> None:
        self._write = write
        self._raw_cells = raw_cells
        self._write(mark + csv_header(top))

    def write(self, records: Records, results: Results, /) -> None:
        """Write a batch."""
        pairs = zip(records, results, strict=True)
        self._write(csv_lines(pairs, raw_cells=self._raw_cells))

    def close(self) -> None:
        """Nothing comes after the last row."""


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


def reason_text(answer: Answer, threshold_of: Callable[[str], float]) -> str:
    """Return, for people, why an answer has no primary category."""
    if answer.reason == "out_of_scope":
        return "out of scope: not like the papers that the model knows"
    code = answer.ranked[0].code
    return f"below threshold {threshold_of(code):.2f} for {code}"


def _explanation_lines(answer: Answer) -> Iterator[str]:
    first, second = (ranked.code for ranked in answer.ranked[:2])
    yield ""
    yield f"why {first} and not {second} (log-odds, {answer.explanation_method}):"
    for evidence in answer.explanation or ():
        yield f"  {evidence.weight:+7.2f}  {printable(evidence.term)}"
