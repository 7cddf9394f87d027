from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark import dataset
from classmark.dataset import DatasetConfig, Origin, build_dataset, load_manifest
from classmark.dataset.build import build as build_module
from classmark.errors import (
    ContractViolation,
    InvalidConfig,
    InvalidDataset,
    LeakFound,
    StorageFailed,
    UnreadableSource,
)
from classmark.papers import read_papers
from classmark.records import DatasetManifest, Paper
from dataset_records import WriteSource, record, records
from recording import Recording

COUNTS = {"cs.LG": 30, "math.CO": 20}
SMALL = DatasetConfig(min_papers=2)


def build(source: Path, config: DatasetConfig = SMALL) -> tuple[Path, DatasetManifest]:
    folder = source.parent / "dataset"
    return folder, build_dataset([source], folder, config, overwrite=True)


def read_all(folder: Path) -> pl.DataFrame:
    names = ("train", "valid", "test")
    return pl.concat([pl.read_parquet(folder / f"{name}.parquet") for name in names])


def test_build_writes_three_splits_and_a_manifest_and_nothing_else(
    write_source: WriteSource,
) -> None:
    folder, manifest = build(write_source(records(COUNTS)))
    names = ["manifest.json", "test.parquet", "train.parquet", "valid.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert load_manifest(folder) == manifest
    assert {name: split.papers for name, split in manifest.splits.items()} == {
        "train": 40,
        "valid": 5,
        "test": 5,
    }
    assert manifest.labels == ("cs.LG", "math.CO")
    assert manifest.counts["test"] == {"cs.LG": 3, "math.CO": 2}
    assert not manifest.generated


def test_a_harvest_in_xml_gives_the_dataset_of_the_same_table(write_source: WriteSource) -> None:
    rows = records(COUNTS)
    _, manifest = build(write_source(rows))
    metadata = (
        '<arXiv xmlns="http://arxiv.org/OAI/arXiv/"><id>{id}</id><created>{published_date}</created>'
        "<title>{title}</title><abstract>{summary}</abstract>"
        "<categories>{category_code} cs.AI</categories></arXiv>"
    )
    found = [f"<record><metadata>{metadata.format(**row)}</metadata></record>" for row in rows]
    found.append('<record><header status="deleted"/></record>')
    source = write_source(rows).with_name("harvest.xml.xz")
    oai = "http://www.openarchives.org/OAI/2.0/"
    content = f'<OAI-PMH xmlns="{oai}"><ListRecords>{"".join(found)}</ListRecords></OAI-PMH>'
    source.write_bytes(lzma.compress(content.encode()))
    _, harvested = build(source)
    assert harvested.counts == manifest.counts
    assert (harvested.read, harvested.kept) == (51, 50)


def test_written_rows_have_the_kaggle_layout_with_categories_and_period(
    write_source: WriteSource,
) -> None:
    row = record(1, "cs.LG", categories="cs.LG stat.ML", summary="Some  words\nof text.")
    folder, _ = build(write_source([row, *records(COUNTS)[1:]]))
    written = read_all(folder).filter(pl.col("id") == "1607.00001")
    assert written.to_dicts() == [
        {
            "id": "1607.00001",
            "title": "Title 1",
            "category": "Machine Learning",
            "category_code": "cs.LG",
            "published_date": "2016-07-02",
            "updated_date": "2016-08-02",
            "authors": "['Ada Example', 'Bo Sample']",
            "first_author": "'Ada Example'",
            "summary": "Some words of text.",
            "summary_word_count": 4,
            "categories": "cs.LG stat.ML",
            "period": "",
        }
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("authors", "first"),
    [
        ("""["Kim O'Hara", 'Bo Sample']""", '"Kim O\'Hara"'),
        ("Ada Example and Bo Sample", "'Ada Example'"),
        ("Ada Example, Bo Sample", "'Ada Example'"),
        ("", "''"),
    ],
)
def test_first_author_is_found_in_lists_and_in_plain_names(
    write_source: WriteSource, authors: str, first: str
) -> None:
    folder, _ = build(write_source([record(1, authors=authors), *records(COUNTS)[1:]]))
    written = read_all(folder).filter(pl.col("id") == "1607.00001")
    assert written["first_author"].to_list() == [first if authors else ""]


def test_splits_are_ordered_by_date_then_id(write_source: WriteSource) -> None:
    folder, _ = build(write_source(list(reversed(records(COUNTS)))))
    train = pl.read_parquet(folder / "train.parquet")
    assert train.equals(train.sort("published_date", "id"))


def test_same_papers_in_another_order_give_the_same_digest(write_source: WriteSource) -> None:
    rows = records(COUNTS)
    _, first = build(write_source(rows))
    _, second = build(write_source(list(reversed(rows))))
    _, other = build(write_source(rows), DatasetConfig(min_papers=2, seed=8))
    assert first.digest == second.digest
    assert first.digest != other.digest


def test_every_dropped_row_is_counted_by_its_reason(write_source: WriteSource) -> None:
    rows = [
        *records(COUNTS),
        record(1),
        record(101, summary=record(1)["summary"]),
        record(102, summary="This paper has been withdrawn by the author."),
        record(103, summary=""),
        record(104, "astro-ph"),
        record(105, "cs.XX"),
        record(106, published_date="some day"),
        record(107, "hep-th"),
        record(108, ""),
        record(109, title="", summary=""),
    ]
    folder, manifest = build(write_source(rows))
    assert manifest.dropped == {
        "bad_date": 1,
        "duplicate_id": 1,
        "duplicate_text": 1,
        "empty_abstract": 1,
        "missing_text": 1,
        "no_category": 1,
        "retired_category": 1,
        "small_category": 1,
        "unknown_category": 1,
        "withdrawn": 1,
    }
    assert manifest.read == 60
    assert manifest.kept == read_all(folder).height == 50
    assert manifest.config["notes"]["small_categories"] == {"hep-th": 1}


@pytest.mark.slow
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(1, 30),
            st.sampled_from(["cs.LG", "math.CO", "cs.XX", "astro-ph"]),
            st.sampled_from(["words alone", "", "Withdrawn.", "shared words"]),
        ),
        max_size=40,
    )
)
def test_rows_read_are_kept_or_dropped_and_ids_are_disjoint(
    write_source: WriteSource, rows: list[tuple[int, str, str]]
) -> None:
    extra = [
        record(500 + number, code, summary=f"{text} {number}" if text == "words alone" else text)
        for number, code, text in rows
    ]
    folder, manifest = build(write_source([*records(COUNTS), *extra]))
    ids = read_all(folder)["id"]
    assert manifest.read == 50 + len(rows) == manifest.kept + sum(manifest.dropped.values())
    assert manifest.kept == ids.n_unique() == ids.len()
    assert manifest.kept == sum(split.papers for split in manifest.splits.values())
    for split, counts in manifest.counts.items():
        assert sum(counts.values()) == manifest.splits[split].papers


