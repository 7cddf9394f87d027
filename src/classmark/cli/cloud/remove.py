"""``classmark cloud secret`` and ``classmark cloud destroy``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.cloud.options import Environment, google_of

secret = typer.Typer(name="secret", help="Set and list secrets.", no_args_is_help=True)


@secret.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="api-keys, journal-password or wandb-key.")],
    *,
    from_file: Annotated[
        Path, typer.Option(metavar="FILE|-", help="Value; - is standard input.")
    ] = Path("-"),
    environment: Environment = None,
) -> None:
    """Set a secret, or rotate it: a new version. The value is never shown."""
    from classmark.cloud.serving.secrets import set_secret
    from classmark.errors import UsageError, unreadable

    google = google_of(environment)
    try:
        value = sys.stdin.buffer.read() if str(from_file) == "-" else from_file.read_bytes()
    except OSError as error:
        raise UsageError(f"{from_file} {unreadable(error, 'Check its path')}") from error
    version = set_secret(google, name, value.removesuffix(b"\n"))
    typer.echo(f"{name} version {version}")


@secret.command("list")
def list_(*, environment: Environment = None) -> None:
    """List the secrets of the environment, without their values."""
    from classmark.cloud.serving.secrets import list_secrets

    for found in list_secrets(google_of(environment)):
        typer.echo(found.name.rpartition("/")[2])


def destroy(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    data: Annotated[
        bool, typer.Option("--data", help="Also datasets, runs, registry, reports and journals.")
    ] = False,
    environment: Environment = None,
) -> None:
    """Remove what carries the labels of the environment; the bucket stays. Safe to repeat.

    With --data, the objects of the environment in the bucket are removed too, once you have typed
    the name of the bucket. A bucket with versions keeps them as old versions.
    """
    from classmark.cli.output import print_error
    from classmark.cloud.serving.destroy import find_all, find_data, remove_all

    google = google_of(environment)
    found = [*find_all(google), *(find_data(google) if data else [])]
    for thing in found:
        typer.echo(f"{thing.word:<9} {thing.name}")
    if dry_run or not found:
        return
    if not yes:
        _confirm(len(found), google.environment.bucket if data else "")
    left = remove_all(found)
    for _, error in left:
        print_error(f"error: {error}")
    if left:
        raise typer.Exit(1)


def _confirm(n_found: int, bucket: str) -> None:
    """Ask whether to remove; data goes only if the name of its bucket is typed."""
    from classmark.errors import UsageError

    if not bucket:
        typer.confirm(f"Remove these {n_found}?", abort=True)
        return
    typed = typer.prompt(f"Remove these {n_found}, data too? Type the name of the bucket", err=True)
    if typed != bucket:
        raise UsageError(
            f"{typed!r} is not the name of the bucket. Nothing was removed: type {bucket}, or "
            "leave out --data."
        )
