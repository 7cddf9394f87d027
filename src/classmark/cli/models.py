"""``classmark models``: the installed models, the details of one, and one without an author."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.bundle.find import DEFAULT_NAME, FoundBundle, find_bundle, list_bundles, read_header
from classmark.cli.options import AsJson, complete_model
from classmark.cli.output import printable
from classmark.cli.places import ANYWHERE, AnyPlace
from classmark.cli.version import SHOWN_DIGITS
from classmark.errors import BundleCorrupt, BundleIncompatible

if TYPE_CHECKING:
    from classmark.records import BundleManifest

app = typer.Typer(
    help="List the installed models, show one, or write one without an author.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_SHOWN_LABELS = 20

Spec = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="NAME, NAME@VERSION or PATH.",
        autocompletion=complete_model,
    ),
]


@dataclass(frozen=True)
class _Listed:
    """A model that can be named, with its digest, or None if its manifest is damaged."""

    found: FoundBundle
    digest: str | None
    is_default: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.found.name,
            "version": self.found.version,
            "default": self.is_default,
            "place": self.found.place,
            "path": str(self.found.path),
            "digest": self.digest,
        }


@app.command("list", short_help="List every model that can be named.")
def list_models(as_json: AsJson = False) -> None:
    """List every model that can be named; the default one has a star."""
    listed = _listed()
    if as_json:
        typer.echo(json.dumps([model.to_dict() for model in listed], indent=2))
    elif not listed:
        typer.echo("no model is installed.", err=True)
    width = max((len(model.found.spec) for model in listed), default=0)
    for model in () if as_json else listed:
        star = "*" if model.is_default else " "
        digest = model.digest[:SHOWN_DIGITS] if model.digest else "damaged "
        place = printable(model.found.place)
        typer.echo(f"{star} {model.found.spec:<{width}}  {digest}  {place}")


@app.command("show", short_help="Show the details of a model, and verify it.")
def show_model(spec: Spec = DEFAULT_NAME, as_json: AsJson = False) -> None:
    """Show the details of a model, and whether its files are unchanged.

    Exit code 1 if they are not.
    """
    from classmark.bundle import read_manifest
    from classmark.bundle.load import verify_files
    from classmark.bundle.manifest import rarely_right, read_measured

    folder = find_bundle(spec)
    manifest = read_manifest(folder)
    rare: list[str] = []
    try:
        verify_files(folder, manifest)
        rare = rarely_right(manifest.labels, read_measured(folder))
        problem = None
    except (BundleCorrupt, BundleIncompatible) as error:
        problem = str(error)
    facts = {**_facts(folder, manifest, problem), "rarely_right": rare}
    typer.echo(json.dumps(facts, indent=2) if as_json else _as_text(facts))
    if problem:
        raise typer.Exit(1)


@app.command("path")
def print_path(spec: Spec = DEFAULT_NAME, as_json: AsJson = False) -> None:
    """Print the folder of a model."""
    path = str(find_bundle(spec).resolve())
    typer.echo(json.dumps({"path": path}) if as_json else path)


@app.command("forget-author", short_help="Write a model without an author.")
def forget_author(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="As papers spell it, in quotation marks.")
    ],
    *,
    output: Annotated[
        AnyPlace,
        typer.Option(
            "--output",
            click_type=ANYWHERE,
            metavar="DIR",
            help="Folder to write, called NAME-VERSION (fast-2.0.1).",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="M", help="NAME, NAME@VERSION or PATH.", autocompletion=complete_model
        ),
    ] = DEFAULT_NAME,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model whose table of authors no longer knows a name.

    This removes all entries of papers by exactly this name. Another spelling (E. Noether for Emmy
    Noether) is another name, which other people may share: give it too if it is theirs. What is
    then found by surname and initial alone comes from the other names, if there are any. A name
    that the table does not know ends with exit code 1, and nothing is written.
    """
    from classmark.bundle import load_bundle, manifest_digest
    from classmark.bundle.files import MANIFEST_FILE
    from classmark.cli.export import split_name
    from classmark.export.authors import forget_authors
    from classmark.storage import staged_folder

    name, version = split_name(output)
    with staged_folder(output, last=MANIFEST_FILE, overwrite=overwrite) as folder:
        forgotten = forget_authors(
            *(load_bundle(find_bundle(model)), names, folder),
            name=name,
            version=version,
            overwrite=overwrite,
        )
    facts = {
        "bundle": str(output),
        "digest": manifest_digest(forgotten.manifest),
        "forgotten": forgotten.names,
        "entries": forgotten.entries,
        "sharing_initials": forgotten.sharing,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"removed {forgotten.entries} entries of {forgotten.names} names; {forgotten.sharing} "
        "other names share surname and first initial, and stay.",
        err=True,
    )
    typer.echo(str(output))


def _listed() -> list[_Listed]:
    bundles = list_bundles()
    default = next((bundle for bundle in bundles if bundle.name == DEFAULT_NAME), None)
    return [_Listed(bundle, _digest(bundle.path), bundle is default) for bundle in bundles]


def _digest(folder: Path) -> str | None:
    try:
        return read_header(folder)[2]
    except BundleCorrupt:
        return None


def _facts(folder: Path, manifest: BundleManifest, problem: str | None) -> dict[str, Any]:
    from classmark.bundle.manifest import manifest_digest, manifest_seal

    return {
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.kind,
        "path": str(folder.resolve()),
        "digest": manifest_digest(manifest),
        "seal": manifest_seal(manifest),
        "verified": problem is None,
        "problem": problem,
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "label_space": manifest.label_space,
        "labels": len(manifest.labels),
        "categories": list(manifest.labels),
        "text_recipe": manifest.text_recipe,
        "featuriser": manifest.featuriser,
        "taxonomy": manifest.taxonomy,
        "temperature": manifest.policy.temperature,
        "set_coverage": manifest.policy.set_coverage,
        "columns": manifest.columns,
        "metrics": manifest.metrics,
        "provenance": manifest.provenance,
    }


def _as_text(facts: dict[str, Any]) -> str:
    rows = [
        ("model", f"{facts['name']} {facts['version']} ({facts['kind']})"),
        ("path", facts["path"]),
        ("digest", facts["digest"]),
        ("seal", facts["seal"]),
        ("files", facts["problem"] or f"unchanged, {facts['bytes'] / 1e6:.1f} MB"),
        ("labels", _labels_in_words(facts)),
        ("text recipe", facts["text_recipe"]),
        ("set coverage", f"{facts['set_coverage']:.0%}"),
        *([("rarely right", ", ".join(facts["rarely_right"]))] if facts["rarely_right"] else []),
        *_flat(facts["columns"], "columns"),
        *_flat(facts["metrics"], "metrics"),
        *_flat(facts["provenance"], "provenance"),
    ]
    shown = [(printable(name), printable(str(value))) for name, value in rows]
    width = max(len(name) for name, _ in shown)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown)


def _labels_in_words(facts: dict[str, Any]) -> str:
    """Return how many labels there are; the first of those of one's own by name."""
    number = f"{facts['labels']} ({facts['label_space']})"
    if facts["label_space"] == "arxiv":
        return number
    shown, rest = facts["categories"][:_SHOWN_LABELS], facts["labels"] - _SHOWN_LABELS
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"{number}: {'; '.join(shown)}{more}"


def _flat(value: object, name: str) -> list[tuple[str, Any]]:
    """Return (dotted name, value) of everything in nested objects."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [row for key in value for row in _flat(value[key], f"{name}.{key}")]
