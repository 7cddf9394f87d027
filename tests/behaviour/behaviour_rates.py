"""A behaviour must hold in a stated share of cases; how often it does is printed (pytest -rP)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classmark import Answer, Classifier, Paper

GOLDEN = Path(__file__).parents[1] / "golden"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def golden_papers() -> list[Paper]:
    """Return 170 invented papers; their category code is the expected one."""
    return [
        Paper(
            id=record["id"],
            title=record["title"],
            abstract=record["abstract"],
            category_code=record["category_code"],
        )
        for record in read_lines(GOLDEN / "papers.jsonl")
    ]


def assert_rate(claim: str, held: Mapping[str, bool], least: float) -> None:
    """Print how often a claim holds; fail, naming the cases, if that is less than it must be."""
    failed = [case for case, is_held in held.items() if not is_held]
    rate = 1 - len(failed) / len(held)
    print(f"{claim}: {rate:.3f} of {len(held)} cases, at least {least:.3f} must")  # noqa: T201
    assert rate >= least, f"{claim}: {rate:.3f} < {least}; not for {', '.join(failed[:20])}"


def top_codes(classifier: Classifier, papers: Sequence[Paper]) -> list[str]:
    return [answer.ranked[0].code for answer in classifier.classify(papers)]


def probability_of(code: str, answer: Answer) -> float:
    """Return the probability of a category in an answer that ranks them all."""
    return next(ranked.probability for ranked in answer.ranked if ranked.code == code)
