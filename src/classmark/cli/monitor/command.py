"""``classmark monitor``: look at the journal, and show what was found before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.evaluate.report import check_endings, check_places
from classmark.cli.monitor import serve as serve_command
from classmark.cli.monitor.options import (
    DEFAULT_NEWEST,
    Alpha,
    Baseline,
    Kept,
    LabelFiles,
    Model,
    MostLoss,
    Newest,
    PageSize,
    RandomFeedback,
    RetrainSize,
    WatchedRegistry,
    WithStream,
    history_of,
    policy_of,
    registry_of,
    sources_of,
)
from classmark.cli.options import AsJson, ColumnsOption
from classmark.cli.output import check_ending, open_sink, print_error, table
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.cli.service.journal import (
    File,
    Since,
    Until,
    existing_journal,
    filter_of,
    journal_place,
)
from classmark.errors import BundleNotFound, DriftFound, InvalidWindow, UsageError

if TYPE_CHECKING:
    from classmark.journal.place import Place
    from classmark.journal.reading import PredictionFilter
    from classmark.monitor.history import History
    from classmark.monitor.labels import LabelSources
    from classmark.monitor.look import LookOptions
    from classmark.records.drift import Action, DriftReport, LiveAccuracy, TextsBehind

_NEVER = "never"
_LOOKS_ON_PAGE = 200

app = typer.Typer(
    help="Watch the papers of a served model for drift, with a stated rate of false alarms.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
app.command("serve")(serve_command.serve)

Page = Annotated[
    AnyPlace | None,
    typer.Option(
        "--html", click_type=ANYWHERE, metavar="FILE", help="Write the report as one HTML page."
    ),
]


@app.command("run")
def run(
    *,
    model: Model = None,
    registry: WatchedRegistry = None,
    journal: File = None,
    newest: Newest = DEFAULT_NEWEST,
    since: Annotated[
        str | None,
        typer.Option(metavar="T", help="Compare those from this time on instead: a date, or 7d."),
    ] = None,
    until: Until = None,
    baseline: Baseline = None,
    alpha: Alpha = None,
    retrain_size: RetrainSize = None,
    page_size: PageSize = None,
    most_loss: MostLoss = None,
    labels: LabelFiles = None,
    columns: ColumnsOption = None,
    random_feedback: RandomFeedback = None,
    history: Kept = None,
    stream: WithStream = True,
    restart_stream: Annotated[
        bool, typer.Option("--restart-stream", help="Begin the continuous watch again.")
    ] = False,
    fail_on: Annotated[
        str,
        typer.Option(
            metavar="ACTION",
            help="Exit with code 3 from this action on: report, retrain, page, or never.",
        ),
    ] = "retrain",
    output: Annotated[
        AnyPlace | None,
        typer.Option(click_type=ANYWHERE, metavar="FILE", help="Write the report as JSON."),
    ] = None,
    html: Page = None,
    evidently: Annotated[
        AnyPlace | None,
        typer.Option(
            click_type=ANYWHERE,
            metavar="FILE",
            help="Write Evidently's report of the same papers as well.",
        ),
    ] = None,
    with_texts: Annotated[
        bool,
        typer.Option(
            "--with-texts",
            help="Show words and papers behind it on the pages, where the journal has texts.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the newest predictions with validation papers.

    Everything comes from the journal and from the reference that the model carries; neither texts
    nor a running service are needed. Says whether the papers have changed beyond chance, how many
    would have to come from another field for that, and what is behind it: categories, features, API
    keys. The continuous watch counts every prediction once, however often this is run.

    With --labels or --random-feedback, it says how accurate the answers are by these labels, and
    whether accuracy was lost. Other feedback is not counted: it is sent because an answer was
    wrong, so it is not a random sample.

    Exit code 3 if the policy asks for a new model or for somebody (see --fail-on).
    """
    from classmark.cli.progress import progress_bar
    from classmark.journal.reading import span_of, times_of
    from classmark.monitor.evidently import check_evidently
    from classmark.monitor.look import LookOptions, look
    from classmark.monitor.texts import texts_behind
    from classmark.pages.drift import drift_text

    _check_action(fail_on)
    named = journal_place(journal)
    check_places((output, html, evidently), (named if isinstance(named, Path) else None, history))
    check_endings(output, html)
    if with_texts and html is None and evidently is None:
        raise UsageError("--with-texts is for a page. Give its file with --html or --evidently.")
    if evidently is not None:
        check_ending("--evidently", evidently, (".html", ".htm"))
        check_evidently()
    place = existing_journal(journal)
    since_utc, until_utc = times_of(since or None, until or None)
    options = LookOptions(
        model=model or None,
        registry=registry_of(registry),
        journal=place,
        newest=newest,
        since_utc=since_utc,
        until_utc=until_utc,
        baseline=span_of(baseline, "--baseline") if baseline else None,
        policy=policy_of(alpha, retrain_size, page_size, most_loss),
        labels=sources_of(labels, random_feedback, columns),
        stream=stream,
        restart=restart_stream,
    )
    kept = history_of(history)
    with progress_bar() as progress:
        report = look(options, kept, progress)
        _keep(report, output)  # before what may fail: the service shows it
        texts = texts_behind(report, options) if with_texts and html is not None else None
    _keep_page(report, kept, html, texts)
    _keep_opinion(report, options, evidently, with_texts=with_texts)
    typer.echo(
        json.dumps(report.to_dict(), indent=2) if as_json else drift_text(report), nl=as_json
    )
    if _is_enough(report.action, fail_on):
        raise DriftFound(_alarm_words(report))


