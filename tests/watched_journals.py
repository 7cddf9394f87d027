"""A model with a reference of invented papers, and journals of what it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from classmark import Classifier, Paper
from classmark.bundle import find_bundle, load_bundle, write_bundle
from classmark.dataset.sample.sample import SampleConfig, sample_papers
from classmark.journal import JournalConfig
from classmark.journal.writer import FileWriter
from classmark.papers import text_fingerprint
from classmark.records import PredictionEvent, new_prediction_id, utc_text
from classmark.runtime import Decider
from classmark.runtime.features import WatchedPapers, keep_features, keep_scores, latex_share
from classmark.runtime.reference import make_reference

START_MS = 1_760_000_000_000
N_REFERENCE = 600


@dataclass(frozen=True)
class Watched:
    """A model, and papers that its reference has not seen.

    Attributes:
        folder: of the model.
        usual: papers like those of the reference.
        other: papers of one field.
    """

    folder: Path
    usual: Sequence[Paper]
    other: Sequence[Paper]

    def events(
        self, papers: Sequence[Paper], *, start_ms: int = START_MS, client: str = ""
    ) -> list[PredictionEvent]:
        """Return the predictions of papers, a second apart."""
        classifier = Classifier(self.folder)
        raw = classifier.score(papers)
        answers, kept = classifier.answers(papers, raw), keep_scores(raw)
        found = []
        for i, (paper, answer, scores) in enumerate(zip(papers, answers, kept, strict=True)):
            text = f"{paper.title}\n{paper.abstract}"
            words, at_ms = text.split(), start_ms + 1000 * i
            event = PredictionEvent(
                prediction_id=new_prediction_id(at_ms=at_ms),
                at_utc=utc_text(at_ms),
                model=answer.model,
                text_fingerprint=text_fingerprint(paper),
                primary=answer.primary,
                reason=answer.reason,
                ranked=tuple((r.code, r.probability) for r in answer.ranked),
                set=answer.set or (),
                cross_lists=answer.cross_lists,
                known_share=float(raw.known_share[i]),
                n_chars=len(text),
                n_words=len(words),
                latex_share=latex_share(text),
                latency_ms=1.0,
                client=client,
                features=keep_features(scores, words, text, has_abstract=bool(paper.abstract)),
            )
            found.append(event)
        return found


Keep = Callable[[Sequence[PredictionEvent]], Path]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Return a function that adds predictions to a journal, and returns its path."""

    return lambda events: keep_events(tmp_path / "journal.sqlite", events)


def keep_events(path: Path, events: Sequence[PredictionEvent]) -> Path:
    """Add predictions to a journal, and return its path."""
    writer = FileWriter(JournalConfig(path=path, keep_text=True))
    outcome = writer.write(events)
    writer.close()
    assert outcome.refused == 0
    return path


def with_texts(events: Sequence[PredictionEvent], papers: Sequence[Paper]) -> list[PredictionEvent]:
    """Return predictions with the texts of their papers."""
    return [
        structs.replace(event, text=f"{paper.title}\n{paper.abstract}")
        for event, paper in zip(events, papers, strict=True)
    ]


@pytest.fixture(scope="session")
def watched_model(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Return the packaged model with a reference of invented papers."""
    papers = list(sample_papers(SampleConfig(papers=7_000, seed=5, categories=24)))
    order = np.random.default_rng(3).permutation(len(papers))
    shuffled = [replace(papers[i], authors=()) for i in order]
    reference, rest = shuffled[:N_REFERENCE], shuffled[N_REFERENCE:]
    packaged, classifier = load_bundle(find_bundle("fast")), Classifier("fast")
    raw = classifier.score(reference)
    texts = [(paper.title, paper.abstract) for paper in reference]
    table = WatchedPapers.of_texts(raw.scores, raw.known_share, texts, None)
    columns = {label: column for column, label in enumerate(classifier.labels)}
    truth = np.array([columns.get(paper.category_code or "", -1) for paper in reference])
    decider = Decider(packaged.manifest, classifier.model)
    made = make_reference(table, decider, truth, np.full(len(texts), 2020, dtype=np.int16))
    folder = tmp_path_factory.mktemp("watched") / "watched-1.0"
    manifest = replace(packaged.manifest, name="watched", version="1.0")
    write_bundle(folder, manifest, {**packaged.arrays, **made.arrays()}, {"CARD.md": "# watched\n"})
    first = np.array(classifier.labels)[raw.scores.argmax(axis=1)]
    found = [
        code for code, paper in zip(first, reference, strict=True) if code == paper.category_code
    ]
    field = Counter(found).most_common(1)[0][0]
    usual, others = rest[:2_000], rest[2_000:]
    return Watched(folder, usual, [paper for paper in others if paper.category_code == field])
