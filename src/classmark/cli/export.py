"""``classmark export``: make a bundle of a finished run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import parse_source
from classmark.cli.output import check_ending
from classmark.cli.places import ANYWHERE, COPY, AnyPlace, address_of
from classmark.cli.train import require_training
from classmark.errors import UnreadableSource, UsageError

if TYPE_CHECKING:
    from classmark.evaluation.robustness import OtherTexts
    from classmark.pipeline import ExportOptions
    from classmark.records import BundleManifest, EvaluationReport

NO_NON_PAPERS = "none"
_LAST_FILES = {"hf": "config.json", "bento": "bento.yaml"}
"""Without it a folder of that format is unfinished; a bundle without its manifest."""
_NAME_VERSION = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)-(\d+(?:\.\d+)*)")


def register(app: typer.Typer) -> None:
    """Add the command ``export`` to an app."""
    app.command(name="export")(export)


def export(
    run: Annotated[
        Path, typer.Argument(click_type=COPY, metavar="RUN", help="Folder that `train` printed.")
    ],
    *,
    output: Annotated[
        AnyPlace,
        typer.Option(
            "--output",
            click_type=ANYWHERE,
            metavar="DIR",
            help="Folder to write, called NAME-VERSION (fast-1.0).",
        ),
    ],
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset", click_type=COPY, metavar="DIR", help="The run's dataset, if it was moved."
        ),
    ] = None,
    report: Annotated[
        AnyPlace | None,
        typer.Option(
            "--report",
            click_type=ANYWHERE,
            metavar="FILE",
            help="Also write the evaluation report here.",
        ),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(
            "--about",
            click_type=COPY,
            metavar="FILE",
            help="Markdown for the card: data, use, limits.",
        ),
    ] = None,
    non_papers: Annotated[
        str | None,
        typer.Option(
            "--non-papers",
            metavar="FILE|none",
            help="JSON lines of texts that are out of scope; none: nothing is. Left out, invented "
            "texts are taken.",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="bundle|hf|onnx|bento",
            help="What to write; hf: a folder that Transformers loads, of a transformer; bento: a "
            "folder that BentoML serves.",
        ),
    ] = None,
    prune: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What to prune from a transformer: any of vocabulary=SHARE,layers=N,heads=N.",
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="auto|fp32|fp16|int8",
            help="Weights of a transformer; auto takes int8 if it wins, else fp32.",
        ),
    ] = None,
    most_loss: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Accuracy that pruning may lose, and int8 with auto, 0..1, whole interval; 0.005.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="P", help="Of a cascade: another point of its curve, 0..1."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Convert a run, calibrate it on valid, measure it on test, and write the bundle.

    With --format hf, write a folder for Transformers instead, and compare its answers; with
    --format bento, a folder for BentoML that holds the bundle.
    """
    require_training()
    from classmark.pages import evaluation_text
    from classmark.pipeline import ExportOptions
    from classmark.pipeline.export import CHOICES
    from classmark.storage import check_apart, check_file_place, write_json

    name, version = split_name(output)
    if report:
        check_file_place(report)
    texts_file = parse_source(non_papers) if non_papers not in (None, NO_NON_PAPERS) else None
    check_apart((output, report), (run, dataset, about, texts_file))
    check_ending("--report", report, (".json",))
    words = ["classmark", "export", address_of(run), "--output", str(output)]
    named = {
        "dataset": address_of(dataset) if dataset else None,
        "format": format_,
        "prune": prune,
        "quantize": quantize,
    }
    words += [word for k, v in named.items() if v is not None for word in (f"--{k}", str(v))]
    given = {
        "format": format_,
        "prune": prune,
        "quantize": quantize,
        "most_loss": most_loss,
        "threshold": threshold,
    }
    options = ExportOptions(
        name=name,
        version=version,
        dataset=dataset,
        about=_read_text(about) if about else "",
        non_papers=_other_texts(non_papers),
        overwrite=overwrite,
        command=shlex.join(words),
        **{key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    manifest, measured = _export(run, output, options)
    if report:
        write_json(report, measured.to_dict())
    if as_json:
        size = sum(f.bytes for f in manifest.files.values())
        written = "bundle" if options.format == "bundle" else "folder"
        facts = {written: str(output), "bytes": size, "metrics": manifest.metrics}
        choice = {k: v for k, v in manifest.provenance.items() if k in CHOICES}
        typer.echo(json.dumps({**facts, **choice}))
        return
    typer.echo(evaluation_text(measured, weakest=5))
    typer.echo(str(output))


def _export(
    run: Path, output: Path, options: ExportOptions
) -> tuple[BundleManifest, EvaluationReport]:
    from classmark.cli.progress import StepLines
    from classmark.pipeline import export_run
    from classmark.storage import staged_folder

    last = _LAST_FILES.get(options.format, "bundle.json")
    staged = staged_folder(output, last=last, overwrite=options.overwrite)
    with StepLines() as progress, staged as folder:
        return export_run(run, folder, options, progress)


def split_name(folder: Path) -> tuple[str, str]:
    """Return name and version of a bundle folder.

    Raises:
        UsageError: it is not called NAME-VERSION.
    """
    match = _NAME_VERSION.fullmatch(folder.name)
    if not match:
        raise UsageError(
            f"--output {str(folder)!r} must end in NAME-VERSION, e.g. models/mine-1.0."
        )
    return match[1], match[2]


def _other_texts(non_papers: str | None) -> OtherTexts | None:
    from classmark.evaluation.robustness import OtherTexts, read_non_papers

    if non_papers is None:
        return None
    if non_papers == NO_NON_PAPERS:
        return OtherTexts("", ())
    return read_non_papers(parse_source(non_papers))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableSource(f"cannot read {path}: {error}. Give a UTF-8 text file.") from error
