"""Options that name a file or folder: of this machine, or in a bucket where a command allows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, NewType

from typer.models import TyperPath

from classmark.errors import UsageError

AnyPlace = NewType("AnyPlace", Path)
"""A path that may be in a bucket: of what typer knows as Path, it would make a local one."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_IN_A_BUCKET = "|gs://..."
_addresses: dict[Path, str] = {}


class PlaceType(TyperPath):
    """The value of an option that names a file or folder.

    Args:
        use: ``here``, an address in a bucket is refused; ``copy``, it becomes a copy on this
            machine, fetched once; ``anywhere``, it becomes the path in the bucket.
    """

    def __init__(self, use: Literal["here", "copy", "anywhere"]) -> None:
        super().__init__()
        self.use = use

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401 - typer's signature
        """Return the path that a text names.

        Raises:
            UsageError: it is in a bucket, and may not be.
            CloudNotFound: it is in a bucket, and nothing is there.
            StorageFailed: the bucket does not answer, or refuses it.
        """
        if not _ADDRESS.match(str(value)) or getattr(ctx, "resilient_parsing", False):
            return Path(str(super().convert(value, param, ctx)))
        from classmark.storage import folder_place, local_copy

        if self.use == "here":
            raise UsageError(
                f"{_called(param)} {value} is in a bucket, but has to be on this machine. Give a "
                "path of this machine, and copy it from or to the bucket with `gcloud storage cp`."
            )
        place = folder_place(value)
        if self.use == "anywhere":
            return place
        copy = local_copy(place)
        _addresses[copy] = str(place)
        return copy


HERE, COPY, ANYWHERE = PlaceType("here"), PlaceType("copy"), PlaceType("anywhere")


def address_of(path: Path) -> str:
    """Return what an option named: the address in a bucket of a copy, else the path."""
    return _addresses.get(path, str(path))


def bound_to_places(command: Any) -> Any:  # noqa: ANN401 - typer's command
    """Return a command, whose options take addresses in buckets only where it says so.

    Without this, an option that is a path would take ``gs://BUCKET`` for a folder ``gs:``.
    """
    for inner in getattr(command, "commands", {}).values():
        bound_to_places(inner)
    for param in command.params:
        if isinstance(param.type, PlaceType):
            if param.type.use != "here" and (param.metavar or "").isalnum():
                param.metavar += _IN_A_BUCKET
        elif isinstance(param.type, TyperPath):
            param.type = HERE
    return command


def _called(param: Any) -> str:  # noqa: ANN401 - typer's parameter
    """Return an option as one writes it, an argument as help names it."""
    return str(param.opts[0]) if param.opts[0].startswith("-") else str(param.metavar)