@app.command("accuracy")
def accuracy(
    papers: Annotated[
        list[Path] | None,
        typer.Argument(
            click_type=COPY,
            metavar="[FILES]...",
            help="Papers with categories, such as `classmark harvest` wrote.",
        ),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME[@VERSION]", help="Count the predictions of this model only."),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Find the model in this registry (folder or gs://...)."),
    ] = None,
    journal: File = None,
    since: Since = None,
    until: Until = None,
    columns: ColumnsOption = None,
    random_feedback: RandomFeedback = None,
    as_json: AsJson = False,
) -> None:
    """Score predictions whose category is known by now.

    A category is known from feedback, or from files of papers, where a paper is found by its text
    or by its arXiv identifier. Where people disagree the majority counts; a tie is left out, and
    everything that is left out is counted.

    With 20 labels from files, or from --random-feedback, they are joined with the estimates for
    all papers of the model, if the predictions are of one version, installed or in --registry.
    """
    from classmark.monitor.labels import live_accuracy
    from classmark.pages.drift import accuracy_text

    place, wanted = existing_journal(journal), filter_of(since, until, model)
    sources = sources_of(papers, random_feedback, columns)
    found = live_accuracy(place, sources.papers(), wanted=wanted)
    if sources and len(found.versions) == 1:
        found = _joined(found, registry_of(registry), place, wanted, sources)
    text = json.dumps(found.to_dict(), indent=2) if as_json else accuracy_text(found)
    typer.echo(text, nl=as_json)


def _joined(
    found: LiveAccuracy,
    registry: Path | None,
    place: Place,
    wanted: PredictionFilter,
    sources: LabelSources,
) -> LiveAccuracy:
    """Return it with the estimate of labels and other papers, if the model is here."""
    from classmark.monitor.labelled import joined_accuracy
    from classmark.monitor.predictions import watched_model

    try:
        model = watched_model(found.versions[0].name, registry)
        joined = joined_accuracy(model, place, wanted, sources)
    except (BundleNotFound, InvalidWindow) as error:
        print_error(f"the labels are not joined with estimates: {error}")
        return found
    return replace(found, joined=joined)


@app.command("report")
def report(*, history: Kept = None, html: Page = None, as_json: AsJson = False) -> None:
    """Show the newest report again."""
    from classmark.pages.drift import drift_text

    check_places((html,), (history,))
    check_endings(None, html)
    kept = history_of(history)
    found = kept.reports(newest=1)
    if not found:
        raise UsageError("the history is empty. Run: classmark monitor run")
    _keep_page(found[0], kept, html)
    text = json.dumps(found[0].to_dict(), indent=2) if as_json else drift_text(found[0])
    typer.echo(text, nl=as_json)


@app.command("history")
def show_history(
    *,
    newest: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many reports, the newest first.")
    ] = 20,
    history: Kept = None,
    as_json: AsJson = False,
) -> None:
    """List the reports, one line each."""
    found = history_of(history).reports(newest=newest)
    if as_json:
        typer.echo(json.dumps([report.to_dict() for report in found], indent=2))
        return
    if not found:
        print_error("the history is empty. Run: classmark monitor run")
        return
    head = ("at", "model", "papers", "p", "size", "action")
    typer.echo(table([head, *map(_row, found)]))


def _row(report: DriftReport) -> tuple[str, ...]:
    p_value = f"{report.window.p_value:.3g}" if report.window else "-"
    size = f"{report.size.share:.1%}" if report.size else "-"
    papers = f"{report.counts.compared:,}"
    return (report.created_at_utc, report.of_whom, papers, p_value, size, report.action)


def _check_action(fail_on: str) -> None:
    from classmark.records.drift import ACTIONS

    choices = (*ACTIONS[1:], _NEVER)
    if fail_on not in choices:
        raise UsageError(f"--fail-on {fail_on!r} must be one of {', '.join(choices)}.")


def _is_enough(action: Action, fail_on: str) -> bool:
    from classmark.records.drift import ACTIONS

    ranks: dict[str, int] = {name: rank for rank, name in enumerate(ACTIONS)}
    return fail_on != _NEVER and ranks[action] >= ranks[fail_on]


def _alarm_words(report: DriftReport) -> str:
    alarm = next(alarm for alarm in report.alarms if alarm.action == report.action)
    return f"{alarm.action}: {alarm.text}. See `classmark monitor report`."


def _keep(report: DriftReport, output: Path | None) -> None:
    if output is not None:
        with open_sink(output) as write:
            write(json.dumps(report.to_dict(), indent=2) + "\n")


def _keep_opinion(
    report: DriftReport, options: LookOptions, page: Path | None, *, with_texts: bool
) -> None:
    """Write Evidently's page; one with texts is for the owner of the file alone."""
    if page is None:
        return
    from classmark.cli.progress import StepLines
    from classmark.monitor.evidently import evidently_page
    from classmark.storage import write_text

    with StepLines() as progress:
        progress.step("asking Evidently")
        html, without_texts = evidently_page(report, options, with_texts=with_texts)
    write_text(page, html, private=not without_texts)
    typer.echo(f"Evidently's report written to {page}", err=True)
    if without_texts:
        typer.echo(f"it does not compare texts: {without_texts}", err=True)


def _keep_page(
    report: DriftReport, kept: History, html: Path | None, texts: TextsBehind | None = None
) -> None:
    """Write the page of a report; one with texts is for the owner of the file alone."""
    if html is None:
        return
    from classmark.pages.drift import drift_page
    from classmark.storage import write_text

    before = kept.reports(model=report.model.digest, newest=_LOOKS_ON_PAGE)
    page = drift_page(report, history=before, texts=texts)
    write_text(html, page, private=texts is not None)
    typer.echo(f"page written to {html}", err=True)
