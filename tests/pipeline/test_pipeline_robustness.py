from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from classmark import Classifier
from classmark.dataset import SampleConfig, load_manifest, read_split, sample_dataset
from classmark.errors import EmptyEvaluation, LabelMismatch
from classmark.evaluation import RobustnessConfig
from classmark.pipeline import judge_robustness, score_dataset
from classmark.records import SILENT
from recording import Recording

NO_OTHER_TEXTS = RobustnessConfig(kinds=("title-only", "later-years"))


def test_the_clean_papers_are_judged_as_evaluation_scores_them(dataset: Path) -> None:
    study = judge_robustness("fast", dataset, "test", NO_OTHER_TEXTS, SILENT)
    table = score_dataset("fast", dataset, "test", SILENT)
    assert np.array_equal(study.clean.top, table.scores.argmax(axis=1))
    right = table.scores.argmax(axis=1) == table.primary
    assert np.array_equal(study.clean.rank == 0, right)
    assert not study.clean.changed.any()


def test_perturbed_papers_are_answered_as_the_classifier_answers_them(dataset: Path) -> None:
    study = judge_robustness("fast", dataset, "test", NO_OTHER_TEXTS, SILENT)
    titles = read_split(dataset, "test").titles
    classifier = Classifier("fast")
    answers = classifier.classify([{"title": title} for title in titles])
    judged = study.perturbed["title-only"]["title"]
    assert judged.changed.all()
    assert [a.primary is not None for a in answers] == judged.accepted.tolist()
    assert [a.reason == "out_of_scope" for a in answers] == judged.out_of_scope.tolist()
    assert [a.ranked[0].code for a in answers] == [classifier.labels[i] for i in judged.top]
    assert np.allclose([a.probability for a in answers], judged.confidence)


def test_progress_counts_every_text(dataset: Path) -> None:
    recording = Recording()
    config = RobustnessConfig(kinds=("title-only", "other-languages"), papers=40)
    study = judge_robustness("fast", dataset, "test", config, recording)
    assert study.clean.top.size == 40
    assert sum(recording.counts) == 40 + 40 + 25


def test_later_years_are_the_periods_in_order_of_time(dataset: Path) -> None:
    study = judge_robustness("fast", dataset, "test", NO_OTHER_TEXTS, SILENT)
    parts = study.slices["later-years"]
    assert list(parts) == list(load_manifest(dataset).periods)
    assert np.array_equal(
        sum(part.astype(int) for part in parts.values()), np.ones(len(study.clean.top))
    )


def test_without_periods_later_years_are_years(tmp_path: Path) -> None:
    sample_dataset(tmp_path / "d", SampleConfig(papers=300, categories=24), command="a test")
    study = judge_robustness("fast", tmp_path / "d", "test", NO_OTHER_TEXTS, SILENT)
    years = [int(name) for name in study.slices["later-years"]]
    assert len(years) > 1
    assert years == sorted(years)


def test_a_model_of_other_labels_is_refused(
    dataset: Path, make_bundle: Callable[..., Path], word_scorer: object
) -> None:
    bundle = make_bundle(labels=("math.AC", "math.KT"))
    with pytest.raises(LabelMismatch, match="has none of the 24 labels of the dataset"):
        judge_robustness(str(bundle), dataset, "test", NO_OTHER_TEXTS, SILENT)


def test_a_split_without_a_paper_that_the_model_could_know_is_refused(
    tmp_path: Path, make_bundle: Callable[..., Path], word_scorer: object
) -> None:
    sample_dataset(tmp_path / "d", SampleConfig(papers=100, categories=24), command="a test")
    labels = load_manifest(tmp_path / "d").labels
    seen = {labels[i] for i in read_split(tmp_path / "d", "test").labels}
    absent = next(label for label in labels if label not in seen)
    bundle = make_bundle(labels=(absent, "math.KT"))
    with pytest.raises(EmptyEvaluation, match="papers of the split has a primary category"):
        judge_robustness(str(bundle), tmp_path / "d", "test", NO_OTHER_TEXTS, SILENT)
