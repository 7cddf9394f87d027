"""What the journal and a bundle keep for the monitor: the same features, however they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark import Classifier, Paper
from classmark.bundle import Bundle, find_bundle, load_bundle, read_digest, write_bundle
from classmark.errors import BundleIncompatible, InvalidEvent
from classmark.kernels import RawScores
from classmark.runtime import Decider
from classmark.runtime.features import (
    DIMS,
    MOST_LABELS,
    FeatureTable,
    WatchedPapers,
    keep_features,
    keep_scores,
    latex_share,
    read_features,
    text_shares,
    watched,
)
from classmark.runtime.reference import Axes, Reference, make_reference

TEXTS = [
    ("Sums of primes", "We study the distribution of the sums of two primes in short intervals."),
    ("Dark matter halos", "N-body simulations of halos in the standard cosmological model."),
    ("Dualities of branes", ""),
    ("Обучение", "Мы изучаем глубокие нейронные сети и их обобщение."),
    ("", "Attention layers translate sentences better than recurrent networks."),
] * 12


@pytest.fixture(scope="module")
def packaged() -> Bundle:
    return load_bundle(find_bundle("fast"))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("fast")


def _papers(classifier: Classifier) -> WatchedPapers:
    raw = classifier.score(Paper(title=t, abstract=a) for t, a in TEXTS)
    return WatchedPapers.of_texts(raw.scores, raw.known_share, TEXTS, None)


def _decider(bundle: Bundle) -> Decider:
    return Decider(bundle.manifest, Classifier("fast").model)


def _reference(bundle: Bundle, classifier: Classifier) -> Reference:
    n = len(TEXTS)
    truth, years = np.arange(n) % 7, np.full(n, 2020, dtype=np.int16)
    return make_reference(_papers(classifier), _decider(bundle), truth, years)


def _equal(a: FeatureTable, b: FeatureTable) -> bool:
    names = ("top_labels", "top_probs", "numbers", "flags", "projection")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


def test_a_prediction_of_the_journal_has_the_features_of_the_same_paper_in_a_reference(
    packaged: Bundle, classifier: Classifier
) -> None:
    reference = _reference(packaged, classifier)
    raw = classifier.score(Paper(title=t, abstract=a) for t, a in TEXTS)
    rows = []
    for (title, abstract), kept, known in zip(
        TEXTS, keep_scores(raw), raw.known_share, strict=True
    ):
        text = f"{title}\n{abstract}"
        words = text.split()
        features = keep_features(kept, words, text, has_abstract=bool(abstract))
        rows.append(
            {"features": features, "known_share": float(known), "n_words": len(words),
             "used_authors": False, "latex_share": latex_share(text)}
        )  # fmt: skip
    papers = watched(rows, len(classifier.labels))
    assert _equal(papers.features(_decider(packaged), reference.axes.project), reference.table)


def test_a_bundle_gives_its_reference_back_and_keeps_its_digest(
    packaged: Bundle, classifier: Classifier, tmp_path: Path
) -> None:
    reference = _reference(packaged, classifier)
    without = {n: a for n, a in packaged.arrays.items() if not n.startswith("reference_")}
    folders = {}
    for name, arrays in (("bare", without), ("watched", {**without, **reference.arrays()})):
        folders[name] = tmp_path / name
        write_bundle(folders[name], packaged.manifest, arrays, {"CARD.md": "# fast\n"})
    assert read_digest(folders["bare"]) == read_digest(folders["watched"]) == packaged.digest
    assert Reference.of_bundle(load_bundle(folders["bare"])) is None
    read = Reference.of_bundle(load_bundle(folders["watched"]))
    assert read is not None
    assert _equal(read.table, reference.table)
    assert np.array_equal(read.truth, reference.truth)
    assert np.array_equal(read.years, reference.years)
    assert np.array_equal(read.correct, reference.correct)
    assert np.array_equal(read.axes.directions, reference.axes.directions)


def test_the_packaged_model_carries_a_reference_of_at_most_400_kb(packaged: Bundle) -> None:
    reference = Reference.of_bundle(packaged)
    assert reference is not None
    assert 3_000 <= len(reference.table) <= 5_000
    files = packaged.manifest.files.items()
    assert sum(f.bytes for n, f in files if n.startswith("arrays/reference_")) <= 400_000
    assert 0.55 <= reference.correct.mean() <= 0.75
    assert np.allclose(reference.table.projection.std(axis=0), 1, atol=0.1)
    assert abs(reference.table.confidence.mean() - reference.correct.mean()) < 0.03


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("top", lambda a: np.full_like(a, 255), "reference_top with numbers"),
        ("numbers", lambda a: np.full_like(a, np.nan), "reference_numbers with numbers"),
        ("truth", lambda a: a - 2, "reference_truth with numbers"),
        ("projection", lambda a: a[:, :5], "reference_projection of int8"),
        ("directions", lambda a: a[:-1], "reference_directions of float32"),
    ],
)
def test_a_reference_that_cannot_be_is_refused(
    packaged: Bundle, classifier: Classifier, name: str, change: object, words: str
) -> None:
    arrays = _reference(packaged, classifier).arrays()
    arrays[f"reference_{name}"] = change(arrays[f"reference_{name}"])  # type: ignore[operator]
    with pytest.raises(BundleIncompatible, match=words):
        Reference.of_bundle(replace(packaged, arrays={**packaged.arrays, **arrays}))


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_scores_are_kept_to_three_digits(n: int, k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(scale=8, size=(n, k)).astype(np.float32)
    kept = keep_scores(RawScores(scores, np.ones(n, dtype=np.float32)))
    assert [len(one) for one in kept] == [2 * k] * n
    for row, one in zip(scores, kept, strict=True):
        read, english, foreign, has_abstract = read_features(
            keep_features(one, ["the", "primes"], "the primes", has_abstract=True), k
        )
        assert np.allclose(read, row, rtol=1e-3, atol=1e-4)
        assert english == pytest.approx(0.5, abs=1 / 255)
        assert (foreign, has_abstract) == (0, True)


def test_the_scores_of_the_text_are_kept_also_where_authors_changed_them() -> None:
    both = RawScores(
        np.zeros((1, 3), np.float32), np.ones(1, np.float32), text_scores=np.eye(3, dtype="f4")[:1]
    )
    assert np.frombuffer(keep_scores(both)[0], "<f2").tolist() == [1, 0, 0]


def test_a_model_of_very_many_labels_keeps_no_scores() -> None:
    k = MOST_LABELS + 1
    raw = RawScores(np.zeros((2, k), np.float32), np.ones(2, np.float32))
    assert keep_scores(raw) == [b"", b""]


@pytest.mark.parametrize("kept", [b"", b"\x01\x00", b"\x02\x00\x00\x01\x00\x00"])
def test_features_of_another_version_are_refused(kept: bytes) -> None:
    with pytest.raises(InvalidEvent, match="are not readable"):
        read_features(kept, 1)


def test_features_of_another_model_are_refused() -> None:
    kept = keep_features(b"\x00" * 8, ["a"], "a", has_abstract=False)
    with pytest.raises(InvalidEvent, match="keeps 4 scores, its model has 3 labels"):
        read_features(kept, 3)


@pytest.mark.parametrize(
    ("text", "english", "foreign"),
    [
        ("We study the sums of primes", 3 / 6, 0.0),
        ("Мы изучаем суммы", 0.0, 14 / 16),
        ("the $\\alpha$ and β of 𝒜", 3 / 6, 0.0),
        ("和与差", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_language_and_script_of_a_text(text: str, english: float, foreign: float) -> None:
    assert text_shares(text.split(), text) == (pytest.approx(english), pytest.approx(foreign))


def test_axes_are_the_same_whatever_the_order_of_the_papers() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(400, 20)).astype(np.float32) @ rng.normal(size=(20, 20)).astype("f4")
    first, second = Axes.of(scores), Axes.of(scores[::-1].copy())
    assert np.allclose(first.directions, second.directions, atol=1e-3)
    assert first.project(scores).shape == (400, DIMS)
    assert not first.directions[:, 20:].any()


def test_papers_that_are_all_alike_have_no_components() -> None:
    axes = Axes.of(np.ones((60, 4), dtype=np.float32))
    assert not axes.directions.any()
    assert not axes.project(np.ones((3, 4), dtype=np.float32)).any()


def test_no_papers_have_no_features(packaged: Bundle, classifier: Classifier) -> None:
    reference = _reference(packaged, classifier)
    empty = watched([], len(classifier.labels))
    assert len(empty.features(_decider(packaged), reference.axes.project)) == 0
