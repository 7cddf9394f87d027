"""``classmark evaluate``: how good a model is on a split, from its stored scores."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.evaluate.compare import compare
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
from classmark.cli.evaluate.robustness import robustness
from classmark.cli.evaluate.sources import DEFAULT_SPLIT, ModelScores, StoredScores
from classmark.cli.options import complete_model
from classmark.cli.output import check_ending
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.evaluation import EvaluationConfig
    from classmark.records import EvaluationReport, ScoreTable

app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command("compare")(compare)
app.command("robustness")(robustness)


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    *,
    scores: Annotated[
        Path | None,
        typer.Option(click_type=COPY, metavar="FILE", help="Stored score table to measure."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="Score with NAME, NAME@VERSION or PATH.",
            autocompletion=complete_model,
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(click_type=COPY, metavar="DIR", help="Dataset folder that --model scores."),
    ] = None,
    split: Split = None,
    no_authors: Annotated[
        bool, typer.Option("--no-authors", help="Let --model score the text alone.")
    ] = False,
    write_scores: Annotated[
        AnyPlace | None,
        typer.Option(
            click_type=ANYWHERE, metavar="FILE", help="Write the scores of --model to FILE."
        ),
    ] = None,
    output: Output = None,
    html: Html = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of the resampling.")
    ] = None,
) -> None:
    """Measure a model: accuracy, calibration, prediction sets, by period and category.

    Reads a stored score table, or scores a split of a dataset first.
    """
    from classmark.pages import evaluation_text

    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    source = _choose_source(scores, model, dataset, split, write_scores)
    if no_authors:
        source = _without_authors(source)
    check_places((output, html, write_scores), source.inputs())
    check_endings(output, html)
    check_ending("--write-scores", write_scores, (".npz",))
    config = resampling(bootstrap, seed)
    table = source.read()
    report = _measure(table, source, config)
    page = "" if html is None else _as_page(table, source, config, report)
    keep(report, output, page, html)
    print_report(report, evaluation_text, as_json=as_json)


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
            f"{given[0]} comes before {context.invoked_subcommand}, which takes its own options. "
            f"Put them after it: classmark evaluate {context.invoked_subcommand} ..."
        )


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


def _without_authors(source: StoredScores | ModelScores) -> ModelScores:
    if isinstance(source, StoredScores):
        raise UsageError(
            "--no-authors is about how --model scores; a stored table is measured as it is. Leave "
            "it out, or give --model M and --dataset DIR."
        )
    return replace(source, authors=False)


def _measure(
    table: ScoreTable, source: StoredScores | ModelScores, config: EvaluationConfig
) -> EvaluationReport:
    from classmark.cli.progress import progress_bar
    from classmark.evaluation import evaluate_table

    words = ["classmark", "evaluate", *source.options()]
    words += resampling_words(config)
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