def test_manifest_tells_origin_options_and_sources(write_source: WriteSource) -> None:
    source = write_source(records(COUNTS))
    config = DatasetConfig(min_papers=2, periods=("2016-07-15",))
    folder = source.parent / "dataset"
    build_dataset([source], folder, config, origin=Origin(command="classmark dataset build x"))
    manifest = load_manifest(folder)
    assert manifest.command == "classmark dataset build x"
    assert manifest.config["min_papers"] == 2
    assert manifest.periods == ("until-2016-07-15", "from-2016-07-16")
    assert [(s["name"], s["read"]) for s in manifest.sources] == [("papers.jsonl", 50)]
    assert str(source.parent) not in json.dumps(manifest.to_dict())


def test_numbered_records_of_several_sources_do_not_collide(write_source: WriteSource) -> None:
    without_ids = [{**row, "id": ""} for row in records(COUNTS)]
    others = [{**row, "id": "", "summary": row["summary"] + " Again."} for row in records(COUNTS)]
    sources = [write_source(without_ids, "one.jsonl"), write_source(others, "two.jsonl")]
    folder = sources[0].parent / "dataset"
    manifest = build_dataset(sources, folder, SMALL)
    assert manifest.kept == 100
    assert {"1-7", "2-7"} <= set(read_all(folder)["id"])


