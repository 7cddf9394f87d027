"""Statistics as Markdown and as a page: complete, self-contained, and safe to open."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from classmark.dataset import DatasetConfig, SampleConfig, build_dataset, sample_dataset
from classmark.dataset.statistics.statistics import (
    Comparison,
    DatasetStatistics,
    Measured,
    compare,
    measure,
)
from classmark.errors import MissingExtra
from classmark.pages import frame
from classmark.pages.dataset import dataset_markdown, dataset_page
from dataset_records import Record, WriteSource, record

HARMFUL = "<script>alert(1)</script> a|b"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Measured, Measured]:
    folder = tmp_path_factory.mktemp("datasets")
    sample_dataset(folder / "old", SampleConfig(papers=300))
    sample_dataset(folder / "new", SampleConfig(papers=300, drift=1.0, seed=5))
    return measure(folder / "new"), measure(folder / "old")


@pytest.fixture
def after(both: tuple[Measured, Measured]) -> DatasetStatistics:
    return both[0].statistics


@pytest.fixture
def comparison(both: tuple[Measured, Measured]) -> Comparison:
    return compare(*both)


@pytest.fixture
def harmful(write_source: WriteSource, tmp_path: Path) -> DatasetStatistics:
    """Return the statistics of a dataset with a label that would be taken for HTML."""
    rows: list[Record] = [record(1, HARMFUL), record(2, "b")]
    config = DatasetConfig(labels="free", small="keep")
    build_dataset([write_source(rows)], tmp_path / "d", config)
    return measure(tmp_path / "d").statistics


class Page(HTMLParser):
    """The elements of a page, and whether each one was closed in order."""

    void = ("meta", "line", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(
    after: DatasetStatistics, comparison: Comparison
) -> None:
    text = dataset_page(after, comparison)
    page = Page(text)
    assert page.open == []
    assert not [tag for tag, _ in page.found if tag in ("script", "link", "img", "iframe")]
    assert not re.findall(r"""(?:src|href)=["'](?!#)[^"']*""", text)
    assert "url(http" not in text
    assert "@import" not in text


def test_every_reference_inside_the_page_leads_to_one_element(after: DatasetStatistics) -> None:
    found = Page(dataset_page(after)).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found:
        assert (attributes.get("xlink:href") or "#")[1:] in {"", *ids}


def test_plots_take_their_colours_from_the_page_in_light_and_dark(
    after: DatasetStatistics, comparison: Comparison
) -> None:
    text = dataset_page(after, comparison)
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 5
    assert not [plot for plot in plots if re.search(r"#[0-9a-f]{3}|style=|fill=|stroke=", plot)]
    assert all('role="img" aria-label="' in plot for plot in plots)
    assert "prefers-color-scheme: dark" in text


def test_the_same_statistics_give_the_same_page(after: DatasetStatistics) -> None:
    assert dataset_page(after) == dataset_page(after)


def test_invented_papers_are_said_to_be_in_both(after: DatasetStatistics) -> None:
    assert "The papers are invented" in dataset_page(after)
    assert "The papers are invented" in dataset_markdown(after)


def test_labels_are_text_on_the_page_and_in_markdown(harmful: DatasetStatistics) -> None:
    assert "<script" not in dataset_page(harmful)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a|b" in dataset_page(harmful)
    markdown = dataset_markdown(harmful)
    assert "<script" not in markdown
    assert r"&lt;script>alert(1)&lt;/script> a\|b" in markdown


def test_a_comparison_shows_what_moved_first(
    after: DatasetStatistics, comparison: Comparison
) -> None:
    markdown = dataset_markdown(after, comparison)
    assert markdown.startswith("## Dataset new against old\n")
    assert markdown.index("### How far apart") < markdown.index("### Category shifts")
    assert "JSD(P, Q) = ½ Σ p log₂(p/m)" in markdown
    largest = comparison.shifts[0]
    first = f"| {largest.code} | {largest.before:.2%} | {largest.after:.2%} |"
    assert first in markdown
    assert len(markdown) < 65_536, "the longest comment that GitHub takes"


def test_the_rows_of_a_markdown_table_have_as_many_cells_as_its_head(
    after: DatasetStatistics, comparison: Comparison
) -> None:
    for text in (dataset_markdown(after), dataset_markdown(after, comparison)):
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_without_jinja2_the_page_names_the_extra(
    after: DatasetStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"writing HTML pages.*classmark\[data\]"):
        dataset_page(after)
    assert dataset_markdown(after)
