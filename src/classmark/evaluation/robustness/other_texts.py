"""Texts that a model should not accept: invented ones, in many languages and of many kinds.

Half of the texts fitted the scope score of the model in the package (``split`` is ``fit``); only
the other half is measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from classmark.errors import UnreadableSource

NON_PAPERS_FILE = Path(__file__).with_name("non_papers.jsonl")

_MACHINE_MADE = frozenset(
    ["code", "stack-trace", "log", "html", "numbers", "data-file", "keyboard-mash", "pseudo-latin"]
)
_FOREIGN = {"foreign": "other texts", "foreign-abstract": "abstracts"}


@dataclass(frozen=True)
class OtherKind:
    """One kind of texts that are out of scope; ``levels`` are its parts."""

    name: str
    unit: str
    levels: tuple[str, ...]


OTHER_KINDS = {
    kind.name: kind
    for kind in (
        OtherKind("other-languages", "invented texts in other languages", tuple(_FOREIGN.values())),
        OtherKind(
            "non-papers", "invented texts that are not papers", ("English prose", "machine-made")
        ),
    )
}


@dataclass(frozen=True)
class OtherTexts:
    """Texts that are not papers, for the fit of the scope score.

    Attributes:
        source: where they are from, in words; "" if there are none.
        texts: the texts.
        held_out: further ones of the same kind, on which the score is measured.
    """

    source: str
    texts: tuple[str, ...]
    held_out: tuple[str, ...] = ()


def read_non_papers(path: Path = NON_PAPERS_FILE) -> OtherTexts:
    """Return the texts of JSON lines with ``text``; those whose ``split`` is ``measure`` apart.

    Args:
        path: the file; our invented texts if it is not given.

    Raises:
        UnreadableSource: it cannot be read, or a line has no text.
    """
    texts: dict[bool, list[str]] = {True: [], False: []}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableSource(f"cannot read {path}: {error}. Give a UTF-8 text file.") from error
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            texts[record.get("split") == "measure"].append(str(record["text"]))
        except (ValueError, KeyError, AttributeError) as error:
            raise UnreadableSource(
                f"{path} line {number} is not a JSON object with 'text': {line[:60]!r}."
            ) from error
    source = "invented by classmark" if path == NON_PAPERS_FILE else path.name
    return OtherTexts(source, tuple(texts[False]), tuple(texts[True]))


def read_other_texts() -> Mapping[tuple[str, str], list[str]]:
    """Return the texts that are measured, by (kind, level)."""
    texts: dict[tuple[str, str], list[str]] = {}
    for line in NON_PAPERS_FILE.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["split"] == "measure":
            texts.setdefault(_place(record["kind"]), []).append(record["text"])
    return texts


def _place(kind: str) -> tuple[str, str]:
    if kind in _FOREIGN:
        return "other-languages", _FOREIGN[kind]
    prose, machine_made = OTHER_KINDS["non-papers"].levels
    return "non-papers", machine_made if kind in _MACHINE_MADE else prose
