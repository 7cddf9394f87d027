from __future__ import annotations

from pathlib import Path

import pytest

from classmark.dataset import read_split
from classmark.errors import InvalidDataset
from classmark.pipeline.scoring import formula_share, read_facts


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("no formula, 5 % off", 0.0),
        ("$x$", 1.0),
        ("ab $x$ cd", 3 / 9),
        (r"\alpha b", 6 / 8),
        ("costs 5$ only", 0.0),
        ("", 0.0),
    ],
)
def test_formula_share_counts_whole_formulas_and_commands(text: str, share: float) -> None:
    assert formula_share(text) == pytest.approx(share)


def test_facts_are_in_the_order_of_the_split(dataset: Path) -> None:
    facts, split = read_facts(dataset, "test"), read_split(dataset, "test")
    assert facts.titles == tuple(split.titles)
    assert facts.text_chars[0] == len(split.titles[0]) + len(split.abstracts[0])
    assert 0.0 <= facts.formula_share.min() <= facts.formula_share.max() <= 1.0


def test_facts_of_a_split_that_is_not_there_are_refused(dataset: Path) -> None:
    with pytest.raises(InvalidDataset, match="has no split 'tests'"):
        read_facts(dataset, "tests")
