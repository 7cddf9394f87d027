"""What the commands of a registry share: where it is, who changes it, how bundles are shown."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.places import COPY

if TYPE_CHECKING:
    from classmark.records import Pointer, PromotionEvent
    from classmark.registry import Registry

SHOWN_DIGITS = 12

Place = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        help="Folder of the registry, or gs://...",
        show_default="CLASSMARK_HOME/registry",
    ),
]
Who = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who makes the change.", show_default="USER@HOST")
]
Why = Annotated[str, typer.Option(metavar="TEXT", help="Reason, recorded in the event.")]
TrustedKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--trusted-key",
        click_type=COPY,
        metavar="PUB",
        help="Public key to trust instead of those in the registry; may be repeated.",
    ),
]
Spec = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE", help="A channel, NAME@VERSION, or 8 or more digits of a digest."
    ),
]


def place_of(place: str | None) -> Path:
    """Return the folder of the registry, which may be in a bucket.

    Raises:
        NoHomeFolder: none is given, and there is no home folder.
    """
    from classmark.bundle.find import home_folder
    from classmark.storage import folder_place

    return folder_place(place or home_folder("a registry", "--registry") / "registry")


def open_registry(place: str | None, trusted_keys: list[Path] | None = None) -> Registry:
    """Open the registry of the option.

    Raises:
        RegistryNotFound, RegistryCorrupt, RegistryTooNew: it cannot be used.
    """
    from classmark.registry import Registry

    return Registry.open(place_of(place), trusted_keys=trusted_keys or ())


def who_is(who: str | None) -> str:
    """Return who changes a registry, as events have it: USER@HOST unless given."""
    if who is not None:
        return who
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container that runs under any number
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def called(pointer: Pointer, digest: str | None) -> str:
    """Return what people call a bundle: its name, version and the first digits of its digest."""
    if digest is None:
        return "none"
    known = pointer.bundles.get(digest)
    return f"{known.spec if known else 'gone'} ({digest[:SHOWN_DIGITS]})"


def roles_of(pointer: Pointer, digest: str) -> list[str]:
    """Return what a bundle is in the registry, with the shares of requests."""
    channels, canary = pointer.channels, pointer.canary
    share = f"canary {canary.percent:g} %" if canary else "challenger"
    roles = {
        "champion": digest == channels.champion,
        share: digest == channels.challenger,
        f"shadow {pointer.shadow_percent:g} %": digest == channels.shadow,
        "archived": digest in pointer.archived,
        "former": digest in pointer.former and digest != channels.champion,
    }
    return [role for role, is_so in roles.items() if is_so]


def event_cells(event: PromotionEvent) -> tuple[str, ...]:
    """Return number, time, who, what, the digits of bundle or key and the reason of an event."""
    forced = "forced: " if event.numbers.get("forced") else ""
    action = event.action.replace("_", " ")
    outcome = event.numbers.get("outcome")
    what = f"{action}: {str(outcome).replace('_', ' ')}" if outcome else action
    named = " ".join(digest[:SHOWN_DIGITS] for digest in _named_by(event))
    return str(event.sequence), event.at_utc, event.who, what, named, f"{forced}{event.why}"


def _named_by(event: PromotionEvent) -> list[str]:
    """Return the digests of the bundles, or the fingerprint of the key, that an event is about."""
    if event.to_digest:
        return [event.to_digest]
    key = event.numbers.get("key")
    return [str(key)] if key else [str(digest) for digest in event.numbers.get("digests", ())]


def print_change(pointer: Pointer, *, as_json: bool) -> None:
    """Print the state after a change: who serves now, and the event."""
    event = pointer.last_event
    if as_json:
        typer.echo(json.dumps({"event": event.to_dict(), "pointer": state_of(pointer)}, indent=2))
        return
    typer.echo(f"champion    {called(pointer, pointer.channels.champion)}")
    if event.from_digest not in (None, pointer.channels.champion):
        typer.echo(f"before      {called(pointer, event.from_digest)}")
    if pointer.canary is not None:
        share = f"{pointer.canary.percent:g} % of clients"
        typer.echo(f"canary      {called(pointer, pointer.canary.candidate)}, {share}")


def state_of(pointer: Pointer) -> dict[str, Any]:
    """Return the JSON object of a state, without the event that led to it."""
    state = pointer.to_dict()
    del state["last_event"]
    return state
