"""``classmark dataset``: download papers, build a dataset from them, or invent a sample."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.dataset.download import download
from classmark.cli.dataset.needs import need_packages
from classmark.cli.dataset.stats import stats
from classmark.cli.options import (
    AddressOption,
    EngineOption,
    columns_option,
    parse_place,
    refuse_buckets,
)
from classmark.cli.output import check_ending, print_error
from classmark.cli.progress import progress_bar
from classmark.cluster import check_engine
from classmark.dataset.config import (
    MAX_SAMPLE_CATEGORIES,
    MIN_SAMPLE_CATEGORIES,
    DatasetConfig,
    LabelSpace,
    SampleConfig,
    SmallCategories,
    SplitMethod,
)
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.records import DatasetManifest

_BUILD = DatasetConfig()
_SAMPLE = SampleConfig()

app = typer.Typer(
    name="dataset",
    help="Download papers, build a dataset from them, count what is in it, or invent a sample.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
app.command()(download)
app.command()(stats)

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES",
        help="Files of papers: Kaggle CSV, arXiv metadata dump, Parquet, JSON lines, BibTeX; "
        "also gzipped or zipped.",
    ),
]
Output = Annotated[str, typer.Option(metavar="DIR", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the contents of DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the manifest's summary as JSON.")]
Periods = Annotated[
    str,
    typer.Option(metavar="DATE,...", help="Last days of the periods, e.g. 2017-12-31,2019-12-31."),
]
Labels = Annotated[
    LabelSpace, typer.Option(help="arxiv: codes of the arXiv taxonomy; free: labels of your own.")
]
Split = Annotated[
    SplitMethod,
    typer.Option(help="By category and period, by date, or by lists of ids."),
]
TestShare = Annotated[float, typer.Option(metavar="SHARE", help="Share for testing (stratified).")]
ValidShare = Annotated[
    float, typer.Option(metavar="SHARE", help="Share for validation (stratified).")
]
TrainUntil = Annotated[
    str | None, typer.Option(metavar="DATE", help="Last day of the training papers (time).")
]
ValidUntil = Annotated[
    str | None, typer.Option(metavar="DATE", help="Last day of the validation papers (time).")
]
TestIds = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Ids of the test papers, one a line (ids).")
]
ValidIds = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Ids of the validation papers (ids).")
]
MinPapers = Annotated[int, typer.Option(metavar="N", help="A category with fewer papers is small.")]
Small = Annotated[
    SmallCategories,
    typer.Option(
        help="Papers of small categories: drop them, merge them into the first of their own "
        "cross-lists that is not small, or keep them.",
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        metavar="FIELD=COLUMN,...",
        help="Map columns of the sources to fields: title=Titel,abstract=Text.",
    ),
]
Format = Annotated[str, typer.Option(metavar="F", help="Format, as in classify --format.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first unusable record.")]
BuildSeed = Annotated[
    int, typer.Option(metavar="N", help="Chooses the papers that are held out (stratified).")
]


@app.command()
def build(
    sources: Sources,
    *,
    output: Output,
    labels: Labels = _BUILD.labels,
    split: Split = _BUILD.split,
    test_share: TestShare = _BUILD.test_share,
    valid_share: ValidShare = _BUILD.valid_share,
    train_until: TrainUntil = _BUILD.train_until,
    valid_until: ValidUntil = _BUILD.valid_until,
    test_ids: TestIds = _BUILD.test_ids,
    valid_ids: ValidIds = _BUILD.valid_ids,
    min_papers: MinPapers = _BUILD.min_papers,
    small: Small = _BUILD.small,
    periods: Periods = "",
    seed: BuildSeed = _BUILD.seed,
    columns: Columns = "",
    format: Format = _BUILD.format,
    strict: Strict = _BUILD.strict,
    engine: EngineOption = "local",
    address: AddressOption = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Clean, deduplicate, split and check papers; the last line on stdout is the folder."""
    config = DatasetConfig(
        labels=labels,
        split=split,
        test_share=test_share,
        valid_share=valid_share,
        train_until=train_until,
        valid_until=valid_until,
        test_ids=test_ids,
        valid_ids=valid_ids,
        min_papers=min_papers,
        small=small,
        periods=_listed(periods),
        seed=seed,
        columns=columns_option(columns).given,
        format=format,
        strict=strict,
    )
    check_engine(engine, address)
    need_packages("building datasets")
    from classmark.dataset import MANIFEST_FILE, Origin, ReadOnCluster, build_dataset
    from classmark.storage import files_of, staged_folder

    if engine == "local":
        refuse_buckets(output, *sources)
    read = ReadOnCluster(address) if engine == "ray" else None
    target, papers = parse_place(output), [parse_place(source) for source in sources]
    papers = papers if read is None else files_of(papers)
    origin = Origin(command=_command_line(), read=read)
    with (
        progress_bar() as progress,
        staged_folder(target, last=MANIFEST_FILE, overwrite=overwrite) as folder,
    ):
        manifest = build_dataset(
            papers, folder, config, origin=origin, overwrite=overwrite, progress=progress
        )
    _report(manifest, target, as_json=as_json)


