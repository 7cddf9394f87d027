"""What a caller gives to be classified, as papers, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import compress, product
from types import NoneType
from typing import Any, Literal, TypeAlias, TypeVar

from classmark.errors import InvalidPaper, UsageError
from classmark.papers import without_markup
from classmark.records import (
    BadRecord,
    Paper,
    author_names,
    is_missing,
    text_of,
    text_of_date,
    text_of_id,
)
from classmark.wire import EvidenceKind

OnePaper: TypeAlias = str | Paper | Mapping[str, Any]
OneItem: TypeAlias = OnePaper | BadRecord
ErrorMode: TypeAlias = Literal["raise", "return"]
T = TypeVar("T")

MAX_BATCH_PAPERS = 500
MAX_BATCH_CHARS = 4 << 20

_PARTS: tuple[EvidenceKind, ...] = ("title", "abstract", "authors", "neighbours")
_EVIDENCE = {used: tuple(compress(_PARTS, used)) for used in product((False, True), repeat=4)}
_TEXT_OR_NONE = (str, NoneType)
_TEXT_KEYS = frozenset(("title", "abstract", "summary"))


def read_items(papers: OneItem | Iterable[OneItem], errors: ErrorMode) -> list[Paper | BadRecord]:
    """Return the papers that a caller gives, in order; one paper gives a list of one.

    Args:
        papers: as for ``Classifier.classify``.
        errors: ``return`` gives a ``BadRecord`` in the place of what is not a paper.

    Raises:
        InvalidPaper: an item is not a paper or has no text; says which. Also if ``papers`` is
            neither a paper nor an iterable.
        UsageError: ``errors`` is neither ``raise`` nor ``return``.
    """
    if errors not in ("raise", "return"):
        raise UsageError(f"errors must be 'raise' or 'return', got {errors!r}.")
    if is_one_paper(papers):
        return [_read_item(papers, "", errors)]
    # Bytes are iterable too, but as numbers, and a table as the names of its columns.
    if (
        isinstance(papers, bytes | bytearray)
        or _is_table(papers)
        or not isinstance(papers, Iterable)
    ):
        raise _no_paper(papers)
    return [_read_item(item, f"item {index}: ", errors) for index, item in enumerate(papers)]


def in_batches(items: Iterable[T], n_chars: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in lists that are bounded by number and by text, never empty.

    Args:
        items: read only as far as the list that is being made needs it.
        n_chars: length of the text of an item; one over the bound gets its own batch.
    """
    batch: list[T] = []
    size_chars = 0
    for item in items:
        item_chars = n_chars(item)
        if batch and (len(batch) == MAX_BATCH_PAPERS or size_chars + item_chars > MAX_BATCH_CHARS):
            yield batch
            batch, size_chars = [], 0
        batch.append(item)
        size_chars += item_chars
    if batch:
        yield batch


def n_chars(paper: Paper | BadRecord) -> int:
    """Return the length of the text of an item."""
    return 0 if isinstance(paper, BadRecord) else len(paper.title) + len(paper.abstract)


def evidence_of(
    paper: Paper, used_authors: bool, used_neighbours: bool
) -> tuple[EvidenceKind, ...]:
    """Return what an answer is based on."""
    has_title, has_abstract = bool(paper.title.strip()), bool(paper.abstract.strip())
    return _EVIDENCE[has_title, has_abstract, used_authors, used_neighbours]


def is_one_paper(item: object) -> bool:
    """Tell one paper from an iterable of them."""
    return isinstance(item, str | Paper | BadRecord) or _as_mapping(item) is not None


