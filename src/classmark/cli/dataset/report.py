"""What `dataset build`, `extend` and `sample` say of the dataset that they wrote."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from classmark.cli.output import print_error

if TYPE_CHECKING:
    from classmark.records import DatasetManifest


def command_line() -> str:
    """Return the command line of this process."""
    return shlex.join(["classmark", *sys.argv[1:]])


def report(manifest: DatasetManifest, output: Path, *, as_json: bool) -> None:
    """Print what was read, kept and dropped, and last the folder."""
    # Of an extension the new rows count: those of the dataset before are not judged again.
    read = manifest.config.get("extension", {}).get("read", manifest.read)
    for drop in manifest.config["notes"]["large_drops"]:
        what = f"{drop['rows']:,} of {read:,} rows were dropped ({drop['reason']})"
        print_error(f"warning: {what}, e.g. {drop['example']} {drop['advice']}")
    has_shares = manifest.config.get("split") == "stratified"
    for name, split in manifest.splits.items():
        if has_shares and not split.papers and (share := manifest.config.get(f"{name}_share")):
            print_error(
                f"warning: the {name} split is empty: {share:g} of each category and period is "
                "less than half a paper. Add papers, or give `dataset build` a larger "
                f"--{name}-share."
            )
    if as_json:
        typer.echo(json.dumps({"path": str(output), **summary(manifest)}))
        return
    for name, count in _summary_lines(manifest):
        typer.echo(f"{name:<32}{count:>12,}")
    if manifest.generated:
        typer.echo("generated: the papers are invented")
    typer.echo(str(output))


def summary(manifest: DatasetManifest) -> dict[str, Any]:
    """Return what --json prints of a dataset, besides its path."""
    return {
        "digest": manifest.digest,
        "label_space": manifest.label_space,
        "labels": len(manifest.labels),
        "read": manifest.read,
        "kept": manifest.kept,
        "dropped": manifest.dropped,
        "splits": {name: split.papers for name, split in manifest.splits.items()},
        "periods": list(manifest.periods),
        "notes": manifest.config["notes"],
        "generated": manifest.generated,
    }


def _summary_lines(manifest: DatasetManifest) -> Iterator[tuple[str, int]]:
    yield "read", manifest.read
    for reason, count in manifest.dropped.items():
        yield f"  dropped: {reason}", count
    yield "kept", manifest.kept
    for name, split in manifest.splits.items():
        yield f"  {name}", split.papers
    yield "categories", len(manifest.labels)
