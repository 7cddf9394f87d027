"""``classmark evaluate``: how good a model is on a split, from its stored scores."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.evaluate.compare import compare
from classmark.cli.evaluate.robustness import robustness
from classmark.cli.output import check_ending, open_sink, printable
from classmark.errors import ClassmarkError, UsageError

if TYPE_CHECKING:
    from classmark.evaluation import EvaluationConfig
    from classmark.records import EvaluationReport, PaperFacts, ScoreTable

DEFAULT_SPLIT = "test"

app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command("compare")(compare)
app.command("robustness")(robustness)


@dataclass(frozen=True)
class StoredScores:
    """A score table that was written before."""

    file: Path

    def options(self) -> list[str]:
        """Return the options that name this source on a command line."""
        return ["--scores", str(self.file)]

    def inputs(self) -> list[Path | None]:
        """Return what is read."""
        return [self.file]

    def read(self) -> ScoreTable:
        """Return the table."""
        from classmark.records import ScoreTable

        return ScoreTable.read(self.file)

    def facts(self) -> PaperFacts | None:
        """Return None: a score table knows neither titles nor texts."""
        return None


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """A model, and the split of a dataset to score."""

    model: str
    dataset: Path
    split: str
    keep_at: Path | None

    def options(self) -> list[str]:
        """Return the options that name this source on a command line."""
        options = ["--model", self.model, "--dataset", str(self.dataset), "--split", self.split]
        return options + (["--write-scores", str(self.keep_at)] if self.keep_at else [])

    def inputs(self) -> list[Path | None]:
        """Return what is read."""
        return [model_folder(self.model), self.dataset]

    def read(self) -> ScoreTable:
        """Return the table as it was stored: what is measured can be measured again."""
        if self.keep_at is not None:
            return self._store(self.keep_at).read()
        with tempfile.TemporaryDirectory(prefix="classmark-") as folder:
            return self._store(Path(folder) / "scores.npz").read()

    def facts(self) -> PaperFacts | None:
        """Return what the dataset says of the papers that are scored, in the table's order."""
        from classmark.pipeline import read_facts

        return read_facts(self.dataset, self.split)

    def _store(self, file: Path) -> StoredScores:
        from classmark.cli.progress import progress_bar
        from classmark.pipeline import score_dataset
        from classmark.storage import atomic_file

        with progress_bar(f"scoring {self.split}") as progress:
            table = score_dataset(self.model, self.dataset, self.split, progress)
        with atomic_file(file) as stream:
            stream.write(table.to_bytes())
        return StoredScores(file)


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    *,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Stored score table to measure.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="M", help="Score with NAME, NAME@VERSION or PATH.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Dataset folder that --model scores.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Split of the dataset [default: {DEFAULT_SPLIT}]."),
    ] = None,
    write_scores: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the scores of --model to FILE.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as JSON.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as an HTML page with figures."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, not as a table.")
    ] = False,
    bootstrap: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Resamples for the intervals; 0 for none."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of the resampling.")
    ] = None,
) -> None:
    """Measure a model: accuracy, calibration, prediction sets, by period and category.

    Reads a stored score table, or scores a split of a dataset first.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    source = _choose_source(scores, model, dataset, split, write_scores)
    check_places((output, html, write_scores), source.inputs())
    check_endings(output, html)
    check_ending("--write-scores", write_scores, (".npz",))
    config = _config(bootstrap, seed)
    table = source.read()
    report = _measure(table, source, config)
    page = "" if html is None else _as_page(table, source, config, report)
    _keep(report, output, page, html)
    with open_sink(None) as write:
        write((_as_json(report) if as_json else _as_text(report)) + "\n")


def _refuse_options_before(context: typer.Context) -> None:
    # 0 is a value that was given: only what stands for "not given" counts as that.
    absent = (None, False)
    given = [
        f"--{'json' if name == 'as_json' else name.replace('_', '-')}"
        for name, value in context.params.items()
        if not any(value is nothing for nothing in absent)
    ]
    if given:
        raise UsageError(
            f"{given[0]} stands before {context.invoked_subcommand}, which takes its own options. "
            f"Put them after it: classmark evaluate {context.invoked_subcommand} ..."
        )


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


def model_folder(model: str) -> Path | None:
    """Return the folder of a model; None if there is none, which is said when it is loaded."""
    from classmark.bundle import find_bundle

    try:
        return find_bundle(model)
    except ClassmarkError:
        return None


def _choose_source(
    scores: Path | None,
    model: str | None,
    dataset: Path | None,
    split: str | None,
    write_scores: Path | None,
) -> StoredScores | ModelScores:
    of_model = {"model": model, "dataset": dataset, "split": split, "write-scores": write_scores}
    given = [f"--{name}" for name, value in of_model.items() if value is not None]
    if scores is not None and not given:
        return StoredScores(scores)
    if scores is None and model is not None and dataset is not None:
        return ModelScores(
            model=model, dataset=dataset, split=split or DEFAULT_SPLIT, keep_at=write_scores
        )
    seen = ", ".join((["--scores"] if scores else []) + given) or "neither"
    raise UsageError(
        f"evaluate needs either --scores FILE alone, or --model M with --dataset DIR; got {seen}."
    )


def _config(draws: int | None, seed: int | None) -> EvaluationConfig:
    from classmark.evaluation import EvaluationConfig

    options = {"draws": draws, "seed": seed}
    return EvaluationConfig(**{key: n for key, n in options.items() if n is not None})


def _measure(
    table: ScoreTable, source: StoredScores | ModelScores, config: EvaluationConfig
) -> EvaluationReport:
    from classmark.cli.progress import progress_bar
    from classmark.evaluation import evaluate_table

    words = ["classmark", "evaluate", *source.options()]
    words += ["--bootstrap", str(config.draws), "--seed", str(config.seed)]
    with progress_bar("measuring") as progress:
        progress.advance(len(table.ids))
        return evaluate_table(table, config=config, command=shlex.join(words))


def _as_page(
    table: ScoreTable,
    source: StoredScores | ModelScores,
    config: EvaluationConfig,
    report: EvaluationReport,
) -> str:
    from classmark.cli.progress import progress_bar
    from classmark.evaluation import evaluate_details
    from classmark.pages import evaluation_page

    with progress_bar("measuring slices") as progress:
        progress.advance(len(table.ids))
        details = evaluate_details(table, config=config, facts=source.facts())
    return evaluation_page(report, details)


def _keep(report: EvaluationReport, output: Path | None, page: str, html: Path | None) -> None:
    from classmark.storage import write_json, write_text

    if output is not None:
        write_json(output, report.to_dict())
        typer.echo(f"report written to {output}", err=True)
    if html is not None:
        write_text(html, page)
        typer.echo(f"page written to {html}", err=True)


def _as_json(report: EvaluationReport) -> str:
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False)


def _as_text(report: EvaluationReport) -> str:
    from classmark.pages import evaluation_text

    return "\n".join(printable(line) for line in evaluation_text(report).split("\n"))