Papers = Annotated[int, typer.Option(metavar="N", help="Number of papers.")]
SampleOutput = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Dataset folder to write, split and all.")
]
CsvFile = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write one CSV in the Kaggle layout instead."),
]
DumpFile = Annotated[
    Path | None,
    typer.Option(
        "--dump",
        metavar="FILE",
        help="Write JSON lines as in arXiv's metadata dump instead; gzipped if FILE ends with .gz.",
    ),
]
SampleSeed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same bytes.")]
Noise = Annotated[
    float, typer.Option(metavar="SHARE", help="Share of papers with a neighbouring, wrong label.")
]
Drift = Annotated[
    float,
    typer.Option(
        metavar="D", help="How far later years move to new terms and another mix, 0 to 1."
    ),
]
Categories = Annotated[
    int,
    typer.Option(
        metavar="N",
        help=f"Number of categories, {MIN_SAMPLE_CATEGORIES} to {MAX_SAMPLE_CATEGORIES}.",
    ),
]


@app.command()
def sample(
    *,
    papers: Papers = _SAMPLE.papers,
    output: SampleOutput = None,
    csv: CsvFile = None,
    dump: DumpFile = None,
    seed: SampleSeed = _SAMPLE.seed,
    noise: Noise = _SAMPLE.noise,
    drift: Drift = _SAMPLE.drift,
    categories: Categories = _SAMPLE.categories,
    periods: Periods = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Invent a labelled corpus from classmark's own terms and sentences; nothing in it is true.

    For trying things out where no data can be had. The last line on stdout is what was written.
    """
    config = SampleConfig(papers=papers, seed=seed, noise=noise, drift=drift, categories=categories)
    if sum(place is not None for place in (output, csv, dump)) != 1:
        raise UsageError("give one of --output DIR, --csv FILE and --dump FILE.")
    check_ending("--csv", csv, (".csv",))
    check_ending("--dump", dump, (".jsonl", ".ndjson", ".json", ".gz"))
    need_packages("building datasets")
    if file := csv or dump:
        _write_file(file, config, is_dump=dump is not None, overwrite=overwrite)
    if output is not None:
        from classmark.dataset import sample_dataset

        with progress_bar() as progress:
            manifest = sample_dataset(
                output,
                config,
                periods=_listed(periods),
                command=_command_line(),
                overwrite=overwrite,
                progress=progress,
            )
        _report(manifest, output, as_json=as_json)


def _write_file(path: Path, config: SampleConfig, *, is_dump: bool, overwrite: bool) -> None:
    from classmark.dataset import sample_csv, sample_dump

    if path.exists() and not overwrite:
        raise UsageError(f"{path} already exists. Choose another file, or give --overwrite.")
    with progress_bar() as progress:
        (sample_dump if is_dump else sample_csv)(path, config, progress)
    typer.echo(str(path))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _command_line() -> str:
    return shlex.join(["classmark", *sys.argv[1:]])


def _report(manifest: DatasetManifest, output: Path, *, as_json: bool) -> None:
    for drop in manifest.config["notes"]["large_drops"]:
        what = f"{drop['rows']:,} of {manifest.read:,} rows were dropped ({drop['reason']})"
        print_error(f"warning: {what}, e.g. {drop['example']} {drop['advice']}")
    if as_json:
        typer.echo(json.dumps({"path": str(output), **_summary(manifest)}))
        return
    for name, count in _summary_lines(manifest):
        typer.echo(f"{name:<32}{count:>12,}")
    if manifest.generated:
        typer.echo("generated: the papers are invented")
    typer.echo(str(output))


def _summary(manifest: DatasetManifest) -> dict[str, Any]:
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
