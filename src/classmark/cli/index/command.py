"""``classmark index``: papers that ``classmark similar`` finds the most similar ones of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from classmark.cli.options import (
    AsJson,
    ColumnsOption,
    IndexedModel,
    columns_option,
    complete_model,
)
from classmark.cli.output import print_error, printable
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.cli.progress import progress_bar
from classmark.cli.train import require_training
from classmark.errors import UnreadableSource, UsageError

if TYPE_CHECKING:
    from classmark.neighbours import Change, Entry
    from classmark.neighbours.index import IndexManifest
    from classmark.papers import Columns
    from classmark.records import BadRecord, Paper, Progress
    from classmark.runtime import Classifier

app = typer.Typer(
    help="Build, change and show an index of papers, for `classmark similar`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Place = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]
Sources = Annotated[
    list[Path],
    typer.Argument(
        click_type=COPY, metavar="PAPERS...", help="Dataset folders, or files that classify reads."
    ),
]


@app.command("build")
def build(
    sources: Sources,
    *,
    output: Annotated[
        AnyPlace, typer.Option(click_type=ANYWHERE, metavar="INDEX", help="Folder to write.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="NAME, NAME@VERSION or PATH of a model of the fast tier.",
            show_default="the newest fast",
            autocompletion=complete_model,
        ),
    ] = None,
    bits: Annotated[
        int, typer.Option(metavar="N", help="Bits per number: 8, or 4 or 2 for a smaller index.")
    ] = 8,
    titles: Annotated[
        bool | None,
        typer.Option(
            "--titles/--no-titles",
            help="Keep titles.",
            show_default="those of files, not of datasets",
        ),
    ] = None,
    columns: ColumnsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing index.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write an index of papers, whole or not at all. If an id repeats, the last paper counts.

    Exit code 1 if a record could not be read; the others are indexed.
    """
    from classmark.neighbours import build_index
    from classmark.neighbours.index import MANIFEST_FILE
    from classmark.neighbours.rows import Bits
    from classmark.runtime import Classifier
    from classmark.storage import check_apart, check_folder_place, staged_folder

    if bits not in get_args(Bits):
        raise UsageError(f"--bits must be 8, 4 or 2, got {bits}.")
    check_apart((output,), sources)
    classifier = Classifier(model)
    reading = Reading(classifier, columns_option(columns), titles=titles)
    with (
        staged_folder(output, last=MANIFEST_FILE, overwrite=overwrite) as folder,
        progress_bar("indexing") as progress,
    ):
        check_folder_place(folder, overwrite=overwrite)
        done = build_index(
            folder,
            reading.batches(sources, progress),
            classifier.model,
            bits=cast("Bits", bits),
            overwrite=overwrite,
        )
    _report(done, as_json=as_json)
    reading.end()


@app.command("add")
def add(
    index: Place,
    sources: Sources,
    *,
    columns: ColumnsOption = None,
    as_json: AsJson = False,
) -> None:
    """Add papers, with the model of the index; papers whose id exists are replaced."""
    from classmark.neighbours import Index, add_papers
    from classmark.storage import check_apart

    check_apart((index,), sources)
    opened = Index.open(index)
    classifier = model_of(opened.manifest, index)
    titles = True if opened.manifest.has_titles else None
    reading = Reading(classifier, columns_option(columns), titles=titles)
    with progress_bar("indexing") as progress:
        done = add_papers(index, reading.batches(sources, progress), classifier.model)
    _report(done, as_json=as_json)
    reading.end()


