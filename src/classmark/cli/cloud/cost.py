"""``classmark cloud cost``: a month of the service, estimated from list prices."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import table

if TYPE_CHECKING:
    from classmark.cloud.cost import Estimate


def cost(
    *,
    requests_per_day: Annotated[
        float, typer.Option("--requests-per-day", metavar="N", min=0, help="On average.")
    ],
    papers_per_request: Annotated[
        float, typer.Option(metavar="N", min=1, help="On average.")
    ] = 1.0,
    min_instances: Annotated[
        int, typer.Option(metavar="N", min=0, help="Instances kept without requests.")
    ] = 1,
    retrain_per_year: Annotated[float, typer.Option(metavar="N", min=0, help="New models.")] = 4.0,
    database: Annotated[
        bool, typer.Option(help="Keep the journal in Cloud SQL, or in the bucket.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Estimate what a month costs, as a range, without asking Google.

    Low is a cheap region and instances shared by many requests, high an expensive region and
    requests that are billed one by one. List prices are approximate: check them before relying on
    it.
    """
    from classmark.cloud.cost import Load, estimate

    load = Load(
        requests_per_day=requests_per_day,
        papers_per_request=papers_per_request,
        min_instances=min_instances,
        retrain_per_year=retrain_per_year,
        has_database=database,
    )
    found = estimate(load)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else _text(found))


def _text(found: Estimate) -> str:
    rows = [
        (
            line.name,
            "free" if line.is_free else f"{line.low:.2f} - {line.high:.2f}",
            line.assumption,
        )
        for line in found.lines
    ]
    total = ("a month", f"{found.low:.2f} - {found.high:.2f}", f"{found.currency}; {found.caution}")
    return table([*rows, total])
