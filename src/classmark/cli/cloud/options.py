"""What the commands of the cloud share: the environment, and clients of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from classmark.cloud.environment import CloudEnvironment
    from classmark.cloud.google import Google

Environment = Annotated[
    Path | None,
    typer.Option(
        "--environment",
        metavar="FILE",
        help="File that names project, region and bucket; $CLASSMARK_CLOUD, or cloud.yaml.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the exact requests, and send none of them.")
]


def environment_of(path: Path | None) -> CloudEnvironment:
    """Return the environment of the option.

    Raises:
        MissingExtra: Google's clients are not installed.
        CloudNotFound, UsageError: the file is missing, or cannot be used.
    """
    from classmark.cloud.environment import read_environment
    from classmark.cloud.google import require_google

    require_google()
    return read_environment(path)


def google_of(path: Path | None) -> Google:
    """Return clients for the environment of the option; raises as ``environment_of``."""
    from classmark.cloud.google import Google

    return Google(environment_of(path))
