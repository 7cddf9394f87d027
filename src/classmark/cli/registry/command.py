"""``classmark registry``: what it holds, and the changes of who serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.options import AsJson, complete_model
from classmark.cli.output import table
from classmark.cli.places import COPY
from classmark.cli.registry.canary import canary, shadow
from classmark.cli.registry.gate import gate, goldens
from classmark.cli.registry.keys import app as keys_app
from classmark.cli.registry.options import (
    SHOWN_DIGITS,
    Place,
    Spec,
    TrustedKeys,
    Who,
    Why,
    called,
    event_cells,
    open_registry,
    place_of,
    print_change,
    roles_of,
    state_of,
    who_is,
)
from classmark.cli.registry.show import diff, show

KEPT = 5
"""``classmark.registry.registry.KEPT``, which would load numpy for a help text."""

app = typer.Typer(
    help="Keep models by digest, and record which one serves, and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.command("init")
def init(place: Place = None, who: Who = None, why: Why = "", as_json: AsJson = False) -> None:
    """Make an empty registry."""
    from classmark.registry import Registry

    registry = Registry.create(place_of(place), who=who_is(who), why=why)
    made = {"path": str(registry.path), "sequence": registry.pointer().sequence}
    typer.echo(json.dumps(made) if as_json else f"made {registry.path}")


@app.command("add")
def add(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="NAME, NAME@VERSION or PATH.", autocompletion=complete_model
        ),
    ],
    *,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Private key to sign it with.")
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(
            "--signature", click_type=COPY, metavar="FILE", help="Signature from another registry."
        ),
    ] = None,
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Copy a model into the registry, under its digest; nothing serves it yet.

    Where the registry trusts a key, the model must be signed.
    """
    from classmark.bundle import find_bundle
    from classmark.registry import Proof

    registry = open_registry(place, trusted_keys)
    proof = Proof(key=sign, signature=signature)
    digest = registry.add(find_bundle(bundle), who=who_is(who), why=why, proof=proof)
    known = registry.pointer().bundles[digest]
    if as_json:
        made = {"digest": digest, "name": known.name, "version": known.version}
        typer.echo(json.dumps({**made, "counter": known.counter}))
        return
    signed = f", signed as number {known.counter}" if known.counter else ""
    typer.echo(f"{known.spec}  {digest}{signed}")


@app.command("list")
def list_bundles(place: Place = None, as_json: AsJson = False) -> None:
    """List the bundles: name, digest, what each is, and the number of its signature."""
    pointer = open_registry(place).pointer()
    if as_json:
        typer.echo(json.dumps(state_of(pointer), indent=2))
        return
    rows = [
        (
            known.spec,
            digest[:SHOWN_DIGITS],
            f"signed {known.counter}" if known.counter else "unsigned",
            ", ".join(roles_of(pointer, digest)),
        )
        for digest, known in pointer.bundles.items()
    ]
    if rows:
        typer.echo(table(rows))
    else:
        typer.echo("the registry holds no bundle. Add one with `classmark registry add`.", err=True)


@app.command("promote")
def promote(
    bundle: Spec,
    *,
    gate_report: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY,
            metavar="FILE",
            help="Its gate report; by default, the latest one in the registry.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it without a gate report; needs --why.")
    ] = False,
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Make a bundle the champion, which services switch to.

    It must have passed `classmark registry gate`.
    """
    registry = open_registry(place, trusted_keys)
    digest = registry.find(bundle)
    after = registry.promote(digest, who=who_is(who), why=why, report=gate_report, force=force)
    print_change(after, as_json=as_json)


@app.command("rollback")
def rollback(
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """End the canary if one is running; else bring back the previous champion."""
    after = open_registry(place, trusted_keys).rollback(who=who_is(who), why=why)
    print_change(after, as_json=as_json)


@app.command("archive")
def archive(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="NAME@VERSION or digits of digests.")
    ],
    *,
    place: Place = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Keep bundles that no longer serve: `gc` keeps them, `rollback` skips them."""
    registry = open_registry(place)
    digests = [registry.find(bundle) for bundle in bundles]
    after = registry.archive(*digests, who=who_is(who), why=why)
    if as_json:
        print_change(after, as_json=True)
        return
    for digest in digests:
        typer.echo(f"archived    {called(after, digest)}")


@app.command("events")
def events(
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Only the latest N.")
    ] = None,
    place: Place = None,
    as_json: AsJson = False,
) -> None:
    """List the changes, the oldest first: number, time, who, what, and why.

    Each event names the digest of the one before, so that a line that was removed or edited is an
    error here.
    """
    found = open_registry(place).events()
    shown = found if last is None else found[-last:]
    if as_json:
        typer.echo(json.dumps([event.to_dict() for event in shown], indent=2))
        return
    typer.echo(table([event_cells(event) for event in shown]))


@app.command("verify")
def verify(place: Place = None, trusted_keys: TrustedKeys = None, as_json: AsJson = False) -> None:
    """Check every event, bundle, signature and report. Exit code 1 if something is wrong."""
    registry = open_registry(place, trusted_keys)
    found = registry.verify()
    pointer = registry.pointer()
    if as_json:
        rows = [{"file": finding.file, "problem": finding.problem} for finding in found]
        facts = {"bundles": len(pointer.bundles), "events": pointer.sequence, "problems": rows}
        typer.echo(json.dumps(facts, indent=2))
    elif found:
        typer.echo(table([(finding.file, finding.problem) for finding in found]))
    else:
        signed = "signed and " if pointer.trusted_keys or trusted_keys else ""
        counts = f"{_bundles(len(pointer.bundles))} {signed}unchanged"
        typer.echo(f"{counts}, {pointer.sequence} events in order.")
    if found:
        raise typer.Exit(1)


@app.command("gc")
def collect(
    keep: Annotated[
        int, typer.Option(metavar="N", help="How many of these bundles to keep.")
    ] = KEPT,
    place: Place = None,
    who: Who = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Delete bundles that are neither in a channel nor archived, except the latest."""
    registry = open_registry(place)
    before = registry.pointer()
    gone = registry.collect(keep=keep, who=who_is(who), why=why)
    if as_json:
        typer.echo(json.dumps({"deleted": gone, "kept": len(registry.pointer().bundles)}))
        return
    for digest in gone:
        typer.echo(f"deleted     {called(before, digest)}")
    left = len(registry.pointer().bundles)
    typer.echo(f"{_bundles(left)} kept.", err=True)


def _bundles(number: int) -> str:
    return "1 bundle" if number == 1 else f"{number} bundles"


app.command("gate")(gate)
app.command("goldens")(goldens)
app.command("canary")(canary)
app.command("shadow")(shadow)
app.command("show")(show)
app.command("diff")(diff)
app.add_typer(keys_app, name="keys")


@app.command("mirror")
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
    """Mirror this registry to MLflow's: one version per bundle, one alias per channel.

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
