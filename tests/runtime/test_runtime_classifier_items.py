"""What is missing, what is wrong, and rows of tables, where many papers are given in Python."""

from __future__ import annotations

import datetime
import sqlite3
from collections import namedtuple
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark import Answer, BadRecord, Classifier, Paper
from classmark.errors import InvalidPaper, UsageError
from classmark.papers import RECIPE_VERSION, read_papers

GRAPH = "A graph paper about a graph and its graph minor"


class NAType:
    """As that of pandas: neither equal nor unequal to anything, nor true or false."""

    def __eq__(self, other: object) -> Any:
        return self

    __ne__ = __eq__
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


class NaTType:
    """As that of pandas: a time that is none."""

    def __ne__(self, other: object) -> bool:
        return True


MISSING = [
    *(None, float("nan"), np.float64("nan"), np.float32("nan"), Decimal("nan")),
    *(NAType(), NaTType()),
]


@pytest.fixture
def classifier(make_bundle: Callable[..., Path], word_scorer: object) -> Classifier:
    make_bundle("tiny", "1.0", text_recipe=RECIPE_VERSION)
    return Classifier("tiny")


# --- missing values -----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING, ids=lambda value: type(value).__name__)
def test_a_missing_value_is_no_text(classifier: Classifier, missing: Any) -> None:
    expected = classifier.classify(Paper(title=GRAPH))
    for paper in (
        {"title": GRAPH, "abstract": missing, "id": missing},
        {"title": GRAPH, "abstract": missing, "summary": missing},
        Paper(id=missing, title=GRAPH, abstract=missing),
        Paper(id=missing, title=GRAPH),
    ):
        assert classifier.classify(paper) == expected
    for other in (
        {"title": missing, "abstract": GRAPH},
        {"title": missing, "abstract": missing, "summary": GRAPH},
        Paper(title=missing, abstract=GRAPH),
    ):
        assert classifier.classify(other).primary == "math.CO"
    needs = r"needs a text as 'title' and/or 'abstract' .*; keys seen: abstract, title"
    with pytest.raises(InvalidPaper, match=needs):
        classifier.classify({"title": missing, "abstract": missing})
    with pytest.raises(InvalidPaper, match="title and abstract are both empty"):
        classifier.classify(Paper(title=missing, abstract=missing))
    with pytest.raises(InvalidPaper, match=r"item 1: cannot classify a .* stands for no text"):
        classifier.classify([GRAPH, missing])


@pytest.mark.parametrize("wrong", [3, 2.5, ["a"], b"graph", {"a": 1}])
def test_what_is_not_a_text_is_refused_by_its_type(classifier: Classifier, wrong: Any) -> None:
    for paper in ({"abstract": wrong}, Paper(abstract=wrong)):
        with pytest.raises(InvalidPaper, match="abstract must be a string, got"):
            classifier.classify(paper)


def test_of_a_list_of_titles_the_first_counts(classifier: Classifier) -> None:
    assert classifier.classify({"title": [GRAPH, "another"]}).primary == "math.CO"
    assert classifier.classify({"title": [], "abstract": GRAPH}).primary == "math.CO"


# --- errors in their places ---------------------------------------------------------------------


@pytest.mark.parametrize("missing", [*MISSING, 5], ids=lambda value: type(value).__name__)
def test_a_date_and_a_category_that_are_not_texts_are_read_as_of_a_mapping(missing: Any) -> None:
    classifier = Classifier()
    for date in (datetime.date(1990, 1, 1), missing):
        values = {"title": GRAPH, "authors": ("Edward Witten",), "published_date": date}
        for more in ({}, {"category_code": missing}):
            paper: Any = {**values, **more}
            answer = classifier.classify(Paper(**paper), check_category=True)
            assert answer == classifier.classify(paper, check_category=True)
            assert answer.author_category is None


def test_one_bad_item_does_not_fail_the_others(classifier: Classifier) -> None:
    items: list[Any] = [GRAPH, {"id": 7, "title": " "}, None, {"title": 3}, Paper(id="p"), GRAPH]
    results = classifier.classify(items, errors="return")
    assert [type(result) for result in results] == [Answer, *[BadRecord] * 4, Answer]
    assert results[0] == results[5] == classifier.classify(GRAPH)
    assert [result.to_dict() for result in results[1:3]] == [
        {
            "id": "7",
            "error": {
                "kind": "invalid_paper",
                "message": "item 1: title and abstract are both empty. Give at least one of them.",
            },
        },
        {
            "id": None,
            "error": {
                "kind": "invalid_paper",
                "message": "item 2: cannot classify a NoneType, which stands for no text. Give a "
                "title and/or an abstract.",
            },
        },
    ]
    assert [result.id for result in results[3:5]] == [None, "p"]
    with pytest.raises(InvalidPaper, match="item 1: title and abstract are both empty"):
        classifier.classify(items)
    with pytest.raises(InvalidPaper, match="item 1: title and abstract are both empty"):
        classifier.classify(items, errors="raise")


