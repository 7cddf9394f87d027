"""Golden answers: recorded with one model, given again by another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from classmark.errors import EmptyEvaluation, InvalidGates
from classmark.evaluation.gate import Replay
from classmark.records import GoldenAnswer, GoldenAnswers, Paper
from classmark.runtime import Classifier

_MOST_NAMED = 20


def record_goldens(classifier: Classifier, papers: Iterable[Paper]) -> GoldenAnswers:
    """Return the answers of a model to the texts of papers, without their authors.

    Raises:
        EmptyEvaluation: there are no papers.
    """
    texts = [
        Paper(id=paper.id or str(number), title=paper.title, abstract=paper.abstract)
        for number, paper in enumerate(papers, start=1)
    ]
    if not texts:
        raise EmptyEvaluation("there are no papers to answer. Give a file that has some.")
    answers = classifier.classify(texts, top=1, authors=False)
    return GoldenAnswers(
        model=classifier.model,
        answers=tuple(
            GoldenAnswer(
                id=text.id or "",
                title=text.title,
                abstract=text.abstract,
                primary=answer.primary,
                first=answer.ranked[0].code,
                probability=answer.probability,
            )
            for text, answer in zip(texts, answers, strict=True)
        ),
    )


def read_goldens(file: Path) -> GoldenAnswers:
    """Read a file of golden answers.

    Raises:
        InvalidGates: it is missing, not JSON, or of another format.
    """
    try:
        return GoldenAnswers.from_dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError, InvalidGates) as error:
        raise InvalidGates(
            f"golden answers {file} cannot be used: {error}. Write them with `classmark registry "
            "goldens`."
        ) from error


def replay_goldens(classifier: Classifier, goldens: GoldenAnswers) -> Replay:
    """Return how a model answers the same texts; a label that it lacks has probability 0."""
    texts = [Paper(id=a.id, title=a.title, abstract=a.abstract) for a in goldens.answers]
    answers = classifier.classify(texts, top=len(classifier.labels), authors=False)
    other, change = [], 0.0
    for golden, answer in zip(goldens.answers, answers, strict=True):
        if answer.primary != golden.primary:
            other.append(golden.id)
        found = next((r.probability for r in answer.ranked if r.code == golden.first), 0.0)
        change = max(change, abs(found - golden.probability))
    return Replay(
        share=1 - len(other) / len(texts), change=change, other=tuple(other[:_MOST_NAMED])
    )
