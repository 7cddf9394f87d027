"""``classmark dataset download``: download papers, resume broken downloads, check before use."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.progress import BYTES, progress_bar
from classmark.dataset.config import DownloadConfig, Patience

if TYPE_CHECKING:
    from classmark.dataset.download.download import Download

_CONFIG = DownloadConfig()
_PATIENCE = Patience()

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A Kaggle dataset (OWNER/NAME), an http(s) address, or an archive on this computer.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File to write, or an existing folder [default: .]."),
]
Unpack = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Also unpack the zip into DIR; build reads a zip of one file."
    ),
]
Sha256 = Annotated[str, typer.Option(metavar="HEX", help="Refuse a file with another SHA-256.")]
KaggleApi = Annotated[
    str,
    typer.Option(
        metavar="URL", envvar="CLASSMARK_KAGGLE_API", help="Base address of Kaggle's API."
    ),
]
Timeout = Annotated[
    float, typer.Option(metavar="S", min=0.1, help="Seconds without data before a new attempt.")
]
Attempts = Annotated[
    int, typer.Option(metavar="N", min=1, help="Maximum consecutive failed attempts.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files, and all of DIR.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print path, digest and size as JSON.")]


def download(
    source: Source = _CONFIG.source,
    *,
    output: Output = _CONFIG.output,
    unpack: Unpack = _CONFIG.unpack,
    sha256: Sha256 = _CONFIG.sha256,
    kaggle_api: KaggleApi = _CONFIG.kaggle_api,
    timeout: Timeout = _PATIENCE.timeout_s,
    attempts: Attempts = _PATIENCE.attempts,
    overwrite: Overwrite = _CONFIG.overwrite,
    as_json: AsJson = False,
) -> None:
    """Download a file of papers and check it; stdout is the input for `classmark dataset build`.

    After a broken connection or Ctrl-C the bytes received so far stay in FILE.part; the same
    command resumes from there. Kaggle's credentials are optional: KAGGLE_USERNAME and KAGGLE_KEY,
    or ~/.kaggle/kaggle.json.
    """
    from classmark.dataset.download.download import fetch_dataset

    config = DownloadConfig(
        source=source,
        output=output,
        unpack=unpack,
        sha256=sha256,
        kaggle_api=kaggle_api,
        overwrite=overwrite,
    )
    patience = Patience(timeout_s=timeout, attempts=attempts)
    try:
        with progress_bar("downloading", unit=BYTES) as progress:
            done = fetch_dataset(config, patience=patience, progress=progress)
    except KeyboardInterrupt:
        typer.echo("The bytes received so far are kept: run the same command to resume.", err=True)
        raise
    _report(done, as_json=as_json)


def _report(done: Download, *, as_json: bool) -> None:
    if as_json:
        facts = {**asdict(done), "file": str(done.file), "papers": [str(p) for p in done.papers]}
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{done.bytes:,} bytes, SHA-256 {done.sha256}", err=True)
    if len(done.members) > 1 and done.papers == (done.file,):
        names = ", ".join(done.members[:4])
        typer.echo(f"it holds {len(done.members)} files ({names}): --unpack DIR", err=True)
    for path in done.papers:
        typer.echo(str(path))
