"""The values of a record, as people really write them, to the values of a paper."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from numbers import Number
from typing import Any

from classmark.errors import InvalidPaper

MAX_AUTHORS_CHARS = 1_000_000
"""Of all authors of a paper, as a text and as a Python list of names: the largest collaborations
stay below a tenth of it."""
_SHOWN_CHARS = 60
_YEAR_DIGITS = 4
_MISSING_OF_PANDAS = ("NAType", "NaTType")
"""Recognised by name, so that pandas need not be installed."""
_WHOLE_NAMES = ("name", "display_name", "full_name", "raw_author_name", "literal")
_PARTS_OF_NAMES = (
    ("given", "dropping-particle", "non-dropping-particle", "family"),
    ("firstName", "lastName"),
    ("first", "last"),
    ("given-name", "surname"),
    ("first_name", "last_name"),
    ("collectiveName",),
    ("collective_name",),
    ("text",),
)
_NAME_KEYS = {*_WHOLE_NAMES, *(key for keys in _PARTS_OF_NAMES for key in keys)}
_WRAPPED = re.compile(r"\n[ \t]")
"""The end of a line whose next one is indented, as arXiv's dump and BibTeX files wrap them."""
_BETWEEN_PEOPLE = re.compile(r" ?, ?and | and |[;\n]| & | ?\|+ ?")
_IN_PARENTHESES = re.compile(r"\([^()]*\)")
_ET_AL = re.compile(r"(?:^|[ ,])et\.? ?al\.?$", re.IGNORECASE)
_HOMONYM = re.compile(r" 0[0-9]{3}\Z")
"""What DBLP adds to a name that several people have."""
_INITIALS = re.compile(r"(?:[^\W\d_](?:\.|\b)[\s-]*){1,4}|[A-Z]{2,3}")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = frozenset("\\'\"abfnrtvxuUN01234567\n")
"""What Python reads after a backslash in a text; it warns of anything else, such as TeX."""
_SUFFIX = re.compile(r"(?:jr|sr|ii|iii|iv)\.?", re.IGNORECASE)


def is_missing(value: object) -> bool:
    """Tell whether a value stands for none: None, or the NaN, NA or NaT that tables have for it."""
    if isinstance(value, str):
        return False
    if value is None or type(value).__name__ in _MISSING_OF_PANDAS:
        return True
    return isinstance(value, Number) and bool(value != value)  # noqa: PLR0124 - true of a NaN


def text_of(value: object, name: str) -> str:
    """Return a text, "" for a missing one.

    Args:
        value: of a field; of a list of strings (Crossref lists titles) the first counts.
        name: of the field, for the error.

    Raises:
        InvalidPaper: it is anything else.
    """
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if name == "title" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value[0] if value else ""
    raise InvalidPaper(f"{name} must be a string, got {type(value).__name__}")


def text_of_id(value: object) -> str | None:
    """Return an identifier, which may be a number, as a text; None for a missing one."""
    return None if is_missing(value) else str(value)


def text_of_date(value: object) -> str | None:
    """Return a date as text, of which the year counts; None for anything else."""
    text = value.isoformat() if hasattr(value, "isoformat") else value
    return text if isinstance(text, str) and text[:_YEAR_DIGITS].isdecimal() else None


def author_names(value: object) -> tuple[str, ...]:
    """Return the names of a paper's authors, as they are written, in their order.

    Args:
        value: a text (see ``split_authors``), a list of texts or of objects with a name, or one
            object; a missing value gives none.

    Raises:
        InvalidPaper: it is anything else, or too long.
    """
    if isinstance(value, str):
        return split_authors(value)
    if is_missing(value):
        return ()
    items: Iterable[object] = [value] if isinstance(value, Mapping) else _items(value)
    return _tidied([_name_of(item) for item in items if not is_missing(item)])