def check_paper(paper: Paper) -> Paper:
    """Return the paper, without markup, if there is something to classify it from.

    What a caller wrote into its fields may be missing as in a table, see ``is_missing``.

    Raises:
        InvalidPaper: title and abstract are empty, white space or missing, or one is not a text.
    """
    if not _is_of_texts(paper):
        paper = replace(
            paper,
            id=text_of_id(paper.id),
            title=text_of(paper.title, "title"),
            abstract=text_of(paper.abstract, "abstract"),
            category_code=paper.category_code if isinstance(paper.category_code, str) else None,
            published_date=text_of_date(paper.published_date),
            authors=author_names(paper.authors),
        )
    title, abstract = without_markup(paper.title), without_markup(paper.abstract)
    if not abstract.strip() and not title.strip():
        raise InvalidPaper("title and abstract are both empty. Give at least one of them.")
    is_plain = title == paper.title and abstract == paper.abstract
    return paper if is_plain else replace(paper, title=title, abstract=abstract)


def _is_of_texts(paper: Paper) -> bool:
    return (
        isinstance(paper.title, str)
        and isinstance(paper.abstract, str)
        and isinstance(paper.authors, tuple)
        and all(isinstance(name, str) for name in paper.authors)
        and isinstance(paper.id, _TEXT_OR_NONE)
        and isinstance(paper.category_code, _TEXT_OR_NONE)
        and isinstance(paper.published_date, _TEXT_OR_NONE)
    )


def _read_item(item: object, place: str, errors: ErrorMode) -> Paper | BadRecord:
    """Return an item as a paper, or as the record of what is wrong with it.

    Args:
        item: anything.
        place: what begins the message of an error.
        errors: whether to raise that instead.
    """
    if isinstance(item, BadRecord):  # as read_papers gives it
        if errors == "return":
            return item
        raise InvalidPaper(f"{place}{item.message}")
    try:
        return _to_paper(item)
    except InvalidPaper as error:
        message = f"{place}{error}"
        if errors == "return":
            return BadRecord(id=_id_of(item), kind=error.kind, message=message)
        raise InvalidPaper(message) from error


def _to_paper(item: object) -> Paper:
    if isinstance(item, str):
        return check_paper(Paper.from_text(item))
    if isinstance(item, Paper):
        return check_paper(item)
    mapping = _as_mapping(item)
    if mapping is not None:
        return check_paper(Paper.from_mapping(mapping))
    if is_missing(item):
        raise InvalidPaper(
            f"cannot classify a {type(item).__name__}, which stands for no text. Give a title "
            "and/or an abstract."
        )
    raise _no_paper(item)


def _as_mapping(item: Any) -> Mapping[str, Any] | None:  # noqa: ANN401
    """Return a mapping, or a row of a table (pandas, sqlite3, a named tuple) as one; else None."""
    if isinstance(item, Mapping):
        return item
    if isinstance(item, tuple):
        fields = getattr(item, "_fields", ())
        return dict(zip(fields, item, strict=True)) if _TEXT_KEYS.intersection(fields) else None
    if not hasattr(item, "keys") or _is_table(item):
        return None
    keys = [key for key in item.keys() if isinstance(key, str)]  # noqa: SIM118 - not a mapping
    return {key: item[key] for key in keys} if _TEXT_KEYS.intersection(keys) else None


def _is_table(item: object) -> bool:
    """Tell a whole table, of pandas or polars, which is iterated by columns."""
    return hasattr(item, "columns") and hasattr(item, "shape")


def _id_of(item: object) -> str | None:
    if isinstance(item, str):
        return None
    identifier = item.id if isinstance(item, Paper) else (_as_mapping(item) or {}).get("id")
    return text_of_id(identifier)


def _no_paper(item: object) -> InvalidPaper:
    if _is_table(item):
        rows = "to_dicts()" if hasattr(item, "to_dicts") else 'to_dict("records")'
        return InvalidPaper(
            f"cannot classify a {type(item).__name__}. Give its rows: table.{rows}."
        )
    return InvalidPaper(
        f"cannot classify a {type(item).__name__}. Give a string, a Paper, a mapping with 'title' "
        "and/or 'abstract', or a list of these; files are read with classmark.papers.read_papers."
    )
