"""Papers as callers give them, and as the service takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from numbers import Number
from typing import Any, Protocol

_MAX_BATCH_CHARS = 2_000_000  # of a body; a character is at most four bytes
_SHOWN_CHARS = 80


class PaperLike(Protocol):
    """An object with a title and an abstract, such as ``classmark.Paper``."""

    @property
    def id(self) -> str | None:
        """Identifier, or None."""

    @property
    def title(self) -> str:
        """Title, or ""."""

    @property
    def abstract(self) -> str:
        """Abstract, or ""."""


OnePaper = str | Mapping[str, Any] | PaperLike


def paper_body(paper: OnePaper, place: str = "") -> dict[str, Any]:
    """Return a paper as the service takes it; keys of a mapping are passed on as they are.

    Missing values are left out; of a missing paper nothing is left, which the service refuses.

    Args:
        paper: as a caller gives it.
        place: what begins the message of an error.

    Raises:
        TypeError: it is not a paper.
    """
    if isinstance(paper, str):
        return {"text": paper}
    if _is_missing(paper):
        return {}
    if not is_one(paper):
        raise _not_a_paper(paper, place)
    if isinstance(paper, Mapping):
        body = dict(paper)
    else:
        body = {name: getattr(paper, name, None) for name in ("id", "title", "abstract")}
        authors = getattr(paper, "authors", None)
        body["authors"] = (list(authors) or None) if isinstance(authors, tuple) else authors
    return {key: value for key, value in body.items() if not _is_missing(value)}


def _is_missing(value: object) -> bool:
    """Tell None, NaN, and the NA and NaT of pandas, as ``classmark.records.is_missing`` does."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Number) and bool(value != value)  # noqa: PLR0124 - true of a NaN


def batches(papers: Iterable[OnePaper], max_papers: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the papers in parts that the service takes in one request.

    Raises:
        TypeError: they are not papers; says which one is not.
    """
    # Bytes are iterable too, but as numbers, and a table as the names of its columns.
    if isinstance(papers, bytes) or _is_table(papers) or not isinstance(papers, Iterable):
        raise _not_a_paper(papers)
    batch: list[dict[str, Any]] = []
    n_chars = 0
    for index, paper in enumerate(papers):
        body = paper_body(paper, f"item {index}: ")
        chars = sum(len(v if isinstance(v, str) else repr(v)) for v in body.values())
        if batch and (len(batch) == max_papers or n_chars + chars > _MAX_BATCH_CHARS):
            yield batch
            batch, n_chars = [], 0
        batch.append(body)
        n_chars += chars
    if batch:
        yield batch


def is_one(papers: object) -> bool:
    """Tell one paper from several, and from anything else."""
    is_object = hasattr(papers, "abstract") and not _is_table(papers)
    return isinstance(papers, str | Mapping) or is_object


def _is_table(papers: object) -> bool:
    """Tell a whole table, of pandas or polars, which is iterated by columns."""
    return hasattr(papers, "columns") and hasattr(papers, "shape")


def _not_a_paper(papers: object, place: str = "") -> TypeError:
    return TypeError(
        f"{place}{repr(papers)[:_SHOWN_CHARS]} is not a paper. Give a text, a mapping with 'title' "
        "and/or 'abstract', an object such as classmark.Paper, or a list of these; of a table its "
        "rows; and a file to classify_file."
    )
