"""``classmark registry show`` and ``diff``: where a bundle comes from, and how two differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import table
from classmark.cli.registry.options import Place, Spec, open_registry, roles_of

if TYPE_CHECKING:
    from classmark.registry import Registry

_SHOWN_CHARS = 36

Other = Annotated[str, typer.Argument(metavar="B", help="The other bundle.")]


def show(bundle: Spec, place: Place = None, as_json: AsJson = False) -> None:
    """Show a bundle and its lineage: data, recipe, configuration, commit, parents, evaluation."""
    registry = open_registry(place)
    facts = _facts(registry, registry.find(bundle))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(table([(name, shown(value)) for name, value in flat(facts)]))


def diff(
    bundle: Annotated[str, typer.Argument(metavar="A", help="A bundle, as `show` takes it.")],
    other: Other,
    place: Place = None,
    as_json: AsJson = False,
) -> None:
    """Show where two bundles differ: labels, policy, data, configuration, evaluation.

    `classmark evaluate compare` says whether a difference is more than chance.
    """
    registry = open_registry(place)
    first, second = (dict(flat(_facts(registry, registry.find(s)))) for s in (bundle, other))
    names = [n for n in {**first, **second} if first.get(n) != second.get(n)]
    if as_json:
        typer.echo(json.dumps({n: [first.get(n), second.get(n)] for n in names}, indent=2))
        return
    rows = [(n, _cut(first.get(n)), _cut(second.get(n))) for n in names]
    typer.echo(table(rows) if rows else "the same bundle.")


def _facts(registry: Registry, digest: str) -> dict[str, Any]:
    """Return the lineage of a bundle: what its manifest and the registry say."""
    from classmark.bundle import read_manifest
    from classmark.registry.lineage import lineage

    pointer = registry.pointer()
    manifest = read_manifest(registry.bundle(digest))
    found = lineage(manifest, registry.events(), digest)
    known = pointer.bundles[digest]
    return {
        "bundle": known.spec,
        "digest": digest,
        "seal": known.seal,
        "signed": known.counter,
        "roles": roles_of(pointer, digest),
        **found,
    }


def flat(value: object, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (name with dots, value) of everything in nested objects."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, item in value.items():
        yield from flat(item, f"{name}.{key}" if name else str(key))


def _cut(value: object) -> str:
    text = shown(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def shown(value: object) -> str:
    """Return a value in one cell of a table."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
