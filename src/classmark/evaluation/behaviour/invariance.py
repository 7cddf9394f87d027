"""What says the same gets the same answer: names, case, spelling, white space, order, markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from classmark.evaluation.behaviour.texts import (
    Entry,
    Held,
    Judge,
    Sentences,
    invented_papers,
    probability_of,
    top_codes,
)
from classmark.records import Paper
from classmark.runtime import Classifier

Change = Callable[[Paper], Paper]

SMALL_CHANGE = 0.15
_WORDS_A_TAG = 15
_SPELLINGS = {
    "é": r"\'{e}", "è": r"\`{e}", "ö": r"\"{o}", "ü": r"\"{u}", "ä": r"\"{a}", "ß": r"{\ss}",
    "ł": r"{\l}", "ø": r"{\o}", "ç": r"\c{c}", "ñ": r"\~{n}", "š": r"\v{s}", "–": "--", "—": "---",
    "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "μ": r"$\mu$",
    "σ": r"$\sigma$", "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "→": r"$\to$",
}  # fmt: skip
_SPELLED_BOTH_WAYS = (
    "The Poincaré map of a Schrödinger operator with α ≤ β is studied after Łojasiewicz — and "
    "Erdős–Rényi graphs, too."
)
_CASES: Mapping[str, Callable[[str], str]] = {
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
    "swapped": str.swapcase,
}
_WHITE = {"blanks": "  ", "line-end": "\n", "tab": "\t", "hard-blank": "\u00a0", "mixed": " \n "}
_NAMES = (
    ("Nakamura and Okafor", "Lindqvist and Duarte"),
    ("Petrova", "Oyelaran"),
    ("Li", "Haddad"),
)


def _same(change: Change, papers: Callable[[], Sequence[Paper]] = invented_papers) -> Judge:
    """Return what judges whether a changed paper gets the first category of the paper itself."""

    def judge(classifier: Classifier, _: Sentences) -> Held:
        before = papers()
        first = top_codes(classifier, before)
        second = top_codes(classifier, [change(paper) for paper in before])
        return {p.id or "": a == b for p, a, b in zip(before, first, second, strict=True)}

    return judge


def _with_sentence(paper: Paper, sentence: str) -> Paper:
    return replace(paper, abstract=f"{paper.abstract} {sentence}")


def _in_latex(paper: Paper) -> Paper:
    title, abstract = (
        "".join(_SPELLINGS.get(letter, letter) for letter in text)
        for text in (paper.title, paper.abstract)
    )
    return replace(paper, title=title, abstract=abstract)


def _with_plain_titles() -> list[Paper]:
    # LaTeX commands are spelled in small letters: another case makes other commands.
    return [paper for paper in invented_papers() if "\\" not in paper.title]


def _in_case(case: Callable[[str], str]) -> Change:
    return lambda paper: replace(paper, title=case(paper.title))


def _spelled_both_ways() -> list[Paper]:
    return [_with_sentence(paper, _SPELLED_BOTH_WAYS) for paper in invented_papers()]


def _spaced(white: str) -> Change:
    def change(paper: Paper) -> Paper:
        title, abstract = (t.replace(" ", white) for t in (paper.title, paper.abstract))
        return replace(paper, title=f"{white}{title}", abstract=f"{abstract}{white}")

    return change


def _of_other_people(first: str, second: str) -> Judge:
    def judge(classifier: Classifier, _: Sentences) -> Held:
        papers = invented_papers()
        cited = [
            top_codes(
                classifier,
                [_with_sentence(p, f"This answers a question of {who}.") for p in papers],
            )
            for who in (first, second)
        ]
        return {p.id or "": a == b for p, a, b in zip(papers, *cited, strict=True)}

    return judge


def _moved_little(classifier: Classifier, _: Sentences) -> Held:
    texts = [
        [_with_sentence(paper, f"We extend the work of {who}.") for paper in invented_papers()]
        for who in ("Nakamura", "Lindqvist")
    ]
    everything = len(classifier.labels)
    first, second = (classifier.classify(papers, top=everything) for papers in texts)
    return {
        a.id or "": abs(a.probability - probability_of(a.ranked[0].code, b)) <= SMALL_CHANGE
        for a, b in zip(first, second, strict=True)
    }


def _backwards(paper: Paper) -> Paper:
    sentences = re.split(r"(?<=[.?!]) ", paper.abstract)
    return replace(paper, abstract=" ".join(reversed(sentences)))


def in_markup(text: str) -> str:
    """Return a text as publishers mark it up: in tags of JATS, some words in italics."""
    words = text.split()
    words[::_WORDS_A_TAG] = [f"<jats:italic>{word}</jats:italic>" for word in words[::_WORDS_A_TAG]]
    return f"<jats:p>{' '.join(words)}</jats:p>"


def _marked_up(classifier: Classifier, _: Sentences) -> Held:
    papers = invented_papers()
    plain = classifier.classify(papers)
    tagged = classifier.classify([replace(p, abstract=in_markup(p.abstract)) for p in papers])
    return {a.id or "": a.primary == b.primary for a, b in zip(plain, tagged, strict=True)}


INVARIANCES: Mapping[str, Entry] = {
    **{
        f"title-{name}": (
            f"same category with the title in {name} case",
            0.99,
            _same(_in_case(case), _with_plain_titles),
        )
        for name, case in _CASES.items()
    },
    "latex": ("same category spelled in LaTeX", 0.99, _same(_in_latex, _spelled_both_ways)),
    **{
        f"white-{name}": (
            f"same category with {white!a} for every blank",
            1.0,
            _same(_spaced(white)),
        )
        for name, white in _WHITE.items()
    },
    **{
        f"names-{number}": (
            f"same category with {second} for {first}",
            0.97,
            _of_other_people(first, second),
        )
        for number, (first, second) in enumerate(_NAMES, start=1)
    },
    "names-probability": (
        f"probability moves by at most {SMALL_CHANGE} for another name",
        0.97,
        _moved_little,
    ),
    "sentence-order": ("same category with the sentences backwards", 0.95, _same(_backwards)),
    "remark": (
        "same category with a remark at the end",
        0.97,
        _same(lambda p: _with_sentence(p, "We conclude with some remarks.")),
    ),
    "markup": ("same answer with the markup of publishers", 1.0, _marked_up),
}
