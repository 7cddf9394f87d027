"""``classmark registry mirror``: MLflow's model registry, kept equal to this one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from classmark.cli.options import AsJson
from classmark.cli.registry.options import Place, open_registry


def mirror(
    *,
    mlflow_uri: Annotated[
        str, typer.Option("--mlflow-uri", metavar="URI", help="Store or server of MLflow.")
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the registered model there.")
    ] = "classmark",
    place: Place = None,
    as_json: AsJson = False,
) -> None:
    """Make MLflow's model registry equal to this one: a version a bundle, an alias a channel.

    MLflow gets names, digests and the path of each bundle, not the files.
    """
    from classmark.tracking.models import mirror_models

    registry = open_registry(place)
    pointer = registry.pointer()
    done = mirror_models(mlflow_uri, name, pointer, registry.path)
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(f"{done['added']} versions added, {done['deleted']} deleted.")
    for alias, version in sorted(done["aliases"].items()):
        typer.echo(f"{alias:<10}  version {version}")
