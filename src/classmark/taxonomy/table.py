"""The table of categories, read once from ``categories.json`` when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from classmark.errors import UnknownCategory
from classmark.wire import Category

VERSION = "1"
"""Raised with every change of ``categories.json``; datasets and bundles record it."""

_N_SUGGESTIONS = 3
_N_REMEMBERED = 4096
_MAX_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class _Table:
    """``codes`` leads from every lower-case code and alias to the canonical code."""

    categories: dict[str, Category]
    codes: dict[str, str]
    archive_names: dict[str, str]
    group_names: dict[str, str]


def categories(*, active_only: bool = True) -> tuple[Category, ...]:
    """Return the categories in order of their codes, the retired ones on request."""
    everything = _table().categories.values()
    return tuple(c for c in everything if c.active or not active_only)


def canonical(code: str) -> str:
    """Return today's code for a code or alias, whatever its case and surrounding white space.

    The retired undivided archives (``astro-ph``, ``cond-mat``, ``q-bio``) are their own canonical
    codes: no present category holds just their papers. See ``is_active``.

    Raises:
        UnknownCategory: neither a category nor an alias; the message names the nearest ones.
    """
    found = _table().codes.get(code.strip().lower())
    if found is None:
        raise UnknownCategory(_unknown_message(code.strip()[:_MAX_SHOWN_CHARS]))
    return found


def get(code: str) -> Category:
    """Return the category of a code or alias.

    Raises:
        UnknownCategory: as ``canonical``.
    """
    return _table().categories[canonical(code)]


def parent(code: str) -> str:
    """Return the code of the archive that a category belongs to: ``cs`` for ``cs.LG``.

    Raises:
        UnknownCategory: as ``canonical``.
    """
    return get(code).archive


def group(code: str) -> str:
    """Return the code of the group that a category belongs to: ``grp_physics`` for ``hep-th``.

    Raises:
        UnknownCategory: as ``canonical``.
    """
    return get(code).group


def name(code: str) -> str:
    """Return arXiv's name of a category: ``Machine Learning`` for ``cs.LG``.

    Raises:
        UnknownCategory: as ``canonical``.
    """
    return get(code).name


def is_active(code: str) -> bool:
    """Tell whether new papers can be filed in the category that a code or alias stands for.

    Raises:
        UnknownCategory: as ``canonical``.
    """
    return get(code).active


def archive_name(archive: str) -> str:
    """Return the name of an archive by its code: ``Computer Science`` for ``cs``.

    Raises:
        UnknownCategory: no archive has that code.
    """
    return _level_name(_table().archive_names, archive, level="archive")


def group_name(group: str) -> str:
    """Return the name of a group by its code: ``Physics`` for ``grp_physics``.

    Raises:
        UnknownCategory: no group has that code.
    """
    return _level_name(_table().group_names, group, level="group")


def _level_name(names: dict[str, str], code: str, *, level: str) -> str:
    if code not in names:
        raise UnknownCategory(f"unknown arXiv {level} {code!r}. Use one of: {', '.join(names)}.")
    return names[code]


# One unknown label may stand on every row of a file; comparing it with all categories is slow.
@lru_cache(maxsize=_N_REMEMBERED)
def _unknown_message(code: str) -> str:
    names = {category.code: category.name for category in categories()}
    found = ", ".join(f"{c} ({names[c]})" for c in nearest(code, names, count=_N_SUGGESTIONS))
    return f"unknown arXiv category {code!r}. Use an arXiv code; the nearest are {found}."


@lru_cache(maxsize=1)
def _table() -> _Table:
    data = json.loads(Path(__file__).with_name("categories.json").read_bytes())
    group_of = {archive["code"]: archive["group"] for archive in data["archives"]}
    by_code = {
        row["code"]: Category(group=group_of[row["archive"]], **row) for row in data["categories"]
    }
    codes = {code.lower(): code for code in by_code}
    codes.update({alias.lower(): code for alias, code in data["aliases"].items()})
    return _Table(
        categories=by_code,
        codes=codes,
        archive_names={archive["code"]: archive["name"] for archive in data["archives"]},
        group_names={row["code"]: row["name"] for row in data["groups"]},
    )


_CERTAIN_PART = 0.9
_SMALL_WORDS = frozenset({"and", "in", "of", "to", "-"})


def nearest(query: str, names: Mapping[str, str], *, count: int) -> list[str]:
    """Return the codes most like a query, best first; ties in the order of ``names``.

    A category is near if its code, its name, or the initials of its name look like the query:
    ``cs.ML`` finds ``cs.LG`` (Machine Learning), and ``stat.ML`` by its subject. An archive's code
    finds the archive's categories.

    Args:
        query: what was written; the work grows with its length.
        names: category names by code.
        count: maximum number of codes.
    """
    wanted = query.lower()
    return sorted(names, key=lambda code: -_likeness(wanted, code, names[code]))[:count]


def _likeness(query: str, code: str, name: str) -> float:
    """How alike, 0..1: the best of the comparisons."""
    archive, _, subject = code.lower().rpartition(".")
    if query == archive:
        return 1.0
    likeness = max(_text_likeness(query, code.lower()), _text_likeness(query, name.lower()))
    same_subject = query.rpartition(".")[2] in (subject, _initials(name))
    if same_subject or query in name.lower():
        return max(likeness, _CERTAIN_PART)
    return likeness


def _initials(name: str) -> str:
    words = name.lower().replace("-", " - ").split()
    return "".join(word[0] for word in words if word not in _SMALL_WORDS)


def _text_likeness(first: str, second: str) -> float:
    # Imported here: only a wrong code pays for it.
    from difflib import SequenceMatcher

    return SequenceMatcher(None, first, second, autojunk=False).ratio()
