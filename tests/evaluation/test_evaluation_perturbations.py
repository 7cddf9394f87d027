from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.evaluation.robustness import KINDS, OTHER_KINDS, Kind, perturb, read_other_texts
from classmark.evaluation.robustness.noise import WORD, change_share, mistype

TITLE = "Efficient flows of ﬁne modern cells"
ABSTRACT = (
    r"We confine fluctuations of strength $H_{c} \sim 10^{3}$ in modern cells. The clusters, here "
    r"called \emph{floes}, grow within minutes and vanish when the inner field is lowered again."
)
SHARE_KINDS = [kind for kind in KINDS.values() if all(0 < v <= 1 for v in kind.levels.values())]
SHARE_KINDS = [kind for kind in SHARE_KINDS if "only" not in kind.name and kind.name != "case"]
LEVELS = [(kind, level) for kind in KINDS.values() for level in kind.levels]

texts = st.text(st.sampled_from("abefilmnor ABO  \n\\${}^_.,éсж"), max_size=120)


def named(value: object) -> str:
    return value.name if isinstance(value, Kind) else str(value)


def perturbed(kind: Kind, level: str, identifier: str = "p1", seed: int = 7) -> tuple[str, str]:
    return perturb(kind, level, (TITLE, ABSTRACT), identifier=identifier, seed=seed)


def differing_words(a: str, b: str) -> int:
    return sum(x != y for x, y in zip(a.split(" "), b.split(" "), strict=True))


@pytest.mark.parametrize(("kind", "level"), LEVELS, ids=named)
def test_a_perturbation_is_the_same_for_the_same_seed_and_paper(kind: Kind, level: str) -> None:
    assert perturbed(kind, level) == perturbed(kind, level)


@given(st.sampled_from(LEVELS), texts, texts, st.text(max_size=8), st.integers(0, 9))
def test_no_perturbation_empties_a_text(
    at: tuple[Kind, str], title: str, abstract: str, identifier: str, seed: int
) -> None:
    kind, level = at
    changed = perturb(kind, level, (title, abstract), identifier=identifier, seed=seed)
    assert bool("".join(changed).strip()) == bool((title + abstract).strip())


@given(st.sampled_from(SHARE_KINDS), texts, texts)
def test_a_share_of_0_changes_nothing(kind: Kind, title: str, abstract: str) -> None:
    assert kind.edit((title, abstract), 0.0, np.random.default_rng(3)) == (title, abstract)


@given(texts, st.floats(0, 1), st.integers(0, 99))
def test_the_number_of_changes_is_the_share_rounded_up_or_down(
    text: str, share: float, seed: int
) -> None:
    places = len(WORD.findall(text))
    changed = change_share(text, WORD, share, np.random.default_rng(seed), lambda w, _: f"<{w}>")
    assert int(share * places) <= changed.count("<") <= int(share * places) + 1
    assert re.sub("[<>]", "", changed) == text


def test_the_number_of_changes_is_the_share_on_average_even_in_short_texts() -> None:
    counts = [
        change_share("two words", WORD, 0.1, np.random.default_rng(seed), lambda *_: "#").count("#")
        for seed in range(2000)
    ]
    assert np.mean(counts) == pytest.approx(0.2, abs=0.03)


