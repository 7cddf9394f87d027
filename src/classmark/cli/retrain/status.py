"""``classmark retrain status``: the orders so far, as lines and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.bundle import read_manifest
from classmark.bundle.find import home_folder
from classmark.cli.evaluate.report import check_places
from classmark.cli.monitor.options import Kept, history_of
from classmark.cli.options import AsJson
from classmark.cli.output import check_ending, print_error, table
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.cli.registry.options import Place as Registered
from classmark.cli.registry.options import open_registry
from classmark.cli.retrain.show import COLUMNS, row_of
from classmark.cli.service.journal import File, existing_journal, journal_place
from classmark.records import utc_text

if TYPE_CHECKING:
    from classmark.monitor.history import History
    from classmark.records import RetrainState

_PAPERS_EACH = 100
"""Papers with feedback of each point of a page."""

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="DIR",
        help="Folder of the orders.",
        show_default="CLASSMARK_HOME/retrain",
    ),
]
Rules = Annotated[
    Path | None,
    typer.Option(click_type=COPY, metavar="FILE", help="YAML: policy, feedback and replacement."),
]


def folder_of(given: Path | None) -> Path:
    """Return the folder of the orders."""
    return given or home_folder("orders", "--folder") / "retrain"


def status(
    *,
    folder: Folder = None,
    rules: Rules = None,
    html: Annotated[
        AnyPlace | None,
        typer.Option(
            click_type=ANYWHERE,
            metavar="FILE",
            help="Write a page: accuracy, alarms and versions over time, from --registry, "
            "--history and --journal.",
        ),
    ] = None,
    registry: Registered = None,
    history: Kept = None,
    journal: File = None,
    as_json: AsJson = False,
) -> None:
    """Show the orders so far, the steps of the last one, and what they have cost."""
    from classmark.pages.timeline import event_words
    from classmark.pipeline.retraining import read_retrain_rules
    from classmark.retrain import Orders, spent_hours

    orders = Orders(folder_of(folder)).all()
    policy = read_retrain_rules(rules).policy
    if html is not None:
        _write_page(html, orders, registry, history_of(history), journal)
    spent = spent_hours(orders, policy, utc_text())
    if as_json:
        states = [{**state.to_dict(), "outcome": state.outcome} for state in orders]
        budget = {"spent_hours": round(spent, 6), "budget_hours": policy.budget_hours}
        typer.echo(json.dumps({"orders": states, **budget}))
        return
    if not orders:
        typer.echo(f"no order yet in {folder_of(folder)}")
        return
    typer.echo(table([COLUMNS, *map(row_of, orders)]))
    typer.echo("")
    for event in orders[-1].events:
        typer.echo(f"{event.at_utc[:19]}  {event.step:<12}{event_words(event)}".rstrip())
    typer.echo(f"\n{spent:.3g} of {policy.budget_hours:g} CPU-hours in {policy.budget_days:g} days")


def _write_page(
    html: Path,
    orders: tuple[RetrainState, ...],
    place_of_registry: str | None,
    history: History,
    journal: str | None,
) -> None:
    """Write the timeline of a registry, of all models that it names."""
    from classmark.monitor.labels import EVERY_KEY, LabelSources, scores_over_time
    from classmark.pages.timeline import Timeline, timeline_page
    from classmark.storage import write_text

    named = journal_place(journal)
    check_places((html,), (named if isinstance(named, Path) else None, history.path))
    check_ending("--html", html, (".html", ".htm"))
    place, registry = existing_journal(journal), open_registry(place_of_registry)
    pointer = registry.pointer()
    manifests = [read_manifest(registry.bundle(digest)) for digest in pointer.bundles]
    labels = LabelSources(feedback_of=(EVERY_KEY,))
    timeline = Timeline(
        scores=scores_over_time(place, labels, papers_each=_PAPERS_EACH),
        reports=history.reports(),
        changes=registry.events(),
        orders=orders,
        names={digest: known.spec for digest, known in pointer.bundles.items()},
        generated=any(manifest.provenance.get("generated") for manifest in manifests),
        origin={
            "registry": str(registry.path),
            "journal": str(place),
            "monitor": str(history.path),
            "date": utc_text(),
        },
    )
    write_text(html, timeline_page(timeline))
    print_error(f"page written to {html}")
