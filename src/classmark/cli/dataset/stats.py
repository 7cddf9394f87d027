"""``classmark dataset stats``: what is in a dataset, and how it differs from another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.dataset.needs import need_packages
from classmark.cli.output import check_ending
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.cli.progress import progress_bar

if TYPE_CHECKING:
    from classmark.dataset.statistics.statistics import Comparison, DatasetStatistics

Folder = Annotated[
    Path, typer.Argument(click_type=COPY, metavar="DIR", help="Folder of a dataset.")
]
Against = Annotated[
    Path | None,
    typer.Option(
        click_type=COPY, metavar="DIR2", help="Folder of an earlier dataset to compare with."
    ),
]
Html = Annotated[
    AnyPlace | None,
    typer.Option(click_type=ANYWHERE, metavar="FILE", help="Write one page with plots."),
]
Markdown = Annotated[
    AnyPlace | None,
    typer.Option(click_type=ANYWHERE, metavar="FILE", help="Write Markdown for a comment."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")]


def stats(
    directory: Folder,
    *,
    against: Against = None,
    html: Html = None,
    markdown: Markdown = None,
    as_json: AsJson = False,
) -> None:
    """Count categories, years, lengths, cross-lists, language, words and duplicates.

    With --against the differences come first: shifts of categories by size, words, and the
    Jensen-Shannon divergence in bits.
    """
    need_packages("counting what is in a dataset")
    from classmark.dataset.statistics.statistics import compare, measure
    from classmark.pages.dataset import dataset_markdown, dataset_page
    from classmark.storage import check_apart, check_file_place, write_text

    for path in filter(None, (html, markdown)):
        check_file_place(path)
    check_apart((html, markdown), (directory, against))
    check_ending("--html", html, (".html", ".htm"))
    check_ending("--markdown", markdown, (".md", ".markdown"))
    with progress_bar() as progress:
        after = measure(directory, progress)
        comparison = compare(after, measure(against, progress)) if against else None
    if html is not None:
        write_text(html, dataset_page(after.statistics, comparison))
    if markdown is not None:
        write_text(markdown, dataset_markdown(after.statistics, comparison))
    _report(after.statistics, comparison, as_json=as_json)


def _report(statistics: DatasetStatistics, comparison: Comparison | None, *, as_json: bool) -> None:
    if as_json:
        against = {"against": comparison.to_dict()} if comparison else {}
        typer.echo(json.dumps({**statistics.to_dict(), **against}))
        return
    for name, value in _summary(statistics, comparison):
        typer.echo(f"{name:<36}{value:>16}")
    if statistics.generated:
        typer.echo("generated: the papers are invented")


def _summary(
    statistics: DatasetStatistics, comparison: Comparison | None
) -> Iterator[tuple[str, str]]:
    language, duplicates = statistics.language, statistics.duplicates
    yield "papers", f"{statistics.kept:,}"
    yield "categories", f"{len(statistics.categories):,}"
    for code, count in list(statistics.categories.items())[:5]:
        yield f"  {code}", f"{count:,}"
    yield "years", " to ".join(dict.fromkeys((min(statistics.years), max(statistics.years))))
    yield "words in an abstract, median", f"{statistics.abstract_words['median']:.0f}"
    yield "cross-listed", f"{statistics.cross_listed:,}"
    yield "probably not English", f"{language.not_english:,}"
    yield "in another script", f"{language.not_latin:,}"
    yield "distinct words", f"{statistics.words.distinct:,}"
    yield "duplicates dropped", f"{duplicates.dropped_ids + duplicates.dropped_texts:,}"
    yield "near-duplicates left", f"{duplicates.near:,}"
    if comparison:
        yield "divergence of categories, bits", f"{comparison.category_divergence:.4f}"
        yield "divergence of words, bits", f"{comparison.word_divergence:.4f}"
        for shift in comparison.shifts[:5]:
            yield f"  {shift.code}, percentage points", f"{100 * shift.change:+.2f}"