def test_bad_items_alone_give_bad_records(classifier: Classifier) -> None:
    assert [r.id for r in classifier.classify([{"id": "a"}, {"id": "b"}], errors="return")] == [
        "a",
        "b",
    ]
    assert classifier.classify([], errors="return") == []


def test_one_bad_paper_is_returned_alone(classifier: Classifier) -> None:
    result = classifier.classify({"id": "x", "title": ""}, errors="return")
    assert isinstance(result, BadRecord)
    assert result.id == "x"
    assert isinstance(classifier.classify(GRAPH, errors="return"), Answer)


def test_what_a_reader_gives_is_classified_as_it_comes(classifier: Classifier) -> None:
    table = f"id,title\na,{GRAPH}\nb,\nc,{GRAPH}\n".encode()
    good, bad, other = classifier.classify(read_papers(BytesIO(table)), errors="return")
    assert isinstance(good, Answer)
    assert isinstance(bad, BadRecord)
    assert bad.to_dict()["error"]["kind"] == "missing_text"
    assert other.id == "c"
    assert classifier.classify(bad, errors="return") == bad
    with pytest.raises(InvalidPaper, match=r"^item 1: line 3: title and abstract are empty"):
        classifier.classify(read_papers(BytesIO(table)))


def test_another_word_for_errors_is_refused(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="errors must be 'raise' or 'return', got 'ignore'"):
        classifier.classify([GRAPH], errors="ignore")  # type: ignore[call-overload]


@pytest.mark.parametrize("x", [None, 3, b"graph"])
def test_what_is_neither_paper_nor_list_is_an_error_of_the_call(
    classifier: Classifier, x: Any
) -> None:
    with pytest.raises(InvalidPaper, match="cannot classify a"):
        classifier.classify(x, errors="return")


# --- rows of tables -----------------------------------------------------------------------------


class Series:
    """As that of pandas: iterated by its values, asked by its keys."""

    def __init__(self, values: dict[Any, Any]) -> None:
        self._values = values

    def keys(self) -> list[Any]:
        return list(self._values)

    def __getitem__(self, key: Any) -> Any:
        return self._values[key]

    def __iter__(self) -> Any:
        return iter(self._values.values())


class DataFrame:
    """As that of pandas: iterated by the names of its columns."""

    columns = ("title", "abstract")
    shape = (1, 2)

    def keys(self) -> tuple[str, ...]:
        return self.columns

    def __iter__(self) -> Any:
        return iter(self.columns)


def rows() -> list[Any]:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute("SELECT 'p' AS id, ? AS title, NULL AS abstract", [GRAPH]).fetchone()
    connection.close()
    named = namedtuple("named", ["id", "title", "abstract"])
    series = Series({"id": "p", "title": GRAPH, "abstract": float("nan"), 4: "no field"})
    return [row, named("p", GRAPH, None), series]


@pytest.mark.parametrize("row", rows(), ids=lambda row: type(row).__name__)
def test_a_row_is_one_paper_not_a_list_of_its_cells(classifier: Classifier, row: Any) -> None:
    answer = classifier.classify(row)
    assert isinstance(answer, Answer)
    assert (answer.id, answer.primary) == ("p", "math.CO")
    assert classifier.classify([row]) == [answer]


def test_a_column_is_a_list_of_texts(classifier: Classifier) -> None:
    column: Any = Series({0: GRAPH, 1: GRAPH})
    assert len(classifier.classify(column)) == 2
    assert len(classifier.classify(np.array([GRAPH, GRAPH]))) == 2
    assert len(classifier.classify((GRAPH, GRAPH))) == 2


def test_a_whole_table_is_not_taken_for_the_names_of_its_columns(classifier: Classifier) -> None:
    table: Any = DataFrame()
    with pytest.raises(InvalidPaper, match=r'Give its rows: table\.to_dict\("records"\)'):
        classifier.classify(table)
    [bad] = classifier.classify([table], errors="return")
    assert isinstance(bad, BadRecord)


def test_a_table_of_polars_is_named_too(classifier: Classifier) -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"title": [GRAPH], "abstract": [None]})
    with pytest.raises(InvalidPaper, match=r"Give its rows: table\.to_dicts\(\)"):
        classifier.classify(table)
    assert [answer.primary for answer in classifier.classify(table.to_dicts())] == ["math.CO"]
    assert len(classifier.classify(table["title"])) == 1


def test_what_pandas_holds_is_read(classifier: Classifier) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"title": [GRAPH, None], "abstract": [float("nan"), GRAPH]})
    for table in (frame, frame.convert_dtypes()):
        expected = classifier.classify(table.to_dict("records"))
        assert [answer.primary for answer in expected] == ["math.CO", "math.CO"]
        assert classifier.classify([row for _, row in table.iterrows()]) == expected
        assert classifier.classify(list(table.itertuples())) == expected
        good, bad = classifier.classify(table["title"], errors="return")
        assert isinstance(good, Answer)
        assert isinstance(bad, BadRecord)
    with pytest.raises(InvalidPaper, match="cannot classify a DataFrame"):
        classifier.classify(frame)
