"""``classmark dataset``: download papers, build a dataset from them, or invent a sample."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from classmark.cli.dataset.download import download
from classmark.cli.dataset.extend import extend
from classmark.cli.dataset.needs import need_packages
from classmark.cli.dataset.report import command_line, report
from classmark.cli.dataset.send import (
    ApiKeys,
    FeedbackShare,
    Newest,
    Rate,
    Send,
    Traffic,
    send_sample,
)
from classmark.cli.dataset.stats import stats
from classmark.cli.options import (
    AddressOption,
    EngineOption,
    columns_option,
    parse_output,
    parse_place,
    parse_source,
    refuse_buckets,
)
from classmark.cli.output import check_ending
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
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
app.command()(extend)
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
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the dataset in DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")]
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
    Path | None,
    typer.Option(
        click_type=COPY, metavar="FILE", help="Ids of the test papers, one per line (ids)."
    ),
]
ValidIds = Annotated[
    Path | None,
    typer.Option(click_type=COPY, metavar="FILE", help="Ids of the validation papers (ids)."),
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
    from classmark.storage import check_apart, files_of, is_remote, staged_folder

    if engine == "local":
        refuse_buckets(output, *sources)
    read = ReadOnCluster(address) if engine == "ray" else None
    target, parse = parse_output(output), parse_source if read is None else parse_place
    papers = [parse(source) for source in sources]
    papers = papers if read is None else files_of(papers)
    origin = Origin(command=command_line(), read=read)
    # Here too, because a folder that holds the input holds other things than a dataset as well.
    local = [paper for paper in papers if not is_remote(paper)]
    check_apart((target,), (*local, config.test_ids, config.valid_ids))
    with (
        progress_bar() as progress,
        staged_folder(target, last=MANIFEST_FILE, overwrite=overwrite) as folder,
    ):
        manifest = build_dataset(
            papers, folder, config, origin=origin, overwrite=overwrite, progress=progress
        )
    report(manifest, target, as_json=as_json)


Papers = Annotated[int, typer.Option(metavar="N", help="Number of papers.")]
SampleOutput = Annotated[
    AnyPlace | None,
    typer.Option(
        click_type=ANYWHERE, metavar="DIR", help="Dataset folder to write, already split."
    ),
]
CsvFile = Annotated[
    AnyPlace | None,
    typer.Option(
        "--csv",
        click_type=ANYWHERE,
        metavar="FILE",
        help="Write one CSV in the Kaggle layout instead.",
    ),
]
DumpFile = Annotated[
    AnyPlace | None,
    typer.Option(
        "--dump",
        click_type=ANYWHERE,
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


_RATE = 100.0
"""Papers a second, with --send."""


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
    send: Send = None,
    rate: Rate = _RATE,
    feedback: FeedbackShare = 0.0,
    newest: Newest = None,
    api_key: ApiKeys = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Invent a labelled corpus from classmark's own terms and sentences; nothing in it is true.

    For trying things out without data. The last line on stdout is what was written. With --send the
    papers go to a running service, in order of time; with --drift the later ones use other terms,
    which `classmark monitor run` notices.
    """
    config = SampleConfig(papers=papers, seed=seed, noise=noise, drift=drift, categories=categories)
    if sum(place is not None for place in (output, csv, dump, send)) != 1:
        raise UsageError("give one of --output DIR, --csv FILE, --dump FILE and --send URL.")
    if periods and output is None:
        raise UsageError("--periods divides a dataset. Give it with --output, or leave it out.")
    if send is None and (rate, feedback, newest, api_key) != (_RATE, 0.0, None, None):
        raise UsageError(
            "--rate, --feedback, --newest and --api-key are for --send only. Give it, or leave "
            "them out."
        )
    check_ending("--csv", csv, (".csv",))
    check_ending("--dump", dump, (".jsonl", ".ndjson", ".json", ".gz"))
    need_packages("building datasets")
    if send is not None:
        _send(
            config,
            Traffic(
                url=send,
                rate=rate,
                feedback=feedback,
                newest=newest,
                api_keys=tuple(api_key or ()),
            ),
            as_json,
        )
    if file := csv or dump:
        _write_file(file, config, is_dump=dump is not None, overwrite=overwrite)
        typer.echo(json.dumps({"path": str(file), "papers": papers}) if as_json else str(file))
    if output is not None:
        from classmark.dataset import MANIFEST_FILE, sample_dataset
        from classmark.storage import staged_folder

        with (
            progress_bar() as progress,
            staged_folder(output, last=MANIFEST_FILE, overwrite=overwrite) as folder,
        ):
            manifest = sample_dataset(
                folder,
                config,
                periods=_listed(periods),
                command=command_line(),
                overwrite=overwrite,
                progress=progress,
            )
        report(manifest, output, as_json=as_json)


def _send(config: SampleConfig, traffic: Traffic, as_json: bool) -> None:
    with progress_bar() as progress:
        sent = send_sample(config, traffic, progress)
    text = (
        f"{sent.papers:,} papers: {sent.answers:,} answers, {sent.errors:,} errors, "
        f"{sent.feedback:,} with feedback"
    )
    typer.echo(json.dumps(asdict(sent)) if as_json else text)


def _write_file(path: Path, config: SampleConfig, *, is_dump: bool, overwrite: bool) -> None:
    from classmark.dataset import sample_csv, sample_dump

    if path.exists() and not overwrite:
        raise UsageError(f"{path} already exists. Choose another file, or give --overwrite.")
    with progress_bar() as progress:
        (sample_dump if is_dump else sample_csv)(path, config, progress)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
