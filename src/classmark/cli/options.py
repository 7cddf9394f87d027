"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cluster import Engine
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.papers import Columns

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RawCells = Annotated[
    bool,
    typer.Option(
        "--raw-cells",
        help="CSV for programs: no apostrophe before formulas, no byte order mark.",
    ),
]

EngineOption = Annotated[
    Engine,
    typer.Option(help="Where the work is done: processes of this machine, or a Ray cluster."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address of the cluster, or auto for the one that this machine is a node of; by "
        "default, a cluster of this machine alone.",
    ),
]
TextsOrFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TEXT|FILES|-",
        help="A text (title, newline, abstract; or an abstract), files of papers, or - for "
        "standard input.",
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="title=T,abstract=A",
        help="Columns or keys to read, if they have other names.",
    ),
]
_ADVICE = "Name yours with --columns title=…,abstract=…"
_SHOWN_CHARS = 60
_SCHEME = "gs://"


def parse_place(text: str) -> Path:
    """Return the path of an argument, which may be an address in a bucket."""
    from classmark.storage import locate

    return locate(text)


def parse_source(text: str) -> Path:
    """Return the path of papers that an argument names; of those in a bucket, a copy."""
    from classmark.storage import folder_place, local_copy, locate

    return local_copy(folder_place(text)) if text.startswith(_SCHEME) else locate(text)


def parse_output(text: str) -> Path:
    """Return the folder that an option names, which may be in a bucket."""
    from classmark.storage import folder_place, locate

    return folder_place(text) if text.startswith(_SCHEME) else locate(text)


def refuse_buckets(*places: Path | str | None) -> None:
    """Refuse addresses of other stores than gs:// where only this machine works.

    Raises:
        UsageError: names the first.
    """
    from classmark.storage import is_remote

    for place in places:
        if place is not None and is_remote(place) and not str(place).startswith(_SCHEME):
            raise UsageError(f"{place} is in a bucket. Give --engine ray to read and write there.")


def columns_option(text: str | None) -> Columns:
    """Return the columns that the option names; none if it is not given.

    Raises:
        UsageError: it is not a mapping, or names a field that papers do not have.
    """
    from classmark.papers import Columns, parse_columns

    try:
        return Columns(given=parse_columns(text or ""), advice=_ADVICE)
    except UsageError as error:
        shown = repr((text or "")[:_SHOWN_CHARS])
        raise UsageError(
            f"--columns {shown}: {error}. Write for example --columns title=Headline,abstract=Text."
        ) from error


def complete_model(incomplete: str) -> list[str]:
    """Return the installed models whose name begins so, for the shell's completion."""
    from classmark.bundle import list_bundles

    specs = sorted({found.spec for found in list_bundles()})
    return [spec for spec in specs if spec.startswith(incomplete)]


IndexedModel = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="Model that the index was built with, if it is not installed under its name.",
        autocompletion=complete_model,
    ),
]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE...", help="Hydra overrides, as `classmark train` takes."),
]
