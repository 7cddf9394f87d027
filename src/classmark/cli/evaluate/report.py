"""What the commands of ``classmark evaluate`` share: options, checks, and how a report is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from classmark.cli.evaluate.sources import DEFAULT_SPLIT
from classmark.cli.output import check_ending, open_sink, printable
from classmark.cli.places import ANYWHERE, AnyPlace

if TYPE_CHECKING:
    from classmark.evaluation import EvaluationConfig

Split = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Split of the dataset [default: {DEFAULT_SPLIT}]."),
]
Output = Annotated[
    AnyPlace | None,
    typer.Option(click_type=ANYWHERE, metavar="FILE", help="Write the report as JSON."),
]
Html = Annotated[
    AnyPlace | None,
    typer.Option(
        click_type=ANYWHERE, metavar="FILE", help="Write the report as an HTML page with figures."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON, not as a table.")]
Bootstrap = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Resamples for the intervals; 0 for none.")
]


class Report(Protocol):
    """A report of any kind."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        ...


def resampling(draws: int | None, seed: int | None) -> EvaluationConfig:
    """Return how intervals are measured; what is None has its default."""
    from classmark.evaluation import EvaluationConfig

    options = {"draws": draws, "seed": seed}
    return EvaluationConfig(**{key: n for key, n in options.items() if n is not None})


def resampling_words(config: EvaluationConfig) -> list[str]:
    """Return the words that say the same on a command line."""
    return ["--bootstrap", str(config.draws), "--seed", str(config.seed)]


def check_places(outputs: Sequence[Path | None], inputs: Sequence[Path | None]) -> None:
    """Refuse a file that cannot be written or would harm an input, before the work is done."""
    from classmark.storage import check_apart, check_file_place

    for file in filter(None, outputs):
        check_file_place(file)
    check_apart(outputs, inputs)


def check_endings(output: Path | None, html: Path | None) -> None:
    """Refuse a report or page whose name says that it is something else."""
    from classmark.cli.dataset.needs import need_packages

    check_ending("--output", output, (".json",))
    if html is not None:
        need_packages("writing HTML pages")
    check_ending("--html", html, (".html", ".htm"))


def keep(report: Report, output: Path | None, page: str, html: Path | None) -> None:
    """Write a report and its page to the files that are named, and say so."""
    from classmark.storage import write_json, write_text

    if output is not None:
        write_json(output, report.to_dict())
        typer.echo(f"report written to {output}", err=True)
    if html is not None:
        write_text(html, page)
        typer.echo(f"page written to {html}", err=True)


def print_report(report: Report, text_of: Callable[[Any], str], *, as_json: bool) -> None:
    """Print a report as JSON, or as the text that ``text_of`` makes of it."""
    if as_json:
        text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False)
    else:
        text = "\n".join(printable(line) for line in text_of(report).split("\n"))
    with open_sink(None) as write:
        write(text + "\n")
