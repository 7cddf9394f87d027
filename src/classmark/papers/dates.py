"""Dates as papers' sources write them, turned into ISO ``YYYY-MM-DD``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from classmark.errors import InvalidPaper

FIRST_YEAR = 86
"""Two-digit years from here on are of the 1900s: the oldest paper of the corpus is of 1986."""

_KEPT_DAYS, _LONGEST_KEPT = 1 << 14, 40
"""All days of forty years: the same few thousand dates come again and again."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})")
_ISO = re.compile(
    r"([0-9]{4})(?:\.0|-([0-9]{2})(?:-([0-9]{2})(?:[T ][0-9:.,+\-Z ]*)?)?)?"
    r"|([0-9]{4})/([0-9]{1,2})(?:/([0-9]{1,2})(?: [0-9:.]*)?)?"
)
_DAY = r"[0-9]{4}(?:-[0-9]{2}){0,2}"
_RANGE = re.compile(rf"({_DAY})(?:/(?:{_DAY}|\.\.)?|(?:--?|\u2013)[0-9]{{4}})")
"""Dates of BibLaTeX, whose end may be open, and years of other sources."""
_RFC_2822 = re.compile(
    r"(?:[A-Za-z]{3},\s*)?([0-9]{1,2})\s+([A-Za-z]{3})[a-z]*\s+([0-9]{4})"
    r"(?:\s+[0-9:]+(?:\s+[A-Za-z0-9+-]+)?)?"
)
_MONTH_FIRST = re.compile(r"([A-Za-z]{3})[a-z]*\.?\s+(?:([0-9]{1,2}),?\s+)?([0-9]{4})")

_YEAR_FIRST = re.compile(
    r"([0-9]{4})(?![0-9])(?:[\s/.-]+([0-9]{1,2}|[A-Za-z]{3})[a-z]*(?:[\s/.-]+([0-9]{1,2}))?)?"
)
_EIGHT_DIGITS = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_YEAR = re.compile(r"\b([0-9]{4})\b()()")


def parse_date(text: str) -> str:
    """Return ``YYYY-MM-DD``; a month or day that is missing or zero becomes the first.

    Reads ``M/D/YY`` and ``M/D/YYYY``, ISO dates and date-times, also with slashes, ``YYYY-MM``,
    ``YYYY``, ``YYYY.0`` (pandas, where another year is missing), RFC 2822 (``Mon, 2 Apr 2007
    19:18:42 GMT``), and ``April 2, 2007``; of a range (``2019-05/2019-07``, ``2019-2020``) the
    first date. The day is taken as written, in its own time zone.

    Raises:
        InvalidPaper: no such form, or no such day.
    """
    try:
        # A long text does not come again as a date, and the cache would keep it.
        return (_iso_day if len(text) <= _LONGEST_KEPT else _iso_day.__wrapped__)(text)
    except ValueError as error:
        raise InvalidPaper(
            f"date {text[:40]!r} is not a day of the calendar. "
            "Write it as YYYY-MM-DD, YYYY, M/D/YY or RFC 2822."
        ) from error


@lru_cache(_KEPT_DAYS)
def _iso_day(text: str) -> str:
    year, month, day = _parts(text.strip())
    return date(year, month, day).isoformat()


def _parts(text: str) -> tuple[int, int, int]:
    if match := _RANGE.fullmatch(text):
        text = match[1]
    if match := _ISO.fullmatch(text):
        year, month, day = match.groups()[3:] if match[4] else match.groups()[:3]
        return int(year), int(month or 1) or 1, int(day or 1) or 1
    if match := _SLASHED.fullmatch(text):
        return _full_year(match[3]), int(match[1]), int(match[2])
    if match := _RFC_2822.fullmatch(text):
        return int(match[3]), MONTHS.index(match[2].lower()) + 1, int(match[1])
    if match := _MONTH_FIRST.fullmatch(text):
        return int(match[3]), MONTHS.index(match[1].lower()) + 1, int(match[2] or 1)
    raise ValueError(text)


def _full_year(digits: str) -> int:
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (1900 if year >= FIRST_YEAR else 2000)


def most_precise_date(texts: Sequence[str]) -> str | None:
    """Return the most precise of the dates of a record, as far as it goes: ``2021-05``.

    The first date names the year; another may add the month and day, also without a year, as in
    ``2021`` and ``MAY 4``. Without a date it is the first text.
    """
    dates = [date for text in texts if (date := _as_far_as_known(text))]
    if not dates:
        return texts[0] if texts else None
    year = dates[0][:4]
    without_year = (text for text in texts if not _YEAR.search(text))
    dates += [date for text in without_year if (date := _as_far_as_known(f"{year} {text}"))]
    return max((date for date in dates if date.startswith(year)), key=len)


def _as_far_as_known(text: str) -> str | None:
    """Return ``2021``, ``2021-05`` or ``2021-05-04`` of ``2021 Spring``, ``2021 May-Jun`` ..."""
    text = text.strip()
    match = _EIGHT_DIGITS.fullmatch(text) or _YEAR_FIRST.match(text) or _YEAR.search(text)
    if match is None:
        return None
    year, month, day = match.groups()
    if month and month.lower() in MONTHS:
        month = str(MONTHS.index(month.lower()) + 1)
    if not month or not month.isdigit() or not 1 <= int(month) <= 12:
        return year
    return f"{year}-{int(month):02d}" + (f"-{int(day):02d}" if day else "")
