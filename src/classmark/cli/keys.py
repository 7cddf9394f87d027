"""``classmark keys``: API keys of the service; a key is shown once, when it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.output import printable

app = typer.Typer(
    help="Make, list and revoke API keys of the service.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="File of the keys; CLASSMARK_HOME/keys.json."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="For whom or what the key is.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="classify, feedback or admin; may be repeated."),
    ] = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; only its hash is kept. Its scope is classify if none is given."""
    from classmark.service.keys import create_key, default_keys_path

    key, text = create_key(file or default_keys_path(), name, scope or ["classify"])
    if as_json:
        typer.echo(json.dumps({"id": key.id, "key": text, "scopes": list(key.scopes)}))
        return
    typer.echo(text)
    typer.echo(f"key {key.id} allows {', '.join(key.scopes)}; it is not shown again.", err=True)


@app.command("list")
def list_keys(file: File = None, as_json: AsJson = False) -> None:
    """List the keys: id, scopes, when they were made, and their names."""
    from classmark.service.keys import default_keys_path, read_keys

    keys = read_keys(file or default_keys_path())
    if as_json:
        rows = [
            {"id": k.id, "name": k.name, "scopes": k.scopes, "created_at_utc": k.created_at_utc}
            for k in keys
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max((len(",".join(key.scopes)) for key in keys), default=0)
    for key in keys:
        scopes = ",".join(key.scopes)
        typer.echo(f"{key.id}  {scopes:<{width}}  {key.created_at_utc}  {printable(key.name)}")


@app.command("revoke")
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Id of the key; see `list`.")],
    file: File = None,
) -> None:
    """Revoke a key; a running service refuses it within a second."""
    from classmark.service.keys import default_keys_path, revoke_key

    key = revoke_key(file or default_keys_path(), identifier)
    typer.echo(f"revoked {key.id} ({printable(key.name)}).")
