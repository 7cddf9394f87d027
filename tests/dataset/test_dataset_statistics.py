"""Statistics of datasets whose papers are few enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classmark.dataset import DatasetConfig, build_dataset
from classmark.dataset.statistics.statistics import Measured, compare, divergence, measure
from classmark.errors import InvalidDataset
from dataset_records import Record, WriteSource, record

Made = Callable[..., Path]
LONG = "the proof of this result is that for each of the groups we have in it a map which can be"


@pytest.fixture
def made(write_source: WriteSource, tmp_path: Path) -> Made:
    """Build a dataset folder from records, small categories kept."""

    def make(rows: list[Record], name: str = "d", **options: Any) -> Path:
        config = DatasetConfig(**{"min_papers": 1, "small": "keep", **options})
        build_dataset([write_source(rows, f"{name}.jsonl")], tmp_path / name, config)
        return tmp_path / name

    return make


def measured(folder: Path) -> Measured:
    return measure(folder)


def abstracts(*texts: str, code: str = "cs.LG") -> list[Record]:
    """Papers with these abstracts, and one of another category."""
    rows = [record(n, code, title="A title", summary=text) for n, text in enumerate(texts, 1)]
    return [*rows, record(99, "hep-th", title="Else", summary="Something else entirely.")]


def test_categories_are_counted_largest_first_and_years_in_order(made: Made) -> None:
    dates = ["2016-01-01", "2014-01-01", "2016-05-05"]
    codes = ["math.CO", "cs.LG", "cs.LG"]
    rows = [record(n, codes[n], published_date=dates[n]) for n in range(3)]
    statistics = measured(made(rows)).statistics
    assert list(statistics.categories.items()) == [("cs.LG", 2), ("math.CO", 1)]
    assert list(statistics.years.items()) == [("2014", 1), ("2016", 2)]
    assert statistics.kept == 3
    assert statistics.splits == {"train": 3, "valid": 0, "test": 0}


def test_papers_without_a_date_stand_last(made: Made) -> None:
    rows = [record(1), record(2, "hep-th", published_date="", updated_date="")]
    assert measured(made(rows, labels="free")).statistics.years == {"2016": 1, "unknown": 1}


def test_lengths_are_words(made: Made) -> None:
    statistics = measured(made(abstracts("one two three", "one " * 25, "one " * 500))).statistics
    assert statistics.abstract_words["max"] == 500
    assert statistics.abstract_words["mean"] == round((3 + 25 + 500 + 3) / 4, 1)
    assert statistics.abstract_histogram[0] == 2
    assert statistics.abstract_histogram[20] == 1
    assert statistics.abstract_histogram[400] == 1
    assert statistics.title_words["max"] == 2


def test_cross_lists_are_counted_by_number_and_by_pair(made: Made) -> None:
    rows = [
        record(1, "cs.LG", categories="cs.LG stat.ML"),
        record(2, "cs.LG", categories="cs.LG stat.ML math.ST"),
        record(3, "hep-th"),
    ]
    statistics = measured(made(rows)).statistics
    assert statistics.listed == {1: 1, 2: 1, 3: 1}
    assert statistics.cross_listed == 2
    assert statistics.pairs == (("cs.LG", "stat.ML", 2), ("cs.LG", "math.ST", 1))


def test_language_is_told_by_function_words_and_by_script(made: Made) -> None:
    french = "nous montrons que les groupes finis sont toujours des groupes de ce genre " * 2
    russian = "мы показываем что все конечные группы являются группами этого рода и так далее " * 2
    greek = f"{LONG} α β γ δ ε ζ η θ"
    language = measured(made(abstracts(LONG, french, russian, greek))).statistics.language
    assert language.judged == 4
    assert language.not_english == 2
    assert language.not_latin == 1
    assert language.examples == ("1607.00002", "1607.00003")


def test_words_are_counted_in_lower_case_over_titles_and_abstracts(made: Made) -> None:
    found = measured(made(abstracts("Groups groups GROUPS, rings")))
    counts = dict(found.vocabulary.iter_rows())
    assert counts["groups"] == 3
    assert counts["title"] == 1
    words = found.statistics.words
    assert words.running == sum(counts.values())
    assert words.distinct == len(counts)
    assert words.once == sum(count == 1 for count in counts.values())


def test_the_vocabulary_does_not_depend_on_the_slices(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made([record(n, ["cs.LG", "hep-th"][n % 2]) for n in range(40)])
    whole = measured(folder)
    monkeypatch.setattr("classmark.dataset.statistics.tally._SLICE_PAPERS", 3)
    sliced = measured(folder)
    assert sliced.vocabulary.equals(whole.vocabulary)
    assert sliced.statistics == whole.statistics


def test_duplicates_are_those_the_build_dropped_and_those_it_left(made: Made) -> None:
    near = f"{LONG} drawn in seven steps"
    rows = abstracts(LONG, near, f"{LONG} one", "Quite another abstract of few words.")
    rows.append({**rows[3], "id": "1607.00050"})
    duplicates = measured(made(rows)).statistics.duplicates
    assert duplicates.dropped_texts == 1
    assert duplicates.near == 3
    assert ("1607.00001", "1607.00002") in duplicates.examples
    assert duplicates.same_title == 4


def test_a_shared_beginning_alone_is_no_near_duplicate(made: Made) -> None:
    opening = "in this paper we study the set of all"
    one, other = " ".join(f"x{'a' * n}" for n in range(20)), " ".join("y" * n for n in range(1, 20))
    assert (
        measured(
            made(abstracts(f"{opening} {one}", f"{opening} {other}"))
        ).statistics.duplicates.near
        == 0
    )


def test_statistics_are_json(made: Made) -> None:
    folder = made(abstracts("one", "two"))
    found = measured(folder)
    value = json.loads(json.dumps(found.statistics.to_dict()))
    assert value["kept"] == 3
    assert json.loads(json.dumps(compare(found, found).to_dict()))["in_both"] == 3


def test_a_changed_dataset_is_not_measured(made: Made) -> None:
    folder = made(abstracts("one", "two"))
    (folder / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidDataset, match=r"the train split, has changed"):
        measure(folder)


@pytest.mark.parametrize(
    ("one", "other", "bits"),
    [
        ({"a": 3, "b": 1}, {"a": 6, "b": 2}, 0.0),
        ({"a": 1}, {"b": 5}, 1.0),
        ({"a": 1}, {"a": 1, "b": 1}, 0.3112781244591328),
    ],
)
def test_the_divergence_is_jensen_shannons_in_bits(
    one: dict[str, int], other: dict[str, int], bits: float
) -> None:
    assert divergence(one, other) == pytest.approx(bits, abs=1e-12)
    assert divergence(other, one) == pytest.approx(bits, abs=1e-12)


def test_a_dataset_does_not_differ_from_itself(made: Made) -> None:
    found = measured(made(abstracts("one", "two")))
    same = compare(found, found)
    assert same.category_divergence == same.year_divergence == same.word_divergence == 0
    assert same.new_words == 0
    assert not any(shift.change for shift in same.shifts)


def test_a_comparison_names_what_moved_largest_first(made: Made) -> None:
    before = measured(
        made([record(n, c) for n, c in enumerate(["cs.LG", "cs.LG", "hep-th", "math.CO"])], "a")
    )
    codes = ["cs.LG", "hep-th", "hep-th", "econ.EM"]
    rows = [record(n, code, title="Novelty") for n, code in enumerate(codes, 2)]
    after = measured(made(rows, "b"))
    found = compare(after, before)
    changes = {shift.code: shift.change for shift in found.shifts}
    assert changes == {"cs.LG": -0.25, "econ.EM": 0.25, "hep-th": 0.25, "math.CO": -0.25}
    assert [abs(s.change) for s in found.shifts] == sorted(map(abs, changes.values()))[::-1]
    assert found.in_both == 2
    assert found.new_words == pytest.approx(4 / sum(after.vocabulary["count"]))
    assert {word for word, *_ in found.words[:2]} == {"novelty", "title"}
    tables = [dict(m.vocabulary.iter_rows()) for m in (after, before)]
    assert found.word_divergence == pytest.approx(divergence(*tables))
