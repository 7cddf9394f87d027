"""Dates as papers' sources write them, turned into ISO ``YYYY-MM-DD``."""

from __future__ import annotations

import re
from datetime import date

from classmark.errors import InvalidPaper

FIRST_YEAR = 86
"""Two-digit years from here on are of the 1900s: the oldest paper of the corpus is of 1986."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})")
_ISO = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ][0-9:.,+\-Z ]*)?)?)?")
_RFC_2822 = re.compile(
    r"(?:[A-Za-z]{3},\s*)?([0-9]{1,2})\s+([A-Za-z]{3})\s+([0-9]{4})(?:\s+[0-9:]+(?:\s+[A-Za-z0-9+-]+)?)?"
)


def parse_date(text: str) -> str:
    """Return ``YYYY-MM-DD``; a missing month or day becomes the first.

    Reads ``M/D/YY`` and ``M/D/YYYY``, ISO dates and date-times, ``YYYY-MM``, ``YYYY``, and
    RFC 2822 (``Mon, 2 Apr 2007 19:18:42 GMT``). The day is taken as written, in its own time zone.

    Raises:
        InvalidPaper: no such form, or no such day.
    """
    stripped = text.strip()
    try:
        year, month, day = _parts(stripped)
        return date(year, month, day).isoformat()
    except ValueError as error:
        raise InvalidPaper(
            f"date {text[:40]!r} is not a day of the calendar. "
            "Write it as YYYY-MM-DD, YYYY, M/D/YY or RFC 2822."
        ) from error


def _parts(text: str) -> tuple[int, int, int]:
    if match := _ISO.fullmatch(text):
        return int(match[1]), int(match[2] or 1), int(match[3] or 1)
    if match := _SLASHED.fullmatch(text):
        return _full_year(match[3]), int(match[1]), int(match[2])
    if match := _RFC_2822.fullmatch(text):
        return int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1])
    raise ValueError(text)


def _full_year(digits: str) -> int:
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (1900 if year >= FIRST_YEAR else 2000)
