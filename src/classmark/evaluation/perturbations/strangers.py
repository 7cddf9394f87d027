"""Texts that a model shall not accept: invented ones of ours, in many languages and of many kinds.

Half of the texts fitted the scope score of the model in the package (``split`` is ``fit``); only
the other half is measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NON_PAPERS_FILE = Path(__file__).with_name("non_papers.jsonl")

_MACHINE_MADE = frozenset(
    ["code", "stack-trace", "log", "html", "numbers", "data-file", "keyboard-mash", "pseudo-latin"]
)
_FOREIGN = {"foreign": "other texts", "foreign-abstract": "abstracts"}


@dataclass(frozen=True)
class StrangerKind:
    """One kind of texts that are out of scope; ``levels`` are its parts."""

    name: str
    unit: str
    levels: tuple[str, ...]


STRANGERS = {
    kind.name: kind
    for kind in (
        StrangerKind(
            "other-languages", "invented texts in other languages", tuple(_FOREIGN.values())
        ),
        StrangerKind(
            "non-papers", "invented texts that are no papers", ("English prose", "machine-made")
        ),
    )
}


def read_strangers() -> Mapping[tuple[str, str], list[str]]:
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
    prose, machine_made = STRANGERS["non-papers"].levels
    return "non-papers", machine_made if kind in _MACHINE_MADE else prose
