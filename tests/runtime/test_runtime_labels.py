"""What a model calls its categories: finding the one that is meant, and judging an author's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from classmark import Answer, Classifier, taxonomy
from classmark.errors import UnknownCategory
from classmark.records import BundleManifest, Paper
from classmark.runtime.labels import MAX_SHOWN_CHARS, Labels
from classmark.wire import AuthorCategory

GALAXIES = (
    "Star formation in dwarf galaxies\n"
    "We measure the star formation rate of dwarf galaxies with archival photometry. Their stellar "
    "mass follows from the spectral energy distribution, the gas mass from the line of neutral "
    "hydrogen, and both together say how long the star formation of a galaxy can go on."
)
OWN = ("Machine learning, general", "ops", "Ops", "Übersetzung", "組合せ論")


@pytest.fixture
def own(manifest: Callable[..., BundleManifest]) -> Labels:
    return Labels(manifest(labels=OWN, label_space="free", taxonomy=""))


@pytest.fixture(scope="module")
def packaged() -> Classifier:
    return Classifier()


@pytest.fixture(scope="module")
def galaxies(packaged: Classifier) -> Answer:
    """Return an answer that ranks every category."""
    return packaged.classify(GALAXIES, top=len(packaged.labels))


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("machine  LEARNING, general ", "Machine learning, general"),
        ("U\u0308BERSETZUNG", "Übersetzung"),  # the dots as a character of their own
        ("組合せ論", "組合せ論"),
        ("ops", "ops"),
        ("Ops", "Ops"),
    ],
)
def test_own_labels_are_found_whatever_their_case_and_white_space(
    own: Labels, written: str, label: str
) -> None:
    assert own.canonical(written) == label
    assert own.author_category(written) == label


@pytest.mark.parametrize(
    ("written", "nearest"),
    [("OPS", "'ops'"), ("machine learning", "'Machine learning, general'"), ("math", "")],
)
def test_what_is_no_own_label_is_refused_with_the_nearest_ones(
    own: Labels, written: str, nearest: str
) -> None:
    for find in (own.canonical, own.author_category):
        with pytest.raises(UnknownCategory, match=f"{written!r}.*tiny 1.0 has 5 labels.*{nearest}"):
            find(written)


def test_a_long_unknown_label_is_quoted_only_in_part(own: Labels) -> None:
    with pytest.raises(UnknownCategory, match=f"'{'x' * MAX_SHOWN_CHARS}'"):
        own.canonical("x" * 100_000)


@pytest.mark.parametrize("written", ["astro-ph", " Astro-PH "])
def test_a_retired_code_is_judged_by_its_archive(
    packaged: Classifier, galaxies: Answer, written: str
) -> None:
    labels = packaged.categories
    judged = labels.verdict(galaxies, labels.author_category(written))
    assert (judged.code, judged.verdict, judged.rank) == ("astro-ph", "confirmed", 1)
    [level] = [level for level in galaxies.levels.archive if level.code == "astro-ph"]
    assert judged.probability == pytest.approx(level.probability, rel=1e-9)


@pytest.mark.parametrize("archive", ["math", "physics", "cond-mat", "q-bio", "cs", "stat"])
def test_an_archive_that_the_paper_is_not_in_is_challenged_with_its_sum(
    packaged: Classifier, galaxies: Answer, archive: str
) -> None:
    judged = packaged.categories.verdict(galaxies, packaged.categories.author_category(archive))
    ranked = [r.probability for r in galaxies.ranked if taxonomy.parent(r.code) == archive]
    assert judged.verdict == "challenged"
    assert judged.probability == pytest.approx(sum(ranked))
    assert judged.probability > 0
    assert judged.rank > 1


def abstaining(answer: Answer, **changes: Any) -> Answer:
    return replace(answer, primary=None, cross_lists=(), **changes)


def test_an_archive_with_most_of_the_probability_is_confirmed_without_a_primary_category(
    packaged: Classifier, galaxies: Answer
) -> None:
    verdict = packaged.categories.verdict
    unsure = abstaining(galaxies, reason="below_threshold")
    assert verdict(unsure, "astro-ph").verdict == "confirmed"
    stranger = abstaining(galaxies, reason="out_of_scope")
    assert verdict(stranger, "astro-ph").verdict == "plausible"


def test_an_archive_with_a_category_of_the_set_is_plausible(
    packaged: Classifier, galaxies: Answer
) -> None:
    listed = replace(galaxies, set=("astro-ph.GA", "math.CO"))
    assert packaged.categories.verdict(listed, "math").verdict == "plausible"


def test_an_archive_that_the_model_lacks_is_challenged_without_a_rank(
    manifest: Callable[..., BundleManifest], galaxies: Answer
) -> None:
    labels = Labels(manifest(labels=("astro-ph.GA", "cs.LG")))
    few = replace(galaxies, ranked=galaxies.ranked[:1], set=("astro-ph.GA",), cross_lists=())
    judged = labels.verdict(few, labels.author_category("math"))
    assert judged == AuthorCategory("math", "challenged", None, 0.0)


def test_an_archive_of_one_category_is_that_category(
    packaged: Classifier, galaxies: Answer
) -> None:
    judged = packaged.categories.verdict(galaxies, packaged.categories.author_category("hep-th"))
    [ranked] = [r for r in galaxies.ranked if r.code == "hep-th"]
    assert judged.probability == ranked.probability


def test_python_judges_the_category_that_a_paper_comes_with(packaged: Classifier) -> None:
    title, abstract = GALAXIES.split("\n")
    codes = ["astro-ph", "astro-ph.GA", "math", "nonsense", None]
    papers = [Paper(title=title, abstract=abstract, category_code=code) for code in codes]
    answers = packaged.classify(papers, top=2, check_category=True)
    found = [(a.author_category.verdict if a.author_category else None) for a in answers]
    assert found == ["confirmed", "confirmed", "challenged", "unknown", None]
    assert {len(answer.ranked) for answer in answers} == {2}
    assert answers[0].to_dict()["author_category"]["rank"] == 1
    assert "author_category" not in answers[4].to_dict()
    one = {"title": title, "abstract": abstract, "category_code": "astro-ph"}
    assert packaged.classify(one, top=2, check_category=True) == answers[0]
    assert packaged.classify(papers, top=2)[0].author_category is None
