"""A model on the papers of a split, clean and perturbed, and on texts that are not papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import DatasetSplit, load_manifest, read_split
from classmark.errors import EmptyEvaluation, LabelMismatch
from classmark.evaluation.metrics.rows import rank_of_primary
from classmark.evaluation.robustness import KINDS, OTHER_KINDS, perturb, read_other_texts
from classmark.evaluation.robustness.measure import LATER_YEARS, Judged, RobustnessConfig, Study
from classmark.records import DatasetManifest, Paper, Progress
from classmark.runtime import Classifier

_CHUNK_PAPERS = 500
_UNKNOWN = -1

Bools = NDArray[np.bool_]


def judge_robustness(
    model: str, dataset: Path, split: str, config: RobustnessConfig, progress: Progress
) -> Study:
    """Classify the papers of a split as they are and perturbed, and texts that are not papers.

    Args:
        model: ``NAME``, ``NAME@VERSION`` or a path.
        dataset: the dataset folder.
        split: one of its splits.
        config: how many papers, which kinds.
        progress: of the texts.

    Raises:
        EmptyEvaluation: the split has no paper whose primary the model knows.
        LabelMismatch: the model has none of the dataset's labels.
    """
    manifest = load_manifest(dataset)
    classifier = Classifier(model)
    papers = _choose(read_split(dataset, split, manifest), manifest, classifier, config)
    judge = _Judge(classifier, papers, progress)
    clean = judge.papers([(p.title, p.abstract) for p in papers.papers])
    return Study(
        model=classifier.model,
        dataset_digest=manifest.digest,
        split=split,
        generated=manifest.generated,
        clean=clean,
        perturbed={
            name: judge.kind(name, config.measurement.seed)
            for name in config.kinds
            if name in KINDS
        },
        other_texts={name: judge.other_texts(name) for name in config.kinds if name in OTHER_KINDS},
        slices={LATER_YEARS: _by_time(papers)} if LATER_YEARS in config.kinds else {},
    )


@dataclass(frozen=True)
class _Chosen:
    """n papers of a split with their truth: int16 [n] columns of the model, years, periods."""

    papers: list[Paper]
    primary: NDArray[np.int16]
    years: NDArray[np.int16]
    periods: tuple[str, ...]


def _choose(
    split: DatasetSplit, manifest: DatasetManifest, classifier: Classifier, config: RobustnessConfig
) -> _Chosen:
    column = {label: i for i, label in enumerate(classifier.labels)}
    to_model = np.array([column.get(label, _UNKNOWN) for label in manifest.labels], dtype=np.int16)
    if not (to_model != _UNKNOWN).any():
        raise LabelMismatch(
            f"model {classifier.model.name} has none of the {len(manifest.labels)} labels of the "
            f"dataset (first: {manifest.labels[0]!r}). Use a model that was fitted on them."
        )
    known = np.flatnonzero(to_model[split.labels] != _UNKNOWN)
    if not known.size:
        raise EmptyEvaluation(
            f"none of the {len(split)} papers of the split has a primary category that the model "
            "knows. Choose a split that has some."
        )
    if known.size > config.papers:
        rng = np.random.default_rng(config.measurement.seed)
        known = np.sort(rng.choice(known, config.papers, replace=False))
    return _Chosen(
        papers=[
            Paper(id=split.ids[i], title=split.titles[i], abstract=split.abstracts[i])
            for i in known.tolist()
        ],
        primary=to_model[split.labels][known],
        years=split.years[known],
        periods=tuple(split.periods[i] for i in known.tolist()),
    )


class _Judge:
    """Asks one model about the chosen papers, again and again."""

    def __init__(self, classifier: Classifier, chosen: _Chosen, progress: Progress) -> None:
        self._classifier = classifier
        self._chosen = chosen
        self._progress = progress
        self._clean = [(p.title, p.abstract) for p in chosen.papers]

    def kind(self, name: str, seed: int) -> dict[str, Judged]:
        """Return what the model makes of the papers at each level of a kind."""
        kind = KINDS[name]
        return {
            level: self.papers(
                [
                    perturb(kind, level, text, identifier=paper.id or "", seed=seed)
                    for paper, text in zip(self._chosen.papers, self._clean, strict=True)
                ]
            )
            for level in kind.levels
        }

    def papers(self, texts: Sequence[tuple[str, str]]) -> Judged:
        """Return what the model makes of the chosen papers with these titles and abstracts."""
        changed = [text != clean for text, clean in zip(texts, self._clean, strict=True)]
        papers = [Paper(title=title, abstract=abstract) for title, abstract in texts]
        return self._judge(papers, self._chosen.primary, np.array(changed))

    def other_texts(self, name: str) -> dict[str, Judged]:
        """Return what the model makes of the texts of each level of a kind."""
        texts = read_other_texts()
        judged = {}
        for level in OTHER_KINDS[name].levels:
            papers = [Paper.from_text(text) for text in texts[name, level]]
            nobody = np.zeros(len(papers), dtype=np.int16)
            judged[level] = self._judge(papers, nobody, nobody.astype(np.bool_))
        return judged

    def _judge(self, papers: list[Paper], primary: NDArray[np.int16], changed: Bools) -> Judged:
        parts = list(self._parts(papers, primary))
        top, rank, confidence, accepted, out_of_scope = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        return Judged(
            top=top,
            rank=rank,
            confidence=confidence,
            accepted=accepted,
            out_of_scope=out_of_scope,
            changed=changed,
        )

    def _parts(
        self, papers: list[Paper], primary: NDArray[np.int16]
    ) -> Iterator[tuple[NDArray[np.generic], ...]]:
        for first in range(0, len(papers), _CHUNK_PAPERS):
            chunk = papers[first : first + _CHUNK_PAPERS]
            decisions = self._classifier.decide(self._classifier.score(chunk))
            top = decisions.first.astype(np.int64)
            yield (
                top,
                rank_of_primary(decisions.probabilities, primary[first : first + len(chunk)]),
                decisions.probabilities[np.arange(len(chunk)), top],
                decisions.accepted,
                decisions.out_of_scope,
            )
            self._progress.advance(len(chunk))


def _by_time(chosen: _Chosen) -> dict[str, Bools]:
    """Return the papers of each period, or of each year if there are none, in order of time."""
    if any(chosen.periods):
        names, years = np.array(chosen.periods), chosen.years
        first = {name: int(years[names == name].min()) for name in set(chosen.periods) - {""}}
        return {name: names == name for name in sorted(first, key=lambda name: (first[name], name))}
    found = np.unique(chosen.years[chosen.years > 0]).tolist()
    return {str(year): np.asarray(chosen.years == year) for year in found}
