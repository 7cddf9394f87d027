"""What any model must get right: plain texts of every archive, nothing, and what is no paper."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from behaviour_rates import assert_rate, read_lines

from classmark import Classifier, Paper
from classmark.errors import InvalidPaper
from classmark.evaluation.robustness import read_other_texts
from classmark.taxonomy import categories

# Three sentences an archive that a person who knows it could not place elsewhere. Those that a
# model fails stay in: the rate says how many that may be.
TEXTS = read_lines(Path(__file__).with_name("unmistakable.jsonl"))
NOTHING = ["", " ", "\n", "\t \n", "\u00a0", "\u2003\n"]
NEXT_TO_NOTHING = [".", "$$", "???", "123", "a", "the", "\\", "{}", "...", "I am", "\u200b."]


def test_there_are_three_texts_for_every_archive_that_is_active() -> None:
    counts = Counter(text["archive"] for text in TEXTS)
    assert set(counts) == {category.archive for category in categories()}
    assert set(counts.values()) == {3}
    assert len({text["text"] for text in TEXTS}) == len(TEXTS)


def test_an_unmistakable_text_gets_its_archive(classifier: Classifier) -> None:
    answers = classifier.classify([Paper(id=t["id"], abstract=t["text"]) for t in TEXTS])
    held = {
        text["id"]: answer.levels.archive[0].code == text["archive"]
        for text, answer in zip(TEXTS, answers, strict=True)
    }
    assert_rate("an unmistakable text gets its archive", held, 0.9)


def test_the_archive_of_an_unmistakable_text_is_among_the_first_three(
    classifier: Classifier,
) -> None:
    answers = classifier.classify([Paper(id=t["id"], abstract=t["text"]) for t in TEXTS])
    held = {
        text["id"]: text["archive"] in {level.code for level in answer.levels.archive[:3]}
        for text, answer in zip(TEXTS, answers, strict=True)
    }
    assert_rate("the archive of an unmistakable text is among the first three", held, 0.98)


def test_an_unmistakable_text_is_in_scope(classifier: Classifier) -> None:
    answers = classifier.classify([Paper(id=t["id"], abstract=t["text"]) for t in TEXTS])
    held = {answer.id or "": answer.reason != "out_of_scope" for answer in answers}
    assert_rate("an unmistakable text is in scope", held, 0.98)


@pytest.mark.parametrize("text", NOTHING, ids=ascii)
def test_nothing_is_refused(classifier: Classifier, text: str) -> None:
    with pytest.raises(InvalidPaper, match="title and abstract are both empty"):
        classifier.classify({"title": text, "abstract": text})


@pytest.mark.parametrize("text", NEXT_TO_NOTHING, ids=ascii)
def test_next_to_nothing_gets_no_category(classifier: Classifier, text: str) -> None:
    assert classifier.classify(text).primary is None


@pytest.mark.parametrize(
    ("place", "least"),
    [
        (("other-languages", "other texts"), 1.0),
        (("other-languages", "abstracts"), 1.0),
        (("non-papers", "machine-made"), 0.95),
        (("non-papers", "English prose"), 0.85),
    ],
    ids=lambda value: value[1].replace(" ", "-") if isinstance(value, tuple) else str(value),
)
def test_what_is_no_paper_gets_no_category(
    classifier: Classifier, place: tuple[str, str], least: float
) -> None:
    texts = read_other_texts()[place]
    answers = classifier.classify(texts)
    held = {text[:30]: answer.primary is None for text, answer in zip(texts, answers, strict=True)}
    assert_rate(f"{' '.join(place)} get no category", held, least)