def test_pages_of_records_without_ids_do_not_collide(write_source: WriteSource) -> None:
    rows = [{**row, "id": ""} for row in records(COUNTS)]
    source = write_source([], "one.jsonl")
    pages = [{"results": rows[:20]}, {"results": rows[20:35]}, {"results": rows[35:]}]
    source.write_text("".join(f"{json.dumps(page)}\n" for page in pages))
    other = source.with_name("two.jsonl")
    again = [{**row, "summary": row["summary"] + " Again."} for row in rows[:20]]
    other.write_text(f"\n{json.dumps({'results': again})}\n")
    manifest = build_dataset([source, other], source.parent / "dataset", SMALL)
    assert manifest.kept == 70
    ids = set(read_all(source.parent / "dataset")["id"])
    assert {"1-7", "1-2:7", "1-3:7", "2-2:7"} <= ids


@pytest.mark.slow
def test_a_built_split_can_be_built_from(write_source: WriteSource) -> None:
    rows = [record(n, code, categories=f"{code} cs.AI") for n, code in labelled()]
    folder, first = build(write_source(rows))
    again = folder.parent / "again"
    sources = [folder / f"{name}.parquet" for name in ("train", "valid", "test")]
    assert build_dataset(sources, again, SMALL).digest == first.digest


def labelled() -> list[tuple[int, str]]:
    return list(enumerate(Counter(COUNTS).elements(), start=1))


def test_free_labels_with_blanks_survive(write_source: WriteSource) -> None:
    rows = [record(n, f"Group  {code}") for n, code in labelled()]
    config = DatasetConfig(labels="free", min_papers=2)
    _, manifest = build(write_source(rows), config)
    assert manifest.labels == ("Group cs.LG", "Group math.CO")
    assert (manifest.label_space, manifest.taxonomy) == ("free", "")


def test_columns_of_other_names_are_mapped(write_source: WriteSource) -> None:
    rows = [
        {"nr": f"x{n}", "Titel": "T", "Text": f"Words {n}", "Fach": code} for n, code in labelled()
    ]
    columns = {"id": "nr", "title": "Titel", "abstract": "Text", "category_code": "Fach"}
    _, manifest = build(write_source(rows), DatasetConfig(columns=columns, min_papers=2))
    assert manifest.kept == 50
    assert manifest.columns == columns


def _as_rows(spell: Callable[[str, str], str]) -> Callable[[list[tuple[int, str, str]]], str]:
    return lambda papers: (
        "titles,summaries,terms\n"
        + "".join(f'Title {n},Words {n},"{spell(code, cross)}"\n' for n, code, cross in papers)
    )


CROSS_LISTED: dict[str, Callable[[list[tuple[int, str, str]]], str]] = {
    "comma.csv": _as_rows(lambda code, cross: f"{code}, {cross}"),
    "list.csv": _as_rows(lambda code, cross: f"['{code}', '{cross}']"),
    "one-string.jsonl": lambda papers: "".join(
        json.dumps({"title": f"Title {n}", "summary": f"Words {n}", "categories": [f"{a} {b}"]})
        + "\n"
        for n, a, b in papers
    ),
    "keywords.ris": lambda papers: "".join(
        f"TY  - JOUR\nTI  - Title {n}\nAB  - Words {n}\nKW  - {a}\nKW  - {b}\nER  - \n"
        for n, a, b in papers
    ),
    "keywords.enw": lambda papers: "".join(
        f"%0 Journal Article\n%T Title {n}\n%X Words {n}\n%K {a}\n{b}\n\n" for n, a, b in papers
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "write"), CROSS_LISTED.items(), ids=CROSS_LISTED)
def test_cross_listed_papers_are_kept_with_their_cross_lists(
    tmp_path: Path, name: str, write: Callable[[list[tuple[int, str, str]]], str]
) -> None:
    source = tmp_path / name
    source.write_text(write([(n, code, "stat.ML") for n, code in labelled()]))
    folder, manifest = build(source)
    assert (manifest.read, manifest.kept) == (50, 50)
    assert manifest.labels == ("cs.LG", "math.CO")
    written = read_all(folder)["categories"].to_list()
    assert all("stat.ML" in categories for categories in written)


def test_the_category_of_a_biblatex_entry_is_its_label(tmp_path: Path) -> None:
    source = tmp_path / "refs.bib"
    source.write_text(
        "".join(
            f"@online{{k{n}, title={{Title {n}}}, abstract={{Words {n}}}, "
            f"eprintclass={{{code}}}}}\n"
            for n, code in labelled()
        )
    )
    _, manifest = build(source)
    assert (manifest.kept, manifest.labels) == (50, ("cs.LG", "math.CO"))


