"""``classmark harvest``: what is new in an archive since the last time, over OAI-PMH."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import print_error
from classmark.cli.progress import progress_bar
from classmark.dataset.config import DEFAULT_ENDPOINT, HarvestConfig, Patience

if TYPE_CHECKING:
    from classmark.dataset.download.harvest import Harvest

_PATIENCE = Patience()

Output = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder of papers.jsonl and of the state of the harvest."),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DATE",
        help="First day of change [default: where the last harvest ended, else the beginning].",
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="DATE", help="Last day of change [default: today].")
]
Set = Annotated[
    str | None, typer.Option(metavar="SET", help="Only a set of the archive, such as cs.")
]
Metadata = Annotated[
    str, typer.Option(metavar="FORMAT", help="Format to ask for: arXiv, arXivRaw or oai_dc.")
]
Endpoint = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="CLASSMARK_OAI_ENDPOINT", help="Base address of the OAI-PMH server."
    ),
]
Pause = Annotated[float, typer.Option(metavar="S", min=0.0, help="Seconds between two requests.")]
Timeout = Annotated[
    float, typer.Option(metavar="S", min=0.1, help="Seconds without data before a new attempt.")
]
Attempts = Annotated[
    int, typer.Option(metavar="N", min=1, help="Maximum consecutive failed attempts.")
]


def register(app: typer.Typer) -> None:
    """Add the verb to an app."""
    app.command("harvest")(harvest)


def harvest(
    *,
    output: Output,
    since: Since = None,
    until: Until = None,
    set: Set = None,
    metadata: Metadata = HarvestConfig.metadata,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    pause: Pause = HarvestConfig.pause_s,
    timeout: Timeout = _PATIENCE.timeout_s,
    attempts: Attempts = _PATIENCE.attempts,
    as_json: AsJson = False,
) -> None:
    """Harvest the papers that an archive has added or changed, and print the file of all of them.

    Run the same command again for what is new since then, or to resume after a broken connection,
    Ctrl-C or a kill. `classify`, `dataset build` and `index build` read papers.jsonl.
    """
    from classmark.dataset.download.harvest import harvest as harvest_archive

    config = HarvestConfig(
        output=output,
        since=since,
        until=until,
        set=set,
        metadata=metadata,
        endpoint=endpoint,
        pause_s=pause,
    )
    patience = Patience(timeout_s=timeout, attempts=attempts)
    try:
        with progress_bar("harvesting", unit="records") as progress:
            done = harvest_archive(config, patience=patience, progress=progress)
    except KeyboardInterrupt:
        typer.echo("The pages taken so far are kept: run the same command to resume.", err=True)
        raise
    if as_json:
        typer.echo(json.dumps({**asdict(done), "papers_file": str(done.papers_file)}))
        return
    print_error(_in_words(done))
    typer.echo(str(done.papers_file))


def _in_words(done: Harvest) -> str:
    until = f", complete until {done.complete_until}" if done.complete_until else ""
    return (
        f"{done.records:,} records: {done.new:,} new, {done.updated:,} updated, "
        f"{done.unchanged:,} unchanged, {done.deleted:,} deleted, {done.unreadable:,} unreadable; "
        f"{done.papers:,} papers in all{until}."
    )
