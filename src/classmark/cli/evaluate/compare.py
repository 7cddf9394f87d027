"""``classmark evaluate compare``: how two models differ on the same papers."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.evaluate.report import (
    AsJson,
    Bootstrap,
    Html,
    Output,
    Split,
    check_endings,
    check_places,
    keep,
    print_report,
    resampling,
    resampling_words,
)
from classmark.cli.evaluate.sources import (
    DEFAULT_SPLIT,
    ModelScores,
    StoredScores,
    model_folder,
)
from classmark.cli.options import parse_source
from classmark.cli.places import COPY, address_of
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.evaluation import EvaluationConfig
    from classmark.records import ComparisonReport, ScoreTable


@dataclass(frozen=True)
class Pair:
    """Two score tables, or two models on one split of a dataset."""

    a: str
    b: str
    dataset: Path | None
    split: str | None

    def check(self) -> None:
        """Check that no model is given where a score table is read.

        Raises:
            UsageError: names the model, and the option that it needs.
        """
        from classmark.storage import is_remote

        if self.dataset is not None:
            return
        for name in (self.a, self.b):
            file = parse_source(name)
            if not is_remote(file) and not file.is_file() and model_folder(name):
                raise UsageError(
                    f"{name} is a model, not a score table. Give --dataset DIR, which both models "
                    "score."
                )

    def words(self) -> list[str]:
        """Return the words that name them on a command line."""
        words = ["classmark", "evaluate", "compare", self.a, self.b]
        if self.dataset is None:
            return words
        return [*words, "--dataset", address_of(self.dataset), "--split", self.split_name]

    @property
    def split_name(self) -> str:
        """The split that is scored."""
        return self.split or DEFAULT_SPLIT

    def read(self) -> tuple[ScoreTable, ScoreTable]:
        """Return both tables; models score the dataset first."""
        return self._source(self.a).read(), self._source(self.b).read()

    def inputs(self) -> list[Path | None]:
        """Return what is read."""
        return [*self._source(self.a).inputs(), *self._source(self.b).inputs()]

    def _source(self, name: str) -> StoredScores | ModelScores:
        if self.dataset is None:
            return StoredScores(parse_source(name))
        return ModelScores(model=name, dataset=self.dataset, split=self.split_name, keep_at=None)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Score table; a model with --dataset.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one; differences are B - A.")],
    *,
    dataset: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY, metavar="DIR", help="Score this dataset with models A and B."
        ),
    ] = None,
    split: Split = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare the papers and labels that both have.")
    ] = False,
    output: Output = None,
    html: Html = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of the resampling.")
    ] = None,
) -> None:
    """Compare two models on the same papers.

    Every metric and category, with paired intervals; who is right where the other is not.

    A and B are score tables that `evaluate --write-scores` wrote, or models with --dataset.
    """
    from classmark.pages import comparison_text

    if split is not None and dataset is None:
        raise UsageError("--split names a split of a dataset; give --dataset DIR with it.")
    pair = Pair(a, b, dataset, split)
    pair.check()
    check_places((output, html), pair.inputs())
    check_endings(output, html)
    report = _measure(pair, common, resampling(bootstrap, seed))
    keep(report, output, "" if html is None else _as_page(report), html)
    print_report(report, comparison_text, as_json=as_json)


def _measure(pair: Pair, common: bool, config: EvaluationConfig) -> ComparisonReport:
    from classmark.cli.progress import progress_bar
    from classmark.evaluation import compare_tables

    words = [*pair.words(), *(["--common"] if common else [])]
    words += resampling_words(config)
    first, second = pair.read()
    with progress_bar("comparing") as progress:
        progress.advance(len(first))
        return compare_tables(
            first, second, config=config, common=common, command=shlex.join(words)
        )


def _as_page(report: ComparisonReport) -> str:
    from classmark.pages import comparison_page

    return comparison_page(report)