@app.command("remove")
def remove(
    index: Place,
    ids: Annotated[list[str], typer.Argument(metavar="IDS...", help="Ids of papers.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Remove papers; if one of them is not in the index, nothing changes."""
    from classmark.neighbours import remove_papers

    _report(remove_papers(index, ids), as_json=as_json)


@app.command("calibrate")
def calibrate(
    index: Place,
    dataset: Annotated[
        Path,
        typer.Argument(
            click_type=COPY, metavar="DATASET", help="Folder of `classmark dataset build`."
        ),
    ],
    *,
    split: Annotated[
        str, typer.Option(metavar="S", help="Papers that the model was not fitted on.")
    ] = "valid",
    model: IndexedModel = None,
    as_json: AsJson = False,
) -> None:
    """Find out how far to trust the papers of an index, for `classify --index`.

    Half of the split's papers show whether neighbours help; if not, the index stays as it was.
    """
    require_training()
    from classmark.neighbours import Index
    from classmark.pipeline.neighbours import calibrate_index

    classifier = model_of(Index.open(index).manifest, index, model)
    with progress_bar("asking") as progress:
        done = calibrate_index(index, classifier, dataset, split, progress)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    for name, gain in (("text alone", done.text), ("with authors", done.authors)):
        what = "asked" if gain.helps else "not asked"
        typer.echo(
            f"{name:<12}  {what}: top-1 {gain.top_1_before:.3f} -> {gain.top_1_after:.3f} on "
            f"{gain.papers:,} unsure papers"
        )


@app.command("info")
def info(
    index: Annotated[
        Path, typer.Argument(click_type=COPY, metavar="INDEX", help="Folder of the index.")
    ],
    as_json: AsJson = False,
) -> None:
    """Verify an index, and say what is in it."""
    from classmark.neighbours import Index

    opened = Index.open(index)
    manifest = opened.manifest
    years = opened.years[opened.years > 0]
    facts: dict[str, Any] = {
        "papers": manifest.papers,
        "categories": len(manifest.codes),
        "first_year": int(years.min()) if len(years) else None,
        "last_year": int(years.max()) if len(years) else None,
        "titles": manifest.has_titles,
        "bits": manifest.bits,
        "lists": manifest.lists,
        "calibrated": manifest.evidence is not None,
        "bytes": sum(size for size, _ in manifest.files.values()),
        "model": manifest.model.to_dict(),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    model = manifest.model
    facts["model"] = printable(f"{model.name}@{model.version} ({model.digest[:12]})")
    for name, value in facts.items():
        if value is None:
            continue
        typer.echo(f"{name.replace('_', ' '):<10}  {f'{value:,}' if _is_count(name) else value}")


class Reading:
    """Reads papers and makes their vectors; bad records are reported and counted."""

    def __init__(
        self, classifier: Classifier, columns: Columns, *, titles: bool | None = None
    ) -> None:
        self._classifier = classifier
        self._columns = classifier.columns.overruled_by(columns)
        self._titles = titles
        self._bad = self._read = 0

    def batches(self, sources: list[Path], progress: Progress) -> Iterator[tuple[list[Entry], Any]]:
        """Yield entries and vectors of all papers.

        Raises:
            UnreadableSource: a file does not exist, or cannot be read.
            InvalidDataset: a folder is not a dataset.
        """
        from classmark.runtime import in_batches

        for source in sources:
            keep_titles = not source.is_dir() if self._titles is None else self._titles
            papers = self._papers(source, is_alone=len(sources) == 1)
            for batch in in_batches(papers, lambda paper: paper.size_chars):
                entries = [_entry(paper, keep_title=keep_titles) for paper in batch]
                yield entries, self._classifier.vectors(batch)
                progress.advance(len(batch))

    def end(self) -> None:
        """End the command with exit code 1 if a record could not be read."""
        if self._bad:
            print_error(f"{self._bad} of {self._read} records could not be read.")
            raise typer.Exit(1)

    def _papers(self, source: Path, *, is_alone: bool) -> Iterator[Paper]:
        from classmark.papers import read_papers
        from classmark.records import BadRecord
        from classmark.runtime.intake import read_items

        files, free = _files(source)
        whole_labels = free or self._classifier.categories.space == "free"
        for file in files:
            columns = None if source.is_dir() else self._columns
            for item in read_papers(file, columns=columns, whole_labels=whole_labels):
                self._read += 1
                (record,) = read_items(item, errors="return")
                if isinstance(record, BadRecord):
                    self._note(record, file)
                elif source.is_dir() or (is_alone and record.id is not None):
                    yield record
                else:
                    yield replace(record, id=_id_among_files(record, file))

    def _note(self, record: BadRecord, file: Path) -> None:
        self._bad += 1
        print_error(f"error: {record.line(str(file))}")


def model_of(manifest: IndexManifest, index: Path, wanted: str | None = None) -> Classifier:
    """Return the model of an index, which must be installed.

    Raises:
        BundleNotFound: it is not installed.
        IndexIncompatible: the installed one of its name is another.
    """
    from classmark.neighbours import Index
    from classmark.runtime import Classifier

    classifier = Classifier(wanted or f"{manifest.model.name}@{manifest.model.version}")
    Index.open(index, model=classifier.model)
    return classifier


def _files(source: Path) -> tuple[list[Path], bool]:
    """Return the files of papers of a source, and whether their labels are the user's own."""
    if not source.is_dir():
        if not source.exists():
            raise UnreadableSource(f"no file {str(source)!r}. Check the path.")
        return [source], False
    from classmark.cli.dataset.needs import need_packages

    need_packages("an index of a dataset")
    from classmark.dataset import load_manifest

    manifest = load_manifest(source)
    return [source / split.file for split in manifest.splits.values()], (
        manifest.label_space == "free"
    )


def _entry(paper: Paper, *, keep_title: bool) -> Entry:
    from classmark.neighbours import Entry

    own = (paper.category_code,) if paper.category_code else ()
    year = (paper.published_date or "")[:4]
    return Entry(
        id=paper.id or str(paper.place),
        year=int(year) if year.isascii() and year.isdigit() else 0,
        categories=tuple(dict.fromkeys((*own, *paper.categories))),
        title=paper.title_line if keep_title else "",
    )


def _id_among_files(paper: Paper, file: Path) -> str:
    """Return its id; of one without, whose line other files have too, with the name of the file."""
    from classmark.papers import is_place

    if paper.id is None:
        return file.name
    is_own = not is_place(paper.id) or paper.id.rpartition(":")[2] != str(paper.place)
    return paper.id if is_own else f"{file.name}:{paper.id}"


def _is_count(name: str) -> bool:
    return name in ("papers", "categories", "lists", "bytes")


def _report(done: Change, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    changes = {"added": done.added, "replaced": done.replaced, "removed": done.removed}
    words = ", ".join(f"{n:,} {name}" for name, n in changes.items() if n) or "nothing changed"
    noun = "paper" if done.papers == 1 else "papers"
    typer.echo(f"{words}; the index has {done.papers:,} {noun}.")
