"""``classmark pipeline``: all stages from papers to a measured model, or those with changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import Overrides
from classmark.cli.train import KeysCommand, require_training
from classmark.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from classmark.pipeline.keys import ConfigKey
    from classmark.pipeline.stages import PipelineConfig, StageReport

_RUN_HELP = """Build, train, export, evaluate, gate and register; skip what has not changed.

Runs in the current folder, or in --folder, and writes dataset, run, bundle, evaluation, plots,
metrics.json, gate and registered.json there. A bundle that passes the gate joins a registry, where
`classmark registry promote` finds it; exit code 3 if it fails. Without papers it invents a sample:

\b
  classmark pipeline run
  classmark pipeline run 'papers=[papers.csv]' model.epochs=5
  classmark pipeline run --dry-run 'papers=[papers.csv]' model.epochs=6

If the folder has a params.yaml (`classmark pipeline init` writes it), the values come from there.
"""
_INIT_HELP = """Write params.yaml, and dvc.yaml with the same stages for DVC.

\b
  classmark pipeline init 'papers=[papers.csv]' model.epochs=5

If params.yaml exists, its values are kept; dvc.yaml and the version in params.yaml are updated.
The keys are those of `classmark pipeline run`.
"""

app = typer.Typer(
    name="pipeline",
    help="From papers to a registered model, but only what has changed; with or without DVC.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


class PipelineCommand(KeysCommand):
    """Lists the keys of all stages below the options."""

    @staticmethod
    def keys() -> dict[str, list[ConfigKey]]:
        """Return the keys by group."""
        from classmark.pipeline.stages import describe_stage_keys

        return describe_stage_keys()


Folder = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder of the pipeline; paths in keys are relative to it."),
]


@app.command(help=_RUN_HELP, cls=PipelineCommand)
def run(
    overrides: Overrides = None,
    *,
    folder: Folder = Path(),
    stage: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this one, for example train."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and why; write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Run stages without changes too, replace any output.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Walk the stages in the folder."""
    require_training()
    from classmark.cli.progress import StepLines
    from classmark.pipeline.stages import summary, walk

    with _inside(folder, make=not dry_run):
        config = config_of(overrides or [])
        only = () if stage is None else (stage,)
        reports = []
        with StepLines() as progress:
            for report in walk(config, only=only, force=force, dry_run=dry_run, progress=progress):
                reports.append(report)
                if not as_json:
                    typer.echo(_line(report))
        found = summary()
    if as_json:
        typer.echo(json.dumps({"stages": [asdict(report) for report in reports], **found}))
    elif bundle := found.get("bundle"):
        typer.echo(f"{folder / bundle['path']}  digest {bundle['digest']}")


@app.command(help=_INIT_HELP)
def init(
    overrides: Overrides = None,
    *,
    folder: Folder = Path(),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the values and the stages.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is stale.")
    ] = False,
) -> None:
    """Write the files of the pipeline, or check them."""
    require_training()
    from classmark.pipeline.stages import (
        PARAMS_FILE,
        init_pipeline,
        pipeline_files,
        read_params,
        stale_files,
    )

    with _inside(folder, make=not check):
        if not check:
            for name in init_pipeline(overrides or [], overwrite=overwrite):
                typer.echo(str(folder / name))
            return
        if overrides or overwrite:
            raise UsageError("--check compares the files that exist. Leave the rest out.")
        wanted = pipeline_files(read_params(Path(PARAMS_FILE)))
        # The values may be edited by hand, in any order and with comments; they were read above.
        stale = [name for name in stale_files(wanted) if name != PARAMS_FILE]
    if stale:
        raise GateFailed(
            f"{folder / stale[0]} does not follow from {PARAMS_FILE} and this version of "
            "classmark. Run: classmark pipeline init"
        )


@contextmanager
def _inside(folder: Path, *, make: bool) -> Iterator[None]:
    """Run the block in a folder, as ``make -C`` does; it may be made."""
    from classmark.storage import storage_errors

    if not make and not folder.is_dir():
        raise UsageError(f"--folder {folder} is not an existing folder. Choose another one.")
    with ExitStack() as stack:
        with storage_errors(folder):
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(chdir(folder))
        yield


def config_of(overrides: list[str]) -> PipelineConfig:
    """Return the configuration of ``params.yaml`` in the current folder, or of the overrides."""
    from classmark.pipeline.stages import PARAMS_FILE, compose_pipeline, read_params

    file = Path(PARAMS_FILE)
    if not file.is_file():
        return compose_pipeline(overrides)
    if overrides:
        raise UsageError(
            f"{overrides[0]} cannot be combined with {file.absolute()}, which has all values. "
            "Change it there, or use a --folder without that file."
        )
    return read_params(file)


def _line(report: StageReport) -> str:
    spent = f"  {report.seconds:.1f} s" if report.state == "ran" else ""
    reason = f"  {report.reason}" if report.reason else ""
    return f"{report.stage:<10}{report.state:<11}{spent}{reason}".rstrip()
