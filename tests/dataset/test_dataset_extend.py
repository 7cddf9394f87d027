"""New papers join a dataset: no paper twice, none out of a split, counts that add up."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise, permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark.dataset import (
    DatasetConfig,
    ExtendConfig,
    NewPapers,
    build_dataset,
    extend_dataset,
    load_manifest,
)
from classmark.dataset.config import close_periods
from classmark.errors import InvalidConfig, InvalidDataset, StorageFailed, UnreadableSource
from classmark.records import DatasetManifest
from dataset_records import Record, WriteSource, record, records
from recording import Recording

SPLITS = ("train", "valid", "test")
COUNTS = {"cs.LG": 30, "math.CO": 20}
CONFIG = ExtendConfig(test_share=0.2, valid_share=0.1)


def rows_of(folder: Path) -> pl.DataFrame:
    frames = [
        pl.read_parquet(folder / f"{name}.parquet").with_columns(split=pl.lit(name))
        for name in SPLITS
    ]
    return pl.concat(frames)


def new_record(number: int, code: str = "cs.LG", **values: Any) -> Record:
    day = f"2020-0{1 + number % 9}-{1 + number % 28:02d}"
    return record(50_000 + number, code, published_date=day, updated_date=day, **values)


def parent_of(write_source: WriteSource, **options: Any) -> Path:
    source = write_source(records(COUNTS), "before.jsonl")
    folder = source.parent / "before"
    build_dataset([source], folder, DatasetConfig(**{"min_papers": 2, **options}))
    return folder


@pytest.fixture
def parent(write_source: WriteSource) -> Path:
    return parent_of(write_source)


def extend(
    parent: Path, *sources: Path, name: str = "after", config: ExtendConfig = CONFIG
) -> tuple[Path, DatasetManifest]:
    folder = parent.parent / name
    new = NewPapers(sources=sources, command="classmark dataset extend")
    return folder, extend_dataset(parent, new, folder, config, progress=Recording())


# --- what it writes -------------------------------------------------------------------------------


def test_papers_of_the_parent_keep_their_splits_and_new_ones_are_a_period_of_their_own(
    parent: Path, write_source: WriteSource
) -> None:
    folder, manifest = extend(parent, write_source([new_record(n) for n in range(20)]))
    before, after = rows_of(parent), rows_of(folder)
    old = after.filter(pl.col("id").is_in(before["id"].implode()))
    assert dict(old.select("id", "split").iter_rows()) == dict(
        before.select("id", "split").iter_rows()
    )
    assert manifest.periods == ("until-2016-07-28", "from-2016-07-29")
    assert set(old["period"]) == {"until-2016-07-28"}
    new = after.filter(~pl.col("id").is_in(before["id"].implode()))
    assert set(new["period"]) == {"from-2016-07-29"}
    assert Counter(new["split"]) == {"train": 14, "valid": 2, "test": 4}
    assert load_manifest(folder) == manifest
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        *(f"{name}.parquet" for name in sorted(SPLITS)),
    ]


def test_the_newest_papers_are_for_testing_and_those_before_them_for_validation(
    parent: Path, write_source: WriteSource
) -> None:
    folder, _ = extend(parent, write_source([new_record(n) for n in range(30)]))
    new = rows_of(folder).filter(pl.col("period") == "from-2016-07-29")
    days = [new.filter(pl.col("split") == split)["published_date"] for split in SPLITS]
    for earlier, later in pairwise(days):
        assert earlier.max() <= later.min()  # type: ignore[operator]


def test_the_manifest_says_what_it_extends_and_what_changed(
    parent: Path, write_source: WriteSource
) -> None:
    rows = [*(new_record(n) for n in range(9)), new_record(10, "no.such")]
    folder, manifest = extend(parent, write_source(rows))
    before = load_manifest(parent)
    assert manifest.lineage == (before.digest,)
    changes = manifest.config["extension"]
    assert changes["categories"] == {
        "cs.LG": {"before": 30, "after": 39},
        "math.CO": {"before": 20, "after": 20},
    }
    assert changes["new"] == {"train": 6, "valid": 1, "test": 2}
    assert manifest.dropped == {"unknown_category": 1}
    again = write_source([new_record(n) for n in range(20, 29)], "more.jsonl")
    _, second = extend(folder, again, name="second")
    assert second.lineage == (before.digest, manifest.digest)
    assert second.periods == (
        "until-2016-07-28",
        "2016-07-29-to-2020-09-09",
        "from-2020-09-10",
    )
    assert "lineage" not in json.loads((parent / "manifest.json").read_text())


def test_what_is_advised_about_dropped_rows_names_no_option_of_a_build(
    parent: Path, write_source: WriteSource
) -> None:
    rows = [*(new_record(n) for n in range(9)), new_record(10, "no.such"), new_record(11, "cs.CV")]
    _, manifest = extend(parent, write_source(rows))
    advice = {drop["reason"]: drop["advice"] for drop in manifest.config["notes"]["large_drops"]}
    assert advice["unknown_category"].startswith("The dataset has arXiv's categories: correct")
    assert advice["small_category"].startswith("Add more papers of these categories")


def test_a_new_category_joins_when_it_has_enough_papers(
    write_source: WriteSource, tmp_path: Path
) -> None:
    parent = parent_of(write_source, min_papers=5)
    many = [new_record(n, "hep-th") for n in range(6)]
    few = [new_record(n, "math.GT") for n in range(10, 13)]
    _, manifest = extend(parent, write_source([*many, *few, new_record(20, "math.CO")]))
    assert manifest.labels == ("cs.LG", "hep-th", "math.CO")
    assert manifest.dropped == {"small_category": 3}


@pytest.mark.parametrize("end", ["2017-12-31", "2016-05-31"])
def test_periods_of_the_parent_stay_and_the_open_one_is_closed(
    write_source: WriteSource, end: str
) -> None:
    parent = parent_of(write_source, periods=(end,))
    old = load_manifest(parent).periods
    folder, manifest = extend(parent, write_source([new_record(n) for n in range(20)]))
    assert set(rows_of(folder)["period"]) <= set(manifest.periods)
    assert manifest.periods[0] == old[0]
    if end == "2017-12-31":
        assert manifest.periods == old == ("until-2017", "from-2018")
    else:
        assert manifest.periods[1:] == ("2016-06-01-to-2016-07-28", "from-2016-07-29")


@pytest.mark.parametrize(
    ("names", "end", "closed"),
    [
        ((), "2019-12-31", ("until-2019", "from-2020")),
        ((), "2019-11-30", ("until-2019-11-30", "from-2019-12-01")),
        (("until-2017", "from-2018"), "2018-12-31", ("until-2017", "2018", "from-2019")),
        (("until-2017", "from-2018"), "2020-12-31", ("until-2017", "2018-2020", "from-2021")),
        (
            ("until-2017", "from-2018"),
            "2020-02-29",
            ("until-2017", "2018-to-2020-02-29", "from-2020-03-01"),
        ),
        (("until-2017", "from-2018"), "2016-01-01", ("until-2017", "from-2018")),
    ],
)
def test_an_open_period_ends_on_a_day(
    names: tuple[str, ...], end: str, closed: tuple[str, ...]
) -> None:
    assert close_periods(names, end) == closed


def test_late_papers_of_a_dataset_cut_by_date_go_where_their_date_says(
    write_source: WriteSource,
) -> None:
    parent = parent_of(
        write_source, split="time", train_until="2016-07-10", valid_until="2016-07-20"
    )
    late = [
        record(60_000 + day, published_date=f"2016-07-{day}", summary=f"Late work {day} on heat.")
        for day in (10, 15, 25)
    ]
    folder, manifest = extend(parent, write_source(late))
    splits = dict(rows_of(folder).select("id", "split").iter_rows())
    assert [splits[row["id"]] for row in late] == ["train", "valid", "test"]
    assert manifest.periods == ()  # none is newer than the dataset


# --- the same papers, and the same inputs ---------------------------------------------------------


def test_the_order_of_the_files_does_not_matter_even_where_ids_are_numbers(
    parent: Path, write_source: WriteSource
) -> None:
    groups = [[{**new_record(10 * group + n), "id": n} for n in range(8)] for group in range(3)]
    files = [write_source(rows, f"new-{n}.jsonl") for n, rows in enumerate(groups)]
    digests = {
        extend(parent, *order, name=f"after-{n}")[1].digest
        for n, order in enumerate(permutations(files))
    }
    assert len(digests) == 1
    _, manifest = extend(parent, files[0], files[0])
    assert manifest.dropped == {"duplicate_id": 8}


def test_of_two_files_that_differ_in_authors_only_the_same_one_counts_in_any_order(
    parent: Path, write_source: WriteSource
) -> None:
    files = [
        write_source([new_record(1, authors=f"['{name}']")], f"{name}.jsonl")
        for name in ("Ada", "Bo", "Cleo")
    ]
    digests = {
        extend(parent, *order, name=f"of-{n}")[1].digest
        for n, order in enumerate(permutations(files))
    }
    assert len(digests) == 1


@st.composite
def harvests(draw: st.DrawFn) -> list[Record]:
    """New papers, old ones again, and others that share an id or a text."""
    kinds = st.sampled_from(["new", "same", "same id", "same text", "twice"])
    rows: list[Record] = []
    for number, kind in enumerate(draw(st.lists(kinds, min_size=1, max_size=12))):
        old = record(1 + number % 50, updated_date="2020-02-02")
        fresh = new_record(number)
        if kind == "new":
            rows.append(fresh)
        elif kind == "same":
            rows.append(old)
        elif kind == "same id":
            rows.append({**fresh, "id": f"arXiv:{old['id']}v3"})
        elif kind == "same text":
            rows.append({**fresh, "summary": f" {old['summary'].upper()} "})
        else:
            rows += [fresh, {**fresh, "id": f"{fresh['id']}v2"}]
    return rows


def is_known(row: Record) -> bool:
    return "1607.000" in row["id"] or row["summary"].startswith(" ")


@pytest.fixture(scope="module")
def shared_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    source = folder / "before.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in records(COUNTS)))
    build_dataset([source], folder / "before", DatasetConfig(min_papers=2))
    return folder / "before"


@given(rows=harvests())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_harvested_no_paper_is_twice_none_moves_and_the_counts_add_up(
    shared_parent: Path, rows: list[Record]
) -> None:
    before = rows_of(shared_parent)
    with TemporaryDirectory() as place:
        source = Path(place, "new.jsonl")
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        new, output = NewPapers(sources=[source]), Path(place, "after")
        if all(is_known(row) for row in rows):
            with pytest.raises(InvalidDataset, match="no new paper"):
                extend_dataset(shared_parent, new, output, CONFIG)
            assert not output.exists()
            return
        manifest = extend_dataset(shared_parent, new, output, CONFIG)
        after = rows_of(output)
    assert after["id"].n_unique() == after["summary"].str.to_lowercase().n_unique() == after.height
    kept = after.filter(pl.col("id").is_in(before["id"].implode()))
    columns = [name for name in before.columns if name != "period"]
    assert kept.select(columns).sort("id").equals(before.select(columns).sort("id"))
    assert manifest.read == manifest.kept + sum(manifest.dropped.values()) == 50 + len(rows)
    assert manifest.kept == after.height
    sizes = Counter(after.select("split", "category_code").iter_rows())
    assert sizes == {
        (split, code): n for split, codes in manifest.counts.items() for code, n in codes.items()
    }
    changes = manifest.config["extension"]
    assert sum(changes["new"].values()) == after.height - before.height
    assert {code: c["after"] for code, c in changes["categories"].items()} == Counter(
        after["category_code"]
    )


# --- bad input ------------------------------------------------------------------------------------


def test_without_new_papers_it_says_so_and_writes_nothing(
    parent: Path, write_source: WriteSource
) -> None:
    with pytest.raises(InvalidConfig, match="nothing to add"):
        extend(parent)
    with pytest.raises(InvalidDataset, match=r"no new paper.*known_id 50"):
        extend(parent, write_source(records(COUNTS), "again.jsonl"))
    unknown = write_source([new_record(n, "no.such") for n in range(9)], "unknown.jsonl")
    with pytest.raises(InvalidDataset, match=r"unknown.jsonl:1, .*'no.such'.* build another data"):
        extend(parent, unknown)
    with pytest.raises(UnreadableSource, match=r"missing\.jsonl"):
        extend(parent, parent / "missing.jsonl")
    assert not (parent.parent / "after").exists()
    assert not [path for path in parent.parent.iterdir() if path.name.startswith(".")]


def test_a_half_written_or_changed_parent_is_refused(
    parent: Path, write_source: WriteSource
) -> None:
    source = write_source([new_record(1)])
    valid = (parent / "valid.parquet").read_bytes()
    (parent / "valid.parquet").unlink()
    with pytest.raises(InvalidDataset, match="valid split, is missing"):
        extend(parent, source)
    (parent / "valid.parquet").write_bytes(valid[:-9])
    with pytest.raises(InvalidDataset, match="has changed since"):
        extend(parent, source)
    (parent / "manifest.json").unlink()
    with pytest.raises(InvalidDataset, match=r"it has no manifest\.json"):
        extend(parent, source)


def test_a_dataset_of_another_taxonomy_or_of_other_labels_is_refused(
    parent: Path, write_source: WriteSource
) -> None:
    manifest = json.loads((parent / "manifest.json").read_text())
    (parent / "manifest.json").write_text(json.dumps({**manifest, "taxonomy": "1999"}))
    source = write_source([new_record(n) for n in range(5)])
    with pytest.raises(InvalidDataset, match="version '1999' of the taxonomy"):
        extend(parent, source)
    cooks = parent.parent / "cooks"
    rows = [record(n, "soup" if n % 2 else "bread") for n in range(1, 9)]
    free = DatasetConfig(labels="free", min_papers=2)
    build_dataset([write_source(rows, "cooks.jsonl")], cooks, free)
    with pytest.raises(InvalidDataset, match=r"none of the 5 new papers.*'cs\.LG'.*'bread'"):
        extend(cooks, source)


def test_the_output_may_not_be_the_parent(parent: Path, write_source: WriteSource) -> None:
    with pytest.raises(StorageFailed):
        extend(parent, write_source([new_record(1)]), name="before")


def test_a_manifest_whose_periods_do_not_fit_is_refused(
    parent: Path, write_source: WriteSource
) -> None:
    manifest = json.loads((parent / "manifest.json").read_text())
    (parent / "manifest.json").write_text(json.dumps({**manifest, "periods": ["a", "b", "c"]}))
    with pytest.raises(InvalidDataset, match="names 3 periods for 0 last days"):
        extend(parent, write_source([new_record(1)]))
