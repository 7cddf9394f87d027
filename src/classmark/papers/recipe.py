"""The text recipe: the one normaliser, and fingerprints of what it leaves.

Training, export and serving read text through ``normalise``; ``RECIPE_VERSION`` is written into
every bundle and checked when one is loaded, because weights fitted to one spelling are wrong for
another. Any change of an output needs a new version.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

from classmark.papers.spelling import (
    COMMAND_ALIASES,
    COMMAND_SYMBOLS,
    GREEK,
    LETTERS,
    MATH_SYMBOLS,
    PUNCTUATION,
    SOFT_SPACE,
    SWALLOWING_COMMANDS,
)
from classmark.records import Paper

RECIPE_VERSION = "1"

_FINGERPRINT_BYTES = 8
_CACHED_CHARACTERS = 4096
_DISTINCT_BY_REPLACE = (
    16  # above this, one pass with a pattern is cheaper than one pass a character
)

_ASCII = bytes(range(128))
_CONTROL = bytes([*range(32), 127])
_TRIGGERS = _CONTROL + b"\\${}~^_`"
_DELETED = b"${}^_"
_TO_BLANK = bytes.maketrans(_CONTROL.replace(SOFT_SPACE.encode(), b"") + b"~", b" " * len(_CONTROL))
_SEPARATORS = bytes(set(_ASCII) - set(b"abcdefghijklmnopqrstuvwxyz0123456789"))

# Every pattern below starts with a literal (found by memchr) and repeats possessively or over a
# single character, so that the time is linear in the text whatever it holds.
_COMMAND = re.compile(
    r"\\(?:"
    r"(?:c(?:ite[A-Za-z]*|ref|olor)|ref|eqref|label|url|href|begin|end|includegraphics|textcolor"
    r"|hspace|vspace)\*?\s*+(?:\[[^\[\]]*+\]\s*+)*+\{[^{}]*+\}"
    r"|[Hbcdkrtuv](?![A-Za-z])\s*+(?=[{\\A-Za-z])"
    r"|([A-Za-z]++)\*?(\s*+)"
    r"|([^A-Za-z]))?",
    re.DOTALL,
)
_SUBSCRIPT_WORD = re.compile(r"_(?=\{?[A-Za-z]{2})")
_BETWEEN_WORDS = re.compile("\x01(?<=[^\\W_]\x01)\x01*(?=[^\\W_])")
_ARGUMENTS = re.compile(r"\}\{")
_DISPLAY = re.compile(r"\$\$")
_DASHES = re.compile("--+")
_TWO_BLANKS = re.compile("  ")  # as a plain literal twice as fast to search as with a repeat
_BLANKS = re.compile("  +")
_NON_ASCII = re.compile("[^\x00-\x7f]")
_GREEK_WORD = re.compile("[\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u03ff]{4}")


def normalise(text: str) -> str:
    r"""Return the text as words: LaTeX and Unicode spelled alike, case kept, single blanks.

    ``Poincar\'{e}`` and ``Poincaré`` give ``Poincare``; ``$H_{2}O$`` and ``H₂O`` give ``H2O``;
    ``$\alpha$`` and ``α`` give ``alpha``. Formatting commands vanish, references vanish with
    their argument, other commands leave their name. What is left is ASCII but for letters and
    digits of other scripts, without combining marks. ``normalise`` of its own output changes
    nothing, unless all its words in Greek were in the argument of a reference. The time is linear
    in the length of the text.
    """
    return text if text.isascii() and _is_plain(text) else finish(spell(text))


def spell(text: str) -> str:
    """Return a text with Unicode and commands spelled out: the first part of ``normalise``."""
    if not text.isascii():
        text = _fold_unicode(text)
    return _COMMAND.sub(_spell_command, text) if "\\" in text else text


def finish(text: str) -> str:
    """Return a spelled text without markup, with single blanks: the rest of ``normalise``."""
    text = _drop_markup(text)
    if SOFT_SPACE in text:
        text = _BETWEEN_WORDS.sub(" ", text).replace(SOFT_SPACE, "")
    if "`" in text:
        text = text.replace("``", '"').replace("''", '"').replace("`", "'")
    text = _DASHES.sub("-", text)
    if _TWO_BLANKS.search(text):
        text = _BLANKS.sub(" ", text)
    text = text.strip(" ")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def text_fingerprint(paper: Paper) -> str:
    """Return 16 hexadecimal digits that papers with the same title and abstract share.

    Only letters and digits of the normalised text count, and their case does not.
    """
    return _fingerprint(f"{paper.title}\n{paper.abstract}")


def abstract_fingerprint(paper: Paper) -> str:
    """Return the fingerprint of the abstract alone; "" if it has no letter or digit."""
    return _fingerprint(paper.abstract)


def _fingerprint(text: str) -> str:
    raw = normalise(text).lower().encode().translate(None, _SEPARATORS)
    return blake2b(raw, digest_size=_FINGERPRINT_BYTES).hexdigest() if raw else ""


def _is_plain(text: str) -> bool:
    raw = text.encode()
    return (
        "$" not in text
        and len(raw.translate(None, _TRIGGERS)) == len(raw)
        and _TWO_BLANKS.search(text) is None
        and _DASHES.search(text) is None
        and text.strip(" ") == text
    )


def _fold_unicode(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    non_ascii = raw.translate(None, _ASCII).decode("utf-8", "surrogatepass")
    is_greek = _GREEK_WORD.search(non_ascii) and _GREEK_WORD.search(text)
    fold = _fold_letter if is_greek else _fold_character
    distinct = set(non_ascii)
    if len(distinct) > _DISTINCT_BY_REPLACE:
        return _NON_ASCII.sub(lambda match: fold(match[0]), text)
    for character in distinct:
        text = text.replace(character, fold(character))
    return text


@lru_cache(_CACHED_CHARACTERS)
def _fold_character(character: str) -> str:
    """Spell one non-ASCII character; Greek letters become their names."""
    folded = _fold_letter(character)
    return "".join(GREEK.get(letter, letter) for letter in folded)


@lru_cache(_CACHED_CHARACTERS)
def _fold_letter(character: str) -> str:
    """Spell one non-ASCII character; Greek letters stay, for texts that are in Greek."""
    spelled = _spell_symbol(character)
    if spelled is not None:
        return spelled
    return "".join(map(_fold_part, unicodedata.normalize("NFKD", character)))


def _fold_part(character: str) -> str:
    spelled = _spell_symbol(character)
    if spelled is not None:
        return spelled
    category = unicodedata.category(character)
    if character.isascii() or category[0] in "LN":
        return character
    return "" if category[0] == "M" or category == "Cf" else " "


def _spell_symbol(character: str) -> str | None:
    for table in (PUNCTUATION, MATH_SYMBOLS, LETTERS):
        if character in table:
            return table[character]
    return None


def _spell_command(match: re.Match[str]) -> str:
    name, blank, symbol = match.groups()
    if name is not None:
        spelled = SWALLOWING_COMMANDS.get(name)
        if spelled is None:
            spelled = COMMAND_ALIASES.get(name) or f"{SOFT_SPACE}{name}{SOFT_SPACE}"
            return spelled + blank
        return spelled
    if symbol is not None:
        return COMMAND_SYMBOLS.get(symbol, symbol)
    return SOFT_SPACE if match[0][-1] == "}" else ""


def _drop_markup(text: str) -> str:
    if "^" in text:
        text = text.replace("^", "_")
    if "_" in text:
        text = _SUBSCRIPT_WORD.sub(" ", text)
    if "}" in text:
        text = _ARGUMENTS.sub(" ", text)
    if "$" in text:
        text = _DISPLAY.sub(" ", text)
    return text.encode().translate(_TO_BLANK, _DELETED).decode()
