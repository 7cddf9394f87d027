"""Which categories somebody may have meant who wrote a code that does not exist."""

from __future__ import annotations

from collections.abc import Mapping

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
        count: how many to return at most.
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
