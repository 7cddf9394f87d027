"""Markup inside titles and abstracts: JATS, MathML, HTML and entities, taken out before the recipe.

Publishers' records hold it, and the model never saw it: one tag in fifteen words is enough to make
it abstain. TeX stays: the recipe reads it. An unknown tag, such as ``<x>`` for a mean value
or ``a < b``, stays too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable


def _words(text: str) -> list[str]:
    return text.split()


_BLOCKS = frozenset(
    _words(
        "p div br hr li ul ol dl dt dd table tr td th thead tbody h1 h2 h3 h4 h5 h6 section sec "
        "title abstract list list-item label disp-formula disp-quote boxed-text blockquote break "
        "caption fig trans-abstract"
    )
)
_INLINE = frozenset(
    _words(
        "i b u s a em strong small big span font tt code cite italic bold sc scp monospace roman "
        "sans-serif underline strike overline styled-content xref ext-link uri inline-formula "
        "named-content inline-graphic alternatives tex-math math mi mn mo mrow msub msup msubsup "
        "mfrac msqrt mroot mtext mspace mover munder munderover mstyle mfenced mtable mtr mtd "
        "mpadded mphantom menclose mmultiscripts mprescripts semantics annotation annotation-xml"
    )
)
_SCRIPTS = {"sub": "_{", "inf": "_{", "sup": "^{"}
"""Tags of an index or an exponent, and what TeX begins one with."""
TAGS = _BLOCKS | _INLINE | _SCRIPTS.keys()
"""All tags that are taken out."""

_PREFIX = r"(?:[A-Za-z][A-Za-z0-9]{0,9}:)?"
_ATTRIBUTES = r"""(?:\s++[A-Za-z_:][\w:.-]{0,60}+\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))*+\s*+"""
_TAG = re.compile(rf"<(/?)({_PREFIX})([A-Za-z][A-Za-z0-9-]{{0,30}})({_ATTRIBUTES})/?>")
_ENTITY = re.compile(
    r"&(?:amp;){0,3}(#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
)
"""Publishers' records may be escaped more than once: ``&amp;lt;``."""
_HEADING = re.compile(
    rf"<({_PREFIX}title)>\s*+(?:abstract|summary)\s*+[.:]?\s*+</\1>", re.IGNORECASE
)
_MATH = re.compile(rf"<({_PREFIX}math)\b[^<>]*>")
_TEX_MATH = re.compile(rf"<({_PREFIX}tex-math)\b[^<>]*>")
_TEX_NOTE = re.compile(rf"""<({_PREFIX}annotation)\s[^<>]*["']application/x-tex["'][^<>]*>""")
_COMMENT = re.compile("<!--()")
_CDATA = re.compile(r"<!\[CDATA\[()")
_TEX_BEGIN, _TEX_END = r"\begin{document}", r"\end{document}"


def without_markup(text: str) -> str:
    """Return the text without tags and entities; a formula that has TeX is its TeX.

    ``H<sub>2</sub>O`` becomes ``H_{2}O``, ``<jats:p>We &amp; they</jats:p>`` becomes ``We & they``.
    """
    if "<" in text:
        text = _without_tags(_without_formulas(text))
    if "&" in text:
        unescaped = _ENTITY.sub(lambda match: html.unescape(f"&{match[1]};"), text)
        # Feeds escape markup as a whole: "&lt;p&gt;".
        text = _without_tags(unescaped) if "lt;" in text else unescaped
    return text


def _without_formulas(text: str) -> str:
    text = _replaced(text, _CDATA, "]]>", lambda inside: inside)
    text = _replaced(text, _COMMENT, "-->", lambda _: " ")
    text = _HEADING.sub(" ", text)
    if "tex-math" in text:
        text = _replaced(text, _TEX_MATH, None, _tex)
        return _replaced(text, _MATH, None, lambda _: "")
    return _replaced(text, _MATH, None, _formula)


def _replaced(
    text: str, opening: re.Pattern[str], closing: str | None, replace: Callable[[str], str]
) -> str:
    """Return the text with what stands between two marks replaced, in linear time.

    Args:
        text: what is not closed stays as it is.
        opening: its first group is the name of a tag.
        closing: None for the closing tag of that name.
        replace: makes the new text of what is inside.
    """
    pieces, end = [], 0
    while match := opening.search(text, end):
        mark = closing or f"</{match[1]}>"
        stop = text.find(mark, match.end())
        if stop < 0:
            break
        pieces += [text[end : match.start()], replace(text[match.end() : stop])]
        end = stop + len(mark)
    return "".join([*pieces, text[end:]])


def _tex(inside: str) -> str:
    """Return the TeX of a formula; publishers wrap it into a whole document."""
    _, begun, body = inside.partition(_TEX_BEGIN)
    return (body.partition(_TEX_END)[0] if begun else inside).strip()


def _formula(inside: str) -> str:
    note = _TEX_NOTE.search(inside)
    if note is None:
        return inside
    return f"${inside[note.end() :].partition(f'</{note[1]}>')[0].strip()}$"


def _without_tags(text: str) -> str:
    names = [(match[1], match[3].lower()) for match in _TAG.finditer(text)]
    paired = {name for slash, name in names if slash} & {name for slash, name in names if not slash}

    def spelled(match: re.Match[str]) -> str:
        slash, prefix, name = match[1], match[2], match[3].lower()
        if name in _SCRIPTS:
            return "}" if slash else _SCRIPTS[name]
        # A letter by itself may be a mean value, <p>, unless it is closed like a tag.
        is_tag = bool(prefix) or len(name) > 1 or name in paired or bool(match[4].strip())
        if not is_tag or not (prefix or name in _BLOCKS or name in _INLINE):
            return match[0]
        return "" if name in _INLINE else " "

    return _TAG.sub(spelled, text) if names else text