def test_papers_without_date_are_kept_unless_dates_are_needed(write_source: WriteSource) -> None:
    rows = [*records(COUNTS)[1:], record(1, published_date=None, updated_date=None)]
    source = write_source(rows)
    assert build(source)[1].kept == 50
    dated = build(source, DatasetConfig(min_papers=2, periods=("2016-07-15",)))[1]
    assert dated.dropped == {"no_date": 1}


def test_labels_without_training_papers_are_noted(write_source: WriteSource) -> None:
    late = [record(200 + n, "hep-th", published_date="2020-01-01") for n in range(3)]
    config = DatasetConfig(
        min_papers=2, split="time", train_until="2016-07-20", valid_until="2016-12-31"
    )
    _, manifest = build(write_source([*records(COUNTS), *late]), config)
    assert manifest.config["notes"]["labels_without_training_papers"] == ["hep-th"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (records({"cs.LG": 5}), r"one category \('cs.LG'\), a classifier needs two or more"),
        (records({"cs.XX": 5}), r"no category.*5 rows were read, 0 kept; dropped: unknown_cat"),
        (records({"cs.LH": 5}), r"'cs\.LH'.*the nearest are cs\..*--labels free"),
        (
            [{"headline": "x"}],
            r"dropped: missing_field 1\. papers\.jsonl, line 1: .*--columns title=",
        ),
        (
            [{"id": "1", "title": "x", "category_code": ["cs.LG"]}],
            r"wrong_type 1\. papers\.jsonl, line 1: .* as categories, the primary one first\. C",
        ),
        ([record(1), record(2, "cs.CV")], r"For example papers.jsonl:1, .* Lower --min-papers, or"),
        (
            [record(n, ("cs.LG", "cs.CV")[n % 2], summary="") for n in range(1, 5)],
            r"empty_abstract 4\. For example papers.jsonl:1, .*: --columns abstract=NAME\.$",
        ),
    ],
)
def test_a_dataset_with_fewer_than_two_categories_is_refused(
    write_source: WriteSource, rows: list[dict[str, str]], message: str
) -> None:
    source = write_source(rows)
    with pytest.raises(InvalidDataset, match=message):
        build(source)
    assert list(source.parent.iterdir()) == [source]


def test_a_bad_record_is_counted_or_ends_a_strict_build(write_source: WriteSource) -> None:
    source = write_source(records(COUNTS))
    with source.open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    _, manifest = build(source)
    assert manifest.read == 51
    assert sum(manifest.dropped.values()) == 1
    with pytest.raises(ContractViolation, match=r"papers.jsonl, line 51: .*leave out --strict"):
        build(source, DatasetConfig(strict=True))


def test_unknown_categories_are_noted_with_their_numbers(write_source: WriteSource) -> None:
    rows = [*records(COUNTS), record(300, "cs.XX"), record(301, "Physics"), record(302, "cs.XX")]
    _, manifest = build(write_source(rows))
    assert manifest.dropped["unknown_category"] == 3
    assert manifest.config["notes"]["unknown_categories"] == {"Physics": 1, "cs.XX": 2}


