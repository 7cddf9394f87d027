"""``classmark evaluate compare``: how two models differ on the same papers."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.output import open_sink, printable
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.cli.evaluate.command import ModelScores, StoredScores
    from classmark.records import ComparisonReport, ScoreTable


@dataclass(frozen=True)
class Pair:
    """Two score tables, or two models on one split of a dataset."""

    a: str
    b: str
    dataset: Path | None
    split: str | None

    def words(self) -> list[str]:
        """Return the words that name them on a command line."""
        words = ["classmark", "evaluate", "compare", self.a, self.b]
        if self.dataset is None:
            return words
        return [*words, "--dataset", str(self.dataset), "--split", self.split_name]

    @property
    def split_name(self) -> str:
        """The split that is scored."""
        from classmark.cli.evaluate.command import DEFAULT_SPLIT

        return self.split or DEFAULT_SPLIT

    def read(self) -> tuple[ScoreTable, ScoreTable]:
        """Return both tables; models score the dataset first."""
        return self._source(self.a).read(), self._source(self.b).read()

    def inputs(self) -> list[Path | None]:
        """Return what is read."""
        return [*self._source(self.a).inputs(), *self._source(self.b).inputs()]

    def _source(self, name: str) -> StoredScores | ModelScores:
        from classmark.cli.evaluate.command import ModelScores, StoredScores

        if self.dataset is None:
            return StoredScores(Path(name))
        return ModelScores(model=name, dataset=self.dataset, split=self.split_name, keep_at=None)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Score table; a model with --dataset.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one; differences are B - A.")],
    *,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Score this dataset with models A and B.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split of the dataset [default: test].")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare the papers and labels that both have.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as JSON.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the comparison as an HTML page with figures."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as JSON, not as a table.")
    ] = False,
    bootstrap: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Resamples for the intervals; 0 for none."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of the resampling.")
    ] = None,
) -> None:
    """Compare two models on the same papers.

    Every metric and category, with paired intervals; who is right where the other is not.

    A and B are score tables that `evaluate --write-scores` wrote, or models with --dataset.
    """
    from classmark.cli.evaluate.command import check_endings, check_places

    if split is not None and dataset is None:
        raise UsageError("--split names a split of a dataset; give --dataset DIR with it.")
    pair = Pair(a, b, dataset, split)
    check_places((output, html), pair.inputs())
    check_endings(output, html)
    report = _measure(pair, common, {"draws": bootstrap, "seed": seed})
    _keep(report, output, html)
    with open_sink(None) as write:
        write((_as_json(report) if as_json else _as_text(report)) + "\n")


def _measure(pair: Pair, common: bool, options: dict[str, int | None]) -> ComparisonReport:
    from classmark.cli.progress import progress_bar
    from classmark.evaluation import EvaluationConfig, compare_tables

    config = EvaluationConfig(**{key: n for key, n in options.items() if n is not None})
    words = [*pair.words(), *(["--common"] if common else [])]
    words += ["--bootstrap", str(config.draws), "--seed", str(config.seed)]
    first, second = pair.read()
    with progress_bar("comparing") as progress:
        progress.advance(len(first))
        return compare_tables(
            first, second, config=config, common=common, command=shlex.join(words)
        )


def _keep(report: ComparisonReport, output: Path | None, html: Path | None) -> None:
    from classmark.pages import comparison_page
    from classmark.storage import write_json, write_text

    if output is not None:
        write_json(output, report.to_dict())
        typer.echo(f"comparison written to {output}", err=True)
    if html is not None:
        write_text(html, comparison_page(report))
        typer.echo(f"page written to {html}", err=True)


def _as_json(report: ComparisonReport) -> str:
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False)


def _as_text(report: ComparisonReport) -> str:
    from classmark.pages import comparison_text

    return "\n".join(printable(line) for line in comparison_text(report).split("\n"))
