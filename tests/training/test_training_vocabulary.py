"""Which terms a fit sees, and how much each weighs in a paper."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import TrainingFailed
from classmark.kernels import featuriser
from classmark.kernels.featuriser import terms
from classmark.kernels.linear import MAX_COUNT
from classmark.records import SILENT
from classmark.training import (
    choose_frequent,
    choose_papers,
    parts_of,
    read_occurrences,
    to_sparse,
    vocabulary,
)
from classmark.training.vocabulary import Occurrences
from recording import Recording

ABSTRACTS = ["dark matter halo", "dark matter", "dark energy dark dark"]


def key_of(term: str) -> int:
    """Return the key of a term of an abstract."""
    return dict(terms("", term))[term]


def read(abstracts: list[str]) -> Occurrences:
    return read_occurrences([("", a) for a in abstracts], SILENT)


@given(
    st.lists(st.tuples(st.text(max_size=9), st.text("ab. ?!\n", max_size=40)), max_size=12),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_a_part_is_a_title_or_neighbouring_sentences(
    papers: list[tuple[str, str]], share: float, seed: int
) -> None:
    chosen = choose_papers(len(papers), share, seed)
    parts = list(parts_of(papers, chosen, seed))
    assert len(parts) == len(chosen) == round(share * len(papers))
    assert np.all(np.diff(chosen) > 0)
    for row, (title, abstract) in zip(chosen.tolist(), parts, strict=True):
        if abstract:
            assert not title
            assert " ".join(abstract.split()) in " ".join(papers[row][1].split())
        else:
            assert title == papers[row][0]
    assert parts == list(parts_of(papers, chosen, seed))


def test_titles_and_sentences_are_both_drawn() -> None:
    papers = [(f"Title {i}.", "One. Two. Three. Four.") for i in range(200)]
    parts = list(parts_of(papers, choose_papers(200, 1.0, 7), 7))
    assert 60 < sum(1 for title, _ in parts if title) < 140
    assert {abstract for _, abstract in parts} == {"", "One. Two.", "Two. Three.", "Three. Four."}


def test_each_feature_of_a_paper_is_listed_once_with_its_count() -> None:
    occurrences = read(ABSTRACTS)
    last = slice(*occurrences.starts[2:4])
    counts = dict(zip(occurrences.keys[last].tolist(), occurrences.counts[last], strict=True))
    expected = {"dark": 3, "energy": 1, "dark energy": 1, "energy dark": 1, "dark dark": 1}
    assert counts == {key_of(term): n for term, n in expected.items()}


def test_a_count_stops_at_the_largest_that_a_bundle_knows() -> None:
    occurrences = read(["dark " * 40])
    assert occurrences.counts.tolist() == [MAX_COUNT, MAX_COUNT]


def test_papers_are_read_in_chunks_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(ABSTRACTS)
    monkeypatch.setattr(vocabulary, "CHUNK_PAPERS", 2)
    recording = Recording()
    parts = read_occurrences([("", a) for a in ABSTRACTS], recording)
    assert recording.counts == [2, 1]
    for name in ("keys", "counts", "starts"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_the_numpy_featuriser_finds_the_same_occurrences(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = read(ABSTRACTS)
    monkeypatch.setattr(featuriser, "KERNEL", None)
    reference = read(ABSTRACTS)
    assert np.array_equal(chosen.keys, reference.keys)
    assert np.array_equal(chosen.counts, reference.counts)


def test_the_keys_of_each_paper_are_sorted() -> None:
    occurrences = read(ABSTRACTS * 3)
    for first, end in pairwise(occurrences.starts):
        assert (np.diff(occurrences.keys[first:end]) > 0).all()


def test_a_feature_stays_if_enough_papers_have_it_however_often_one_says_it() -> None:
    keys, papers = choose_frequent(read(ABSTRACTS), 2)
    expected = {key_of("dark"): 3, key_of("matter"): 2, key_of("dark matter"): 2}
    assert dict(zip(keys.tolist(), papers.tolist(), strict=True)) == expected
    assert np.array_equal(keys, np.sort(keys))


def test_a_vocabulary_of_less_than_two_terms_is_refused() -> None:
    with pytest.raises(TrainingFailed, match=r"no two terms occur in 4 .*lower model.min_papers"):
        choose_frequent(read(ABSTRACTS), 4)


def test_the_values_of_a_paper_have_unit_length_and_grow_with_the_log_of_the_count() -> None:
    occurrences = read(ABSTRACTS)
    keys, _ = choose_frequent(occurrences, 1)
    papers = to_sparse(occurrences, keys)
    assert len(papers) == 3
    squares = np.add.reduceat(papers.values.astype(np.float64) ** 2, papers.starts[:-1])
    assert squares == pytest.approx(1.0, abs=1e-6)
    last = slice(*papers.starts[2:4])
    value = dict(zip(keys[papers.columns[last]].tolist(), papers.values[last], strict=True))
    ratio = value[key_of("dark")] / value[key_of("energy")]
    assert ratio == pytest.approx(1 + np.log(3), rel=1e-6)


def test_unknown_features_are_left_out_before_the_length_is_taken() -> None:
    keys = np.sort(np.array([key_of("dark"), key_of("matter")], dtype=np.uint64))
    papers = to_sparse(read([*ABSTRACTS, "vector bundles"]), keys)
    assert np.diff(papers.starts).tolist() == [2, 2, 1, 0]
    assert papers.values == pytest.approx([0.5**0.5] * 4 + [1.0])
    assert sorted(keys[papers.columns[:2]].tolist()) == keys.tolist()
