"""``classmark registry keys``: pairs of keys, and which ones a registry trusts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.options import AsJson
from classmark.cli.registry.options import SHOWN_DIGITS, Place, Who, Why, open_registry, who_is

app = typer.Typer(
    help="Make keys that sign bundles, and say which ones a registry trusts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.command("create")
def create(
    path: Annotated[Path, typer.Argument(metavar="KEY", help="File of the private key to write.")],
    as_json: AsJson = False,
) -> None:
    """Make a pair of keys: KEY, which signs and is for its owner alone, and KEY.pub.

    Keep the private key where neither the service nor the writers of the registry can read it.
    """
    from classmark.registry.signatures import PUBLIC_SUFFIX, create_key

    name = create_key(path)
    public = f"{path}{PUBLIC_SUFFIX}"
    made = {"private_key": str(path), "public_key": public, "fingerprint": name}
    typer.echo(json.dumps(made) if as_json else f"{public}  {name[:SHOWN_DIGITS]}")


@app.command("trust")
def trust(
    public_key: Annotated[Path, typer.Argument(metavar="PUB", help="File of a public key.")],
    *,
    place: Place = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """From now on take and load only bundles that this key, or another trusted one, signed."""
    name = open_registry(place).trust(public_key, who=who_is(who), why=why)
    typer.echo(json.dumps({"fingerprint": name}) if as_json else f"trusted {name[:SHOWN_DIGITS]}")


@app.command("revoke")
def revoke(
    fingerprint: Annotated[
        str, typer.Argument(metavar="KEY", help="Fingerprint, or the first digits; see `list`.")
    ],
    *,
    place: Place = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """No longer trust a key: what only it signed is refused. Without any key, nothing is signed."""
    after = open_registry(place).revoke(fingerprint, who=who_is(who), why=why)
    name = str(after.last_event.numbers["key"])
    typer.echo(json.dumps({"fingerprint": name}) if as_json else f"revoked {name[:SHOWN_DIGITS]}")


@app.command("list")
def list_keys(place: Place = None, as_json: AsJson = False) -> None:
    """List the fingerprints of the keys that a registry trusts."""
    keys = list(open_registry(place).pointer().trusted_keys)
    if as_json:
        typer.echo(json.dumps(keys))
        return
    for name in keys:
        typer.echo(name)