@given(texts, st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_a_larger_share_changes_the_same_places_and_more(
    text: str, a: float, b: float, seed: int
) -> None:
    def places(share: float) -> set[int]:
        seen = iter(range(200))
        numbered = WORD.sub(lambda _: f"word{chr(0x4E00 + next(seen))}", text)
        rng = np.random.default_rng(seed)
        changed = change_share(numbered, WORD, share, rng, lambda w, _: f"<{w}>")
        return {ord(c) for c in re.findall("<word(.)>", changed)}

    fewer, more = sorted((a, b))
    assert places(fewer) <= places(more)


@given(st.text("abcdefgXYZé", min_size=2, max_size=9), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_typo_is_one_slip(word: str, which: float, where: float) -> None:
    typo = mistype(word, (which, where))
    assert typo != word
    assert abs(len(typo) - len(word)) <= 1
    if len(typo) == len(word):
        assert sum(a != b for a, b in zip(word, typo, strict=True)) <= 2


def test_other_papers_seeds_and_kinds_get_other_changes() -> None:
    typos = KINDS["typos"]
    first = perturbed(typos, "20 %")
    assert first != perturbed(typos, "20 %", identifier="p2")
    assert first != perturbed(typos, "20 %", seed=8)


@pytest.mark.slow
def test_perturbations_are_the_same_in_every_process() -> None:
    code = (
        "from classmark.evaluation.robustness import KINDS, perturb\n"
        "for kind in KINDS.values():\n"
        "    for level in kind.levels:\n"
        f"        text = perturb(kind, level, {(TITLE, ABSTRACT)!r}, identifier='p1', seed=7)\n"
        "        print(ascii(text))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == [ascii(perturbed(kind, level)) for kind, level in LEVELS]


@pytest.mark.parametrize(
    ("kind", "level", "expected"),
    [
        ("title-only", "title", (TITLE, "")),
        ("abstract-only", "abstract", ("", ABSTRACT)),
        ("truncation", "10 words", (TITLE, " ".join(ABSTRACT.split()[:10]))),
        ("truncation", "100 words", (TITLE, ABSTRACT)),
        ("case", "upper", (TITLE.upper(), ABSTRACT.upper())),
        ("case", "lower", (TITLE.lower(), ABSTRACT.lower())),
        ("case", "title", (TITLE.title(), ABSTRACT.title())),
    ],
)
def test_what_is_left_or_set_is_as_its_level_says(
    kind: str, level: str, expected: tuple[str, str]
) -> None:
    assert perturbed(KINDS[kind], level) == expected


def test_latex_goes_whole_or_mark_by_mark() -> None:
    stripped = perturbed(KINDS["latex-stripped"], "100 %")[1]
    assert "strength  in modern" in stripped
    assert "H" not in stripped
    broken = perturbed(KINDS["latex-broken"], "100 %")[1]
    assert "strength Hc sim 103 in modern" in broken


@pytest.mark.parametrize(("kind", "mark"), [("hyphenation", "-\n"), ("look-alikes", "[а-я]")])
def test_line_ends_and_look_alikes_are_where_they_should_be(kind: str, mark: str) -> None:
    assert re.search(mark, "".join(perturbed(KINDS[kind], "20 %")))
    assert not re.search(mark, TITLE + ABSTRACT)


def test_white_space_and_lost_blanks_leave_every_letter() -> None:
    for kind in ("white-space", "missing-blanks"):
        changed = perturbed(KINDS[kind], list(KINDS[kind].levels)[-1])
        assert ["".join(part.split()) for part in changed] == [
            "".join(part.split()) for part in (TITLE, ABSTRACT)
        ]


def test_duplicated_words_stand_twice_and_tags_stand_around_words() -> None:
    doubled = perturbed(KINDS["duplicated-words"], "40 %")[1]
    assert len(re.findall(r"\b([^\W\d_]+) \1\b", doubled)) >= 5
    assert "<" in perturbed(KINDS["html"], "20 %")[1] + perturbed(KINDS["html"], "20 %")[0]


def test_a_misread_word_that_no_confusion_fits_stays() -> None:
    ocr = KINDS["ocr"]
    assert ocr.edit(("AAA", "fi"), 1.0, np.random.default_rng(0))[0] == "AAA"


def test_other_texts_are_those_that_fitted_nothing_and_fill_every_level() -> None:
    found = read_other_texts()
    named_levels = {(kind.name, level) for kind in OTHER_KINDS.values() for level in kind.levels}
    assert set(found) == named_levels
    assert sum(map(len, found.values())) == 140
    assert len(found["other-languages", "abstracts"]) == 5
