from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidPaper
from classmark.papers import parse_date
from classmark.papers.dates import _iso_day


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("8/1/93", "1993-08-01"),
        ("12/31/86", "1986-12-31"),
        ("1/2/85", "2085-01-02"),
        ("1/2/00", "2000-01-02"),
        ("1/2/2017", "2017-01-02"),
        ("2017-12-31", "2017-12-31"),
        ("2017-12-31T23:59:59Z", "2017-12-31"),
        ("2017-12-31 23:59:59.5+02:00", "2017-12-31"),
        ("2017-12", "2017-12-01"),
        (" 2017 ", "2017-01-01"),
        ("Mon, 2 Apr 2007 19:18:42 GMT", "2007-04-02"),
        ("12 Dec 1999", "1999-12-12"),
        ("12 December 1999", "1999-12-12"),
        ("December 12, 1999", "1999-12-12"),
        ("Sept. 1999", "1999-09-01"),
        ("2017.0", "2017-01-01"),
        ("2017-05-00", "2017-05-01"),
        ("2017-00-00T00:00:00Z", "2017-01-01"),
        ("2017/5/31", "2017-05-31"),
        ("2017/05/31 10:00:00", "2017-05-31"),
        ("2017/05", "2017-05-01"),
        ("2017/2018", "2017-01-01"),
        ("2017-05/2017-07", "2017-05-01"),
        ("2017-05-31/2018", "2017-05-31"),
        ("2017-05/", "2017-05-01"),
        ("2017/..", "2017-01-01"),
        ("2017--2018", "2017-01-01"),
        ("2017-2018", "2017-01-01"),
        ("2017\N{EN DASH}2018", "2017-01-01"),
    ],
)
def test_parse_date_gives_iso(text: str, iso: str) -> None:
    assert parse_date(text) == iso


@pytest.mark.parametrize(
    "text",
    [
        *("2/30/99", "13/1/99", "2017-02-29", "tomorrow", "", "2 Foo 2007", "٢٠١٧", "0000"),
        *(
            "2017.5",
            "2017.05",
            "2017/13",
            "2017/02-03",
            "/2017",
            "2017-13/2018",
            "2017-05/x",
            "Foo 2007",
            "May 32, 2007",
            "May",
        ),
    ],
)
def test_parse_date_names_the_value_it_cannot_read(text: str) -> None:
    with pytest.raises(
        InvalidPaper, match=r"date .* is not a day of the calendar\. Write it as"
    ) as e:
        parse_date(text)
    assert repr(text) in str(e.value)


@given(st.dates(datetime.date(1986, 1, 1), datetime.date(2085, 12, 31)))
def test_parse_date_reads_back_every_day_in_both_spellings(day: datetime.date) -> None:
    assert parse_date(f"{day.month}/{day.day}/{day.year % 100:02d}") == day.isoformat()
    assert parse_date(day.isoformat()) == day.isoformat()


def test_a_date_is_kept_for_the_next_paper_and_a_long_text_is_not() -> None:
    long = f"Mon, 2 Apr 2007 19:18:42 +{'0' * 5_000}"
    _iso_day.cache_clear()
    assert [parse_date("8/1/93"), parse_date("8/1/93"), parse_date(long)] == [
        "1993-08-01",
        "1993-08-01",
        "2007-04-02",
    ]
    assert (_iso_day.cache_info().hits, _iso_day.cache_info().currsize) == (1, 1)