def test_a_leak_fails_the_build_and_leaves_nothing(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = build_module.clean
    twin = records(COUNTS)[3]

    def clean_badly(*args: object) -> pl.DataFrame:
        papers = clean(*args)  # type: ignore[arg-type]
        twins = papers.filter(pl.col("id") == twin["id"])
        return pl.concat([papers, *[twins.with_columns(id=pl.lit(f"t{n}")) for n in range(60)]])

    monkeypatch.setattr(build_module, "clean", clean_badly)
    monkeypatch.setattr(build_module.Ledger, "check", lambda ledger, kept: None)
    source = write_source(records(COUNTS))
    with pytest.raises(LeakFound, match=r"1 papers are in two splits, by abstract"):
        build(source)
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.slow
def test_an_interrupted_build_leaves_what_was_there(write_source: WriteSource) -> None:
    source = write_source(records(COUNTS))
    folder, manifest = build(source)

    def interrupt(step: str) -> None:
        if step == "looking for leaks":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_dataset(
            [source], folder, SMALL, overwrite=True, progress=Recording(on_step=interrupt)
        )
    assert load_manifest(folder) == manifest
    assert sorted(path.name for path in source.parent.iterdir()) == ["dataset", "papers.jsonl"]


def test_progress_counts_the_records_read(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording()
    source = write_source(records({"cs.LG": 1500, "math.CO": 600}))
    build_dataset([source], source.parent / "d", SMALL, progress=recording)
    assert recording.counts == [1000, 1000]
    assert recording.steps == ["reading papers.jsonl", "cleaning", "writing", "looking for leaks"]


def test_a_dataset_does_not_depend_on_the_chunks_it_is_built_in(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*records(COUNTS), record(3, title="A"), record(60, summary="n/a")]
    _, whole = build(write_source(rows))
    monkeypatch.setattr("classmark.dataset.build.intake.CHUNK_PAPERS", 7)
    monkeypatch.setattr("classmark.dataset.build.intake._MIN_PART_PAPERS", 3)
    monkeypatch.setattr("classmark.dataset.build.intake._MAX_PARTS", 4)
    monkeypatch.setattr("classmark.dataset.build.writing._BATCH_PAPERS", 5)
    folder, parts = build(write_source(rows))
    assert parts == whole
    assert parts.dropped == {"duplicate_id": 1, "empty_abstract": 1}
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        *(f"{split}.parquet" for split in ("test", "train", "valid")),
    ]


@pytest.mark.slow
def test_a_split_that_is_streamed_holds_the_same_rows_whatever_the_chunks(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(records(COUNTS))
    folder, _ = build(source)
    whole = pl.read_parquet(folder / "train.parquet")
    monkeypatch.setattr("classmark.dataset.build.writing.MAX_WHOLE_PAPERS", 5)
    monkeypatch.setattr("classmark.dataset.build.writing._GROUP_PAPERS", 8)
    folder, streamed = build(source)
    assert pl.read_parquet(folder / "train.parquet").equals(whole)
    monkeypatch.setattr("classmark.dataset.build.intake._MIN_PART_PAPERS", 3)
    _, parts = build(source)
    assert parts == streamed


def test_output_that_cannot_be_written_is_named(write_source: WriteSource) -> None:
    source = write_source(records(COUNTS))
    with pytest.raises(StorageFailed, match=r"papers.jsonl"):
        build_dataset([source], source, SMALL)
    with pytest.raises(StorageFailed, match=r"a part of the path is a file"):
        build_dataset([source], source / "inside", SMALL)
    folder, _ = build(source)
    with pytest.raises(StorageFailed, match=r"already exists.*--overwrite"):
        build_dataset([source], folder, SMALL)


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="nothing to build from"):
        build_dataset([], tmp_path / "d", SMALL)
    with pytest.raises(UnreadableSource, match=r"absent\.csv"):
        build_dataset([tmp_path / "absent.csv"], tmp_path / "d", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_written_splits_are_read_back_by_the_readers_of_papers(
    write_source: WriteSource,
) -> None:
    folder, manifest = build(write_source(records(COUNTS)))
    papers = list(read_papers(folder / "train.parquet"))
    assert len(papers) == manifest.splits["train"].papers
    assert all(isinstance(paper, Paper) and paper.abstract for paper in papers)


def test_a_row_that_vanishes_uncounted_fails_the_build(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = build_module.clean
    monkeypatch.setattr(build_module, "clean", lambda *args: clean(*args).head(-1))
    with pytest.raises(ContractViolation, match=r"50 rows were read, but 49 kept and 0 dropped"):
        build(write_source(records(COUNTS)))


def test_the_room_names_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match=r"classmark.dataset.*no attribute 'build_cake'"):
        dataset.build_cake  # noqa: B018


def test_titles_and_abstracts_have_single_blanks_and_their_words_are_counted(
    write_source: WriteSource,
) -> None:
    odd = ("  two\u2003words ", "one\nand\x1ftwo\u00a0 three", "a", "  \t x", "caf\u00e9 bar")
    rows = [
        record(n, code, title=f"T {text}", summary=f"{text} of {n} {code}")
        for n, (text, code) in enumerate(product(odd, ("cs.LG", "math.CO") * 2), start=1)
    ]
    folder, manifest = build(write_source(rows))
    written = read_all(folder).sort("id")
    assert manifest.kept == len(rows)
    for row, paper in zip(rows, written.iter_rows(named=True), strict=True):
        assert paper["title"] == " ".join(row["title"].split())
        assert paper["summary"] == " ".join(row["summary"].split())
        assert paper["summary_word_count"] == len(row["summary"].split())
