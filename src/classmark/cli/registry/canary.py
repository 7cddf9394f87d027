"""``classmark registry canary`` and ``shadow``: another bundle beside the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from classmark.cli.options import AsJson
from classmark.cli.places import COPY
from classmark.cli.registry.options import (
    Place,
    TrustedKeys,
    Who,
    Why,
    called,
    open_registry,
    print_change,
    who_is,
)
from classmark.errors import UsageError, unreadable

Bundle = Annotated[
    str | None,
    typer.Argument(metavar="BUNDLE", help="NAME@VERSION, or 8 or more digits of a digest."),
]


def canary(
    candidate: Bundle = None,
    *,
    percent: Annotated[
        float, typer.Option(metavar="N", help="Percent of the clients that it answers.")
    ] = 5.0,
    rules: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY,
            metavar="FILE",
            help="YAML: when to promote it or roll it back automatically.",
        ),
    ] = None,
    allow_label_change: Annotated[
        bool,
        typer.Option("--allow-label-change", help="Its labels may differ from the champion's."),
    ] = False,
    end: Annotated[
        Literal["promoted", "stopped"] | None,
        typer.Option(help="End the running canary: promoted makes it the champion."),
    ] = None,
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Let a candidate answer a share of the clients, always the same ones.

    It must have passed `classmark registry gate`. With --rules the service ends it; without, it
    runs until `registry canary --end` or `registry rollback`.
    """
    if (candidate is None) == (end is None):
        raise UsageError(
            "give either the BUNDLE of a canary to begin, or --end for the running one."
        )
    registry = open_registry(place, trusted_keys)
    if candidate is None:
        after = registry.end_canary(end or "stopped", {}, who=who_is(who), why=why)
    else:
        after = registry.start_canary(
            registry.find(candidate),
            percent=percent,
            rules=checked_rules(rules),
            who=who_is(who),
            why=why,
            allow_label_change=allow_label_change,
        )
    print_change(after, as_json=as_json)


def shadow(
    bundle: Bundle = None,
    *,
    percent: Annotated[
        float, typer.Option(metavar="N", help="Percent of the papers that it scores too.")
    ] = 10.0,
    off: Annotated[bool, typer.Option("--off", help="End the shadow.")] = False,
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Let a bundle score a share of the papers in the background; its answers reach no client.

    The journal and the metrics of the service compare both.
    """
    if (bundle is None) == (not off):
        raise UsageError("give either the BUNDLE of a shadow, or --off.")
    registry = open_registry(place, trusted_keys)
    digest = None if bundle is None else registry.find(bundle)
    after = registry.set_shadow(digest, percent=percent, who=who_is(who), why=why)
    print_change(after, as_json=as_json)
    if not as_json:
        share = f", {after.shadow_percent:g} % of papers" if digest else ""
        typer.echo(f"shadow      {called(after, digest)}{share}")


def checked_rules(path: Path | None) -> dict[str, Any]:
    """Return the rules of a YAML file, complete; none without a file.

    Raises:
        UsageError: it cannot be read, or is not the rules of a canary.
        MissingExtra: the package that reads YAML is not installed.
    """
    if path is None:
        return {}
    from classmark.records.fields import RepeatedKey, parse_yaml
    from classmark.registry.rules import CanaryRules

    try:
        value = parse_yaml(path.read_text("utf-8"), "reading the rules of a canary", "serve")
    except OSError as error:
        raise UsageError(f"{path} {unreadable(error, 'Give a YAML file of rules')}") from error
    except RepeatedKey as error:
        raise UsageError(f"{path} has {error.key!r} twice. Write each rule once.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML. Write NAME: VALUE, one per line.") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no rules. Write NAME: VALUE, one per line.")
    return CanaryRules.from_dict(value).to_dict()
