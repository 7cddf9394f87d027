r"""The only normaliser of authors' names: from a name as it is written to the keys that mean it.

A name is folded: LaTeX accents and Unicode accents go, letters become lower case. "Surname, First"
is turned round, apostrophes go, other characters than letters separate words, a suffix such as
"Jr." goes. The *full* key is all words; the *initial* key is the last word and the first letter of
the first one, so that "Noether, E." and "Emmy Noether" share it. A name of one word is both keys,
and so is the name of a collaboration. Particles count as words: "Jan van der Berg" has the initial
key "berg j". Two people with the same key count as one.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

AUTHORS_VERSION = "1"
"""Written into every bundle with an author table, and checked when it is loaded."""
MAX_NAME_CHARS = 300
"""What follows is not read."""

_LATEX_ACCENT = re.compile(r"\\[`'^\"~=.uvHtcdbkr]\s*\{?\s*\\?([A-Za-z])\}?")
_LATEX_LETTER = re.compile(r"\\(ss|ae|oe|aa|AE|OE|AA|[oOlLij])(?![A-Za-z])\s*")
_LATEX_LETTERS = {"aa": "a", "AA": "a"}
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "ß": "ss", "æ": "ae", "œ": "oe", "đ": "d", "ı": "i"})
_JOINED = str.maketrans("", "", "'’`{}")
_WORD = re.compile(r"[^\W\d_]+")
_SUFFIXES = frozenset(("jr", "sr", "ii", "iii", "iv"))
_ABBREVIATED = re.compile(
    r"([^,]+?)((?: [^\W\d_]){2,4}| [^\W\d_]{1,4})(?: (Jr|Sr|I{2,3}|IV|[234](?:nd|rd|th)))?\.?"
)
_ORDINALS = {"2nd": "II", "3rd": "III", "4th": "IV"}
_GROUPS = frozenset(("collaboration", "collaborations", "consortium", "group", "team"))


class AuthorKeys(NamedTuple):
    """The keys of a name: all its words, and surname with first initial; never empty."""

    full: str
    initial: str


def author_keys(name: str) -> AuthorKeys | None:
    """Return the keys of a name, None for a text without a letter."""
    words = _words(name[:MAX_NAME_CHARS])
    if not words:
        return None
    full = " ".join(words)
    is_person = len(words) > 1 and words[-1] not in _GROUPS
    return AuthorKeys(full, f"{words[-1]} {words[0][0]}" if is_person else full)


def from_medline(name: str) -> str:
    """Return "J. P. Serre" for "Serre JP", as MEDLINE abbreviates names; others as they are."""
    parts = _ABBREVIATED.fullmatch(name.strip())
    if parts is None or not parts[2].isupper():
        return name
    initials = " ".join(f"{letter}." for letter in parts[2] if letter != " ")
    suffix = _ORDINALS.get(parts[3], parts[3])
    return " ".join(filter(None, (initials, parts[1], suffix)))


def medline_authors(text: str) -> list[str]:
    """Return the names of a list as Europe PMC writes it: "Noether E, Serre JP."."""
    return [from_medline(name) for name in text.rstrip(".").split(", ") if name]


def _words(name: str) -> list[str]:
    """Return the words of a name, folded, the surname last; a suffix only if there is no other."""
    last, _, first = _fold(name)[:MAX_NAME_CHARS].partition(",")
    surname, others = (_without_suffixes(_WORD.findall(part)) for part in (last, first))
    if _SUFFIXES.issuperset(others):  # "King, Jr."
        return surname or others
    return [*others, *surname]


def _without_suffixes(words: list[str]) -> list[str]:
    kept = list(words)
    while len(kept) > 1 and kept[-1] in _SUFFIXES:
        kept.pop()
    return kept


def _fold(name: str) -> str:
    """Return a name in lower case without accents and without what joins the parts of a word."""
    if "\\" in name:
        name = _LATEX_ACCENT.sub(r"\1", name)
        name = _LATEX_LETTER.sub(lambda m: _LATEX_LETTERS.get(m[1], m[1]), name)
    name = name.casefold()
    return (name if name.isascii() else _without_accents(name)).translate(_JOINED)


def _without_accents(name: str) -> str:
    parts = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    return "".join(c for c in parts if not unicodedata.combining(c)).casefold()


def latin_letters() -> bytes:
    """Return what each character from U+0080 to U+017F folds to: two bytes of ASCII, 0 for none.

    Both are 0 for a character that does not fold to one or two of ASCII.
    """
    folded = (_without_accents(chr(code).casefold()) for code in range(0x80, 0x180))
    return b"".join(
        f.encode().ljust(2, b"\0") if f.isascii() and 0 < len(f) <= 2 else b"\0\0" for f in folded
    )
