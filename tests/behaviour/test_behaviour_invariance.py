"""What says the same gets the same answer: names, case, spelling, white space, order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from behaviour_rates import assert_rate, golden_papers, probability_of, top_codes

from classmark import Classifier, Paper

PAPERS = golden_papers()
SMALL_CHANGE = 0.15

SPELLINGS = {
    "é": r"\'{e}", "è": r"\`{e}", "ö": r"\"{o}", "ü": r"\"{u}", "ä": r"\"{a}", "ß": r"{\ss}",
    "ł": r"{\l}", "ø": r"{\o}", "ç": r"\c{c}", "ñ": r"\~{n}", "š": r"\v{s}", "–": "--", "—": "---",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "μ": r"$\mu$",
    "σ": r"$\sigma$", "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "→": r"$\to$",
}  # fmt: skip
SPELLED_BOTH_WAYS = (
    "The Poincaré map of a Schrödinger operator with α ≤ β is studied after Łojasiewicz — and "
    "Erdős–Rényi graphs, too."
)


def same_answers(
    classifier: Classifier, change: Callable[[Paper], Paper], papers: list[Paper] = PAPERS
) -> dict[str, bool]:
    """Return, by id, whether a changed paper has the top category of the paper itself."""
    before = top_codes(classifier, papers)
    after = top_codes(classifier, [change(paper) for paper in papers])
    return {p.id or "": a == b for p, a, b in zip(papers, before, after, strict=True)}


def with_sentence(paper: Paper, sentence: str) -> Paper:
    return replace(paper, abstract=f"{paper.abstract} {sentence}")


def in_latex(text: str) -> str:
    return "".join(SPELLINGS.get(letter, letter) for letter in text)


def backwards(text: str) -> str:
    return " ".join(reversed(re.split(r"(?<=[.?!]) ", text)))


@pytest.mark.parametrize("case", [str.upper, str.lower, str.title, str.swapcase])
def test_the_case_of_a_title_changes_nothing(
    classifier: Classifier, case: Callable[[str], str]
) -> None:
    # LaTeX commands are spelled in small letters: another case makes other commands.
    plain = [paper for paper in PAPERS if "\\" not in paper.title]
    held = same_answers(classifier, lambda p: replace(p, title=case(p.title)), plain)
    assert_rate(f"same category with the title in {case.__name__}", held, 0.99)


def test_latex_and_unicode_say_the_same(classifier: Classifier) -> None:
    unicode = [with_sentence(paper, SPELLED_BOTH_WAYS) for paper in PAPERS]
    held = same_answers(
        classifier,
        lambda p: replace(p, title=in_latex(p.title), abstract=in_latex(p.abstract)),
        unicode,
    )
    assert_rate("same category spelled in LaTeX", held, 0.99)


@pytest.mark.parametrize("white", ["  ", "\n", "\t", "\u00a0", " \n "], ids=ascii)
def test_white_space_changes_nothing(classifier: Classifier, white: str) -> None:
    def spaced(paper: Paper) -> Paper:
        title, abstract = (t.replace(" ", white) for t in (paper.title, paper.abstract))
        return replace(paper, title=f"{white}{title}", abstract=f"{abstract}{white}")

    held = same_answers(classifier, spaced)
    assert_rate(f"same category with {white!a} for every blank", held, 1.0)


@pytest.mark.parametrize(
    ("first", "second"),
    [("Nakamura and Okafor", "Lindqvist and Duarte"), ("Petrova", "Oyelaran"), ("Li", "Haddad")],
)
def test_other_names_of_people_change_little(
    classifier: Classifier, first: str, second: str
) -> None:
    cited = [
        top_codes(
            classifier, [with_sentence(p, f"This answers a question of {who}.") for p in PAPERS]
        )
        for who in (first, second)
    ]
    held = {p.id or "": a == b for p, a, b in zip(PAPERS, *cited, strict=True)}
    assert_rate(f"same category with {second} for {first}", held, 0.97)


def test_other_names_of_people_move_the_probability_little(classifier: Classifier) -> None:
    texts = [
        [with_sentence(paper, f"We extend the work of {who}.") for paper in PAPERS]
        for who in ("Nakamura", "Lindqvist")
    ]
    everything = len(classifier.labels)
    first, second = (classifier.classify(papers, top=everything) for papers in texts)
    held = {
        a.id or "": abs(a.probability - probability_of(a.ranked[0].code, b)) <= SMALL_CHANGE
        for a, b in zip(first, second, strict=True)
    }
    assert_rate(f"probability moves by at most {SMALL_CHANGE} for another name", held, 0.97)


def test_the_order_of_sentences_changes_little(classifier: Classifier) -> None:
    held = same_answers(classifier, lambda p: replace(p, abstract=backwards(p.abstract)))
    assert_rate("same category with the sentences backwards", held, 0.95)


def test_an_empty_phrase_at_the_end_changes_little(classifier: Classifier) -> None:
    held = same_answers(classifier, lambda p: with_sentence(p, "We conclude with some remarks."))
    assert_rate("same category with a remark at the end", held, 0.97)


def test_markup_of_publishers_changes_no_answer(classifier: Classifier) -> None:
    def marked(text: str) -> str:
        words = text.split()
        words[::15] = [f"<jats:italic>{word}</jats:italic>" for word in words[::15]]
        return f"<jats:p>{' '.join(words)}</jats:p>"

    papers = golden_papers()
    plain = classifier.classify(papers)
    tagged = classifier.classify([replace(p, abstract=marked(p.abstract)) for p in papers])
    assert [a.primary for a in tagged] == [a.primary for a in plain]
    [answer] = classifier.classify([{"abstract": marked(papers[0].abstract)}], explain=True)
    terms = " ".join(evidence.term for evidence in answer.explanation or ())
    assert "jats" not in terms
    assert "italic" not in terms