def split_authors(text: str) -> tuple[str, ...]:
    """Return the names in a text that lists them.

    Names are between semicolons, line ends, "and", "&" or "|", else between commas, unless what is
    before a comma is a surname ("Noether, Emmy"). A line goes on in an indented one. A Python or
    JSON list as a text is read as that. What is in parentheses and "et al." are left out.

    Raises:
        InvalidPaper: it is longer than ``MAX_AUTHORS_CHARS``.
    """
    _check_length(len(text))
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            listed = ast.literal_eval(_ESCAPE.sub(_as_python, text))
            if isinstance(listed, list):
                return author_names(listed)
        text = text.strip("[]").replace("'", "").replace('"', "")
    lines = _WRAPPED.sub(" ", _IN_PARENTHESES.sub(" ", text)).splitlines()
    # With single blanks no separator has a repetition, which would take quadratic time.
    parts = _BETWEEN_PEOPLE.split("\n".join(" ".join(line.split()) for line in lines))
    return _tidied([name for part in parts for name in _between_commas(part)])


def _as_python(escape: re.Match[str]) -> str:
    return escape[0] if escape[1] in _ESCAPES else f"\\{escape[0]}"


def _items(value: object) -> Iterable[object]:
    if isinstance(value, list | tuple) or (hasattr(value, "tolist") and hasattr(value, "dtype")):
        return value  # type: ignore[return-value]
    raise _no_authors(value)


def _name_of(item: object) -> str:
    """Return the name of one author of a list."""
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        return _name_in(item)
    raise _no_authors(item)


def _name_in(person: Mapping[str, Any]) -> str:
    """Return the name in an object, "" if it has room for one that nobody filled in."""
    inner = person.get("author")
    if isinstance(inner, Mapping):  # OpenAlex: what the paper prints is beside it
        person = {**person, **{key: value for key, value in inner.items() if not is_missing(value)}}
    for keys in (*((key,) for key in _WHOLE_NAMES), *_PARTS_OF_NAMES):
        parts = [part for part in map(person.get, keys) if isinstance(part, str) and part]
        if parts:
            return " ".join(parts)
    values = [person[key] for key in _NAME_KEYS if key in person]
    if values and all(value == "" or is_missing(value) for value in values):
        return ""
    raise _no_authors(person if inner is None else inner)


def _between_commas(text: str) -> list[str]:
    """Return the names of a text without other separators."""
    first, *others = (part.strip() for part in text.split(","))
    suffix = f" {others[-1]}" if others and _SUFFIX.fullmatch(others[-1]) else ""
    parts = [first, *(part for part in others if not _SUFFIX.fullmatch(part))]
    if len(parts) % 2 == 0 and all(_INITIALS.fullmatch(part) for part in parts[1::2]):
        parts = [f"{last}, {first}" for last, first in zip(parts[::2], parts[1::2], strict=True)]
    elif len(parts) == 2 and _is_inverted(*parts):
        parts = [", ".join(parts)]
    parts[-1] += suffix
    return parts


def _is_inverted(before: str, after: str) -> bool:
    """Tell "Noether, Emmy" and "van der Berg, Jan Piet" from two names."""
    return " " not in before or " " not in after or before[0].islower()


def _tidied(names: list[str]) -> tuple[str, ...]:
    _check_length(sum(map(len, names)))
    kept = [name for name in map(_tidy, names) if name]
    _check_length(len(str(kept)))  # so that what a dataset writes of it can be read again
    return tuple(kept)


def _tidy(name: str) -> str:
    """Return a name on one line, without "et al." and DBLP's number; "" if nothing is left."""
    name = _HOMONYM.sub("", _ET_AL.sub("", " ".join(name.split())))
    return name.strip(" ,;") if name.lower() not in ("and", "others", "et al") else ""


def _check_length(n_chars: int) -> None:
    if n_chars > MAX_AUTHORS_CHARS:
        raise InvalidPaper(
            f"authors have {n_chars:,} characters, at most {MAX_AUTHORS_CHARS:,} are read. Give "
            "the names of the authors only."
        )


def _no_authors(value: object) -> InvalidPaper:
    try:
        seen = repr(value)
    except RecursionError:  # lists in lists in lists
        seen = "…"
    seen = seen if len(seen) <= _SHOWN_CHARS else f"{seen[:_SHOWN_CHARS]}…"
    return InvalidPaper(
        "authors must be names: a text, a list of texts, or a list of objects with a name; got "
        f"{type(value).__name__} {seen}"
    )
