"""arXiv identifiers in the one spelling that data sets use, and its categories among keywords."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from classmark import taxonomy

# Archives that gave out identifiers of the old form (to March 2007). Without this list the
# hyphenated form would look like identifiers of other libraries, which must not change.
_OLD_ARCHIVES = (
    "acc-phys|adap-org|alg-geom|ao-sci|astro-ph|atom-ph|bayes-an|chao-dyn|chem-ph|cmp-lg|comp-gas|"
    "cond-mat|cs|dg-ga|funct-an|gr-qc|hep-ex|hep-lat|hep-ph|hep-th|math-ph|math|mtrl-th|nlin|"
    "nucl-ex|nucl-th|patt-sol|physics|plasm-ph|q-alg|q-bio|quant-ph|solv-int|supr-con"
)
_ARXIV_ID = re.compile(
    r"(?:https?://(?:[a-z]+\.)?arxiv\.org/(?:abs|pdf|html|format|src|e-print)/"
    r"|(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?10\.48550/arxiv\."
    r"|oai:arxiv\.org:"
    r"|arxiv:\s*)?"
    rf"(?:(?P<archive>{_OLD_ARCHIVES})(?:\.[a-z-]{{2,}})?[/-](?P<number>[0-9]{{7}})"
    r"|(?P<new>[0-9]{4}\.[0-9]{4,5}))"
    r"(?:v[0-9]+)?(?:\.pdf)?(?:\s*\[[^\[\]\s]+\])?",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(?:[0-9]+:)?[0-9]+")
_WORD = re.compile(r"[\w.-]+")


def canonical_id(identifier: str) -> str:
    """Return an arXiv identifier without version, prefix or address, ``/`` replaced by ``-``.

    Knows ``cs/9308101v1``, ``math.GT/0309136``, ``arXiv:1607.01234v2 [cs.LG]``, addresses of the
    abstract or PDF page, and arXiv's DOIs. Anything else comes back stripped and unchanged.
    """
    stripped = identifier.strip()
    match = _ARXIV_ID.fullmatch(stripped)
    if match is None:
        return stripped
    if match["new"]:
        return match["new"]
    return f"{match['archive'].lower()}-{match['number']}"


def is_place(identifier: str) -> bool:
    """Tell whether an identifier is but a number, as a record without one has: ``7``, ``2:7``."""
    return _PLACE.fullmatch(identifier) is not None


def codes_among(keywords: Iterable[str]) -> list[str]:
    """Return the arXiv categories that keywords name by their codes, each once."""
    words = (word for keyword in keywords for word in _WORD.findall(keyword))
    return [word for word in dict.fromkeys(words) if word in _known_codes()]


@cache
def _known_codes() -> frozenset[str]:
    return frozenset(category.code for category in taxonomy.categories(active_only=False))
