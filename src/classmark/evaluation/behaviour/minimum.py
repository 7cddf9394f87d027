"""What any model must get right: plain texts of every archive, empty texts, other texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classmark import taxonomy
from classmark.errors import InvalidPaper
from classmark.evaluation.behaviour.texts import Entry, Held, Judge, Sentences, unmistakable_texts
from classmark.evaluation.robustness import read_other_texts
from classmark.records import Paper
from classmark.runtime import Classifier
from classmark.wire import Answer

NOTHING = ("", " ", "\n", "\t \n", "\u00a0", "\u2003\n")
NEXT_TO_NOTHING = (".", "$$", "???", "123", "a", "the", "\\", "{}", "...", "I am", "\u200b.")
_FIRST = 3
_NO_PAPERS = {
    "other-languages": (("other-languages", "other texts"), 1.0),
    "foreign-abstracts": (("other-languages", "abstracts"), 1.0),
    "machine-made": (("non-papers", "machine-made"), 0.95),
    "prose": (("non-papers", "English prose"), 0.85),
}


def _answers(classifier: Classifier) -> list[tuple[str, Answer]]:
    """Return archive and answer of the texts of each archive that the model knows."""
    known = {taxonomy.parent(label) for label in classifier.labels}
    texts = {name: found for name, found in unmistakable_texts().items() if found[0] in known}
    answers = classifier.classify([Paper(id=n, abstract=text) for n, (_, text) in texts.items()])
    return [(archive, a) for (archive, _), a in zip(texts.values(), answers, strict=True)]


def _among_first(places: int) -> Judge:
    def judge(classifier: Classifier, _: Sentences) -> Held:
        return {
            answer.id or "": archive in {level.code for level in answer.levels.archive[:places]}
            for archive, answer in _answers(classifier)
        }

    return judge


def _in_scope(classifier: Classifier, _: Sentences) -> Held:
    return {a.id or "": a.reason != "out_of_scope" for _, a in _answers(classifier)}


def _nothing_refused(classifier: Classifier, _: Sentences) -> Held:
    return {ascii(text): _is_refused(classifier, text) for text in NOTHING}


def _is_refused(classifier: Classifier, text: str) -> bool:
    try:
        classifier.classify({"title": text, "abstract": text})
    except InvalidPaper:
        return True
    return False


def _without_category(texts: Sequence[str]) -> Judge:
    def judge(classifier: Classifier, _: Sentences) -> Held:
        answers = classifier.classify(texts)
        return {ascii(t[:30]): a.primary is None for t, a in zip(texts, answers, strict=True)}

    return judge


def _no_papers(place: tuple[str, str]) -> Judge:
    return lambda classifier, sentences: _without_category(read_other_texts()[place])(
        classifier, sentences
    )


MINIMA: Mapping[str, Entry] = {
    "archive": ("an unmistakable text gets its archive", 0.9, _among_first(1)),
    "archive-of-three": (
        "the archive of an unmistakable text is among the first three",
        0.98,
        _among_first(_FIRST),
    ),
    "in-scope": ("an unmistakable text is in scope", 0.98, _in_scope),
    "nothing": ("nothing is refused", 1.0, _nothing_refused),
    "next-to-nothing": (
        "next to nothing gets no category",
        1.0,
        _without_category(NEXT_TO_NOTHING),
    ),
    **{
        name: (f"{' '.join(place)} get no category", least, _no_papers(place))
        for name, (place, least) in _NO_PAPERS.items()
    },
}
