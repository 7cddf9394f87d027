"""``classmark keys``: API keys of the service; a key is shown once, when it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import printable
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.service.keys import Key

app = typer.Typer(
    help="Make, list and revoke API keys of the service.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_UNITS = {"d": "days", "h": "hours"}

File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="File of the keys; CLASSMARK_HOME/keys.json."),
]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="classify, feedback or admin; may be repeated."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="T", help="When it ends: 90d or 12h from now, or a date (UTC)."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Requests per minute, instead of the rate of the service; 0 for no limit.",
        ),
    ] = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; only its hash is kept. Its scope is classify if none is given."""
    from classmark.service.keys import create_key, default_keys_path

    key, text = create_key(
        file or default_keys_path(),
        name,
        scope or ["classify"],
        expires_at_utc=None if expires is None else _expiry(expires),
        rate_per_minute=rate,
    )
    if as_json:
        made = {"id": key.id, "key": text, "scopes": list(key.scopes)}
        limits = {"expires_at_utc": key.expires_at_utc, "rate_per_minute": key.rate_per_minute}
        typer.echo(json.dumps({**made, **limits}))
        return
    typer.echo(text)
    limits_in_words = "".join(f", {limit}" for limit in _limits(key))
    allowed = f"key {key.id} allows {', '.join(key.scopes)}{limits_in_words}"
    typer.echo(f"{allowed}; it is not shown again.", err=True)


@app.command("list")
def list_keys(file: File = None, as_json: AsJson = False) -> None:
    """List the keys: id, scopes, when they were made, their names and limits, and their last use.

    The service records the minute of the last use in CLASSMARK_HOME.
    """
    from classmark.service.keys import default_keys_path, read_keys, read_last_uses

    keys, last_uses = read_keys(file or default_keys_path()), read_last_uses()
    if as_json:
        rows = [
            {
                "id": key.id,
                "name": key.name,
                "scopes": key.scopes,
                "created_at_utc": key.created_at_utc,
                "expires_at_utc": key.expires_at_utc,
                "rate_per_minute": key.rate_per_minute,
                "last_used_at_utc": last_uses.get(key.id),
            }
            for key in keys
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max((len(",".join(key.scopes)) for key in keys), default=0)
    for key in keys:
        scopes = ",".join(key.scopes)
        used = [f"last used {last_uses[key.id]}"] if key.id in last_uses else []
        facts = ", ".join([*_limits(key), *used])
        more = f"  ({printable(facts)})" if facts else ""
        typer.echo(
            f"{key.id}  {scopes:<{width}}  {key.created_at_utc}  {printable(key.name)}{more}"
        )


@app.command("revoke")
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Id of the key; see `list`.")],
    file: File = None,
) -> None:
    """Revoke a key; a running service refuses it within a second."""
    from classmark.service.keys import default_keys_path, revoke_key

    key = revoke_key(file or default_keys_path(), identifier)
    typer.echo(f"revoked {key.id} ({printable(key.name)}).")


def _limits(key: Key) -> list[str]:
    """Return what a key is limited to, in words."""
    words = []
    if key.expires_at_utc is not None:
        verb = "expired" if key.has_expired else "expires"
        words.append(f"{verb} {key.expires_at_utc}")
    if key.rate_per_minute is not None:
        rate = f"{key.rate_per_minute:g} a minute" if key.rate_per_minute else "at any rate"
        words.append(rate)
    return words


def _expiry(text: str) -> str:
    """Return the time that a period from now, or an ISO date, means, as keys have it."""
    from classmark.records import utc_text_from

    try:
        return utc_text_from(text, _UNITS, sign=1)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--expires is {text[:40]!r}, which is not a time. Give a period such as 90d or 12h, "
            "or a date such as 2027-06-30 or 2027-06-30T12:00 (UTC)."
        ) from error
