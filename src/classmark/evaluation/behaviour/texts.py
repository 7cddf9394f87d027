"""The invented papers and texts, and what is read off the answers to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from classmark.records import Paper
from classmark.runtime import Classifier
from classmark.wire import Answer

INVENTED_PAPERS_FILE = Path(__file__).with_name("papers.jsonl")
UNMISTAKABLE_FILE = Path(__file__).with_name("unmistakable.jsonl")

Held = dict[str, bool]
"""Whether a behaviour holds, by case."""

Sentences = Mapping[str, str]
"""Category -> a sentence made of its terms."""

Judge = Callable[[Classifier, Sentences], Held]
Entry = tuple[str, float, Judge]
"""Claim in words, least share of cases, and what judges them."""


@cache
def invented_papers() -> tuple[Paper, ...]:
    """Return 170 invented papers; their category code is the expected one."""
    return tuple(
        Paper(
            id=record["id"],
            title=record["title"],
            abstract=record["abstract"],
            category_code=record["category_code"],
        )
        for record in _records(INVENTED_PAPERS_FILE)
    )


@cache
def unmistakable_texts() -> dict[str, tuple[str, str]]:
    """Return archive and text by id: three texts an archive, which nobody could place elsewhere.

    Those that a model fails stay in: the share that must be right says how many that may be.
    """
    return {r["id"]: (r["archive"], r["text"]) for r in _records(UNMISTAKABLE_FILE)}


def top_codes(classifier: Classifier, papers: Sequence[Paper]) -> list[str]:
    """Return the first category of each paper."""
    return [answer.ranked[0].code for answer in classifier.classify(papers)]


def probability_of(code: str, answer: Answer) -> float:
    """Return the probability of a category in an answer that ranks them all."""
    return next(ranked.probability for ranked in answer.ranked if ranked.code == code)


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
