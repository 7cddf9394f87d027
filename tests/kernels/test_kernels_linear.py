"""The numpy path is the reference; the C kernel gives the same bits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.bundle import find_bundle, load_bundle
from classmark.errors import BundleIncompatible
from classmark.kernels import featuriser, linear
from classmark.kernels.featuriser import Folded, feature_keys, fold, fold_all, keys_in_numpy, terms
from classmark.kernels.linear import (
    DIM,
    MAX_COUNT,
    MAX_WEIGHT,
    N_SCALES,
    ROW_BYTES,
    LinearArrays,
    LinearScorer,
    bucket_of,
    fingerprint,
    slot_of,
)
from classmark.papers import normalise

WORDS = [
    "galaxies",
    "of",
    "stellar",
    "mass",
    "and",
    "quantum",
    "states",
    "with",
    "graph",
    "neural",
    "networks",
    "in",
    "2d",
    "α",
    "decay",
]
TEXTS = st.lists(
    st.tuples(
        st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS)).map(" ".join)),
        st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS)).map(" ".join)),
    ),
    max_size=5,
)
MARKUP = st.text(st.sampled_from("aZ1 -_^{}$~`'\\\x01\n\té"), max_size=24)
needs_kernel = pytest.mark.skipif(featuriser.KERNEL is None, reason="no C compiler at install")


def some_arrays(seed: int = 0, n_slots: int = 900, k: int = 7) -> LinearArrays:
    """Random weights in which about every second term of WORDS is known."""
    rng = np.random.default_rng(seed)
    displacements = rng.integers(0, 9, 200).astype(np.uint16)
    fingerprints = np.zeros(n_slots, dtype=np.uint16)
    keys = keys_in_numpy(fold_all([(" ".join(WORDS), " ".join(WORDS[::-1]))])).key[::2]
    slots = slot_of(keys, displacements[bucket_of(keys, 200)], n_slots)
    fingerprints[slots] = fingerprint(keys)
    return LinearArrays(
        displacements=displacements,
        fingerprints=fingerprints,
        rows=rng.integers(0, 256, (n_slots, ROW_BYTES)).astype(np.uint8),
        scale_codes=rng.integers(0, N_SCALES, n_slots).astype(np.uint8),
        weights=rng.integers(1, MAX_WEIGHT + 1, (MAX_COUNT, N_SCALES)).astype(np.int16),
        norms=rng.integers(1024, 9000, MAX_COUNT).astype(np.int32),
        head=rng.integers(-1000, 1000, (k, DIM)).astype(np.int16),
        bias=rng.normal(size=k),
        hidden_scale=0.07,
        logit_scale=1e-5,
    )


@needs_kernel
@given(MARKUP, MARKUP)
@settings(max_examples=500)
def test_a_text_is_folded_in_c_as_the_recipe_normalises_it(title: str, abstract: str) -> None:
    folded = f"{normalise(title)}\n{normalise(abstract)}\n".lower().encode("utf-8", "ignore")
    assert fold(title, abstract) == folded


@needs_kernel
@settings(max_examples=150)
@given(TEXTS)
def test_the_c_kernel_and_numpy_give_the_same_bits(papers: list[tuple[str, str]]) -> None:
    arrays = some_arrays()
    ours = LinearScorer(arrays, use_kernel=False).score(papers)
    fast = LinearScorer(arrays).score(papers)
    assert np.array_equal(ours.scores, fast.scores)
    assert np.array_equal(ours.known_share, fast.known_share)


@needs_kernel
@pytest.mark.slow  # reason: a megabyte of text through the numpy path
def test_the_same_bits_also_for_a_paper_too_long_for_exact_float32() -> None:
    rng = np.random.default_rng(3)
    arrays = some_arrays(n_slots=60_000)
    arrays.fingerprints[:] = 1
    long_text = " ".join(f"w{i}" for i in rng.integers(0, 80_000, 60_000))
    keys = np.unique(keys_in_numpy(fold_all([("", long_text)])).key)
    slots = slot_of(keys, arrays.displacements[bucket_of(keys, 200)], 60_000)
    arrays.fingerprints[slots] = fingerprint(keys)
    ours = LinearScorer(arrays, use_kernel=False).score([("", long_text), ("a", "b")])
    fast = LinearScorer(arrays).score([("", long_text), ("a", "b")])
    assert np.array_equal(ours.scores, fast.scores)


@settings(max_examples=100)
@given(TEXTS)
def test_every_way_to_the_keys_finds_the_same(papers: list[tuple[str, str]]) -> None:
    folded = fold_all(papers)
    reference, chosen = keys_in_numpy(folded), feature_keys(folded)
    for i, (title, abstract) in enumerate(papers):
        expected = sorted(reference.key[reference.text == i].tolist())
        assert sorted(chosen.key[chosen.text == i].tolist()) == expected
        assert sorted(key for _, key in terms(title, abstract)) == expected
        assert (
            chosen.is_word[chosen.text == i].sum() == reference.is_word[reference.text == i].sum()
        )


def test_a_title_gives_features_of_its_own() -> None:
    in_title = set(keys_in_numpy(fold_all([("dark matter", "")])).key.tolist())
    in_abstract = set(keys_in_numpy(fold_all([("", "dark matter")])).key.tolist())
    assert in_abstract < in_title
    assert len(in_abstract) == 3
    assert len(in_title) == 6


def test_no_pair_joins_the_title_and_the_abstract_or_two_papers() -> None:
    keys = keys_in_numpy(fold_all([("dark", "matter"), ("halo", "")]))
    assert [int((keys.text == i).sum()) for i in range(2)] == [3, 2]


def test_case_and_latex_do_not_change_the_keys() -> None:
    plain = feature_keys(fold_all([("Poincare MAPS", "alpha decay")])).key
    latex = feature_keys(fold_all([(r"Poincar\'e maps", r"$\alpha$ Decay")])).key
    assert sorted(plain) == sorted(latex)


def test_the_answer_does_not_depend_on_the_batch() -> None:
    arrays = some_arrays()
    papers = [(w, " ".join(WORDS[i:])) for i, w in enumerate(WORDS)]
    scorer = LinearScorer(arrays, use_kernel=False)
    together = scorer.score(papers).scores
    assert all(
        np.array_equal(scorer.score([p]).scores[0], t)
        for p, t in zip(papers, together, strict=True)
    )


def test_a_text_without_words_scores_the_bias() -> None:
    arrays = some_arrays()
    for use_kernel in (False, True):
        raw = LinearScorer(arrays, use_kernel=use_kernel).score([("", "?!"), ("", "")])
        assert np.allclose(raw.scores, arrays.bias, atol=1e-6)
        assert raw.known_share.tolist() == [0.0, 0.0]


def test_contributions_sum_to_the_difference_and_rounding_is_small() -> None:
    arrays = some_arrays()
    scorer = LinearScorer(arrays)
    title, abstract = " ".join(WORDS[:4]), " ".join(WORDS * 2)
    scores = scorer.score([(title, abstract)]).scores[0]
    parts = dict(scorer.contributions(title, abstract, 2, 5))
    assert sum(parts.values()) == pytest.approx(float(scores[2] - scores[5]), abs=1e-5)
    largest = max(abs(w) for term, w in parts.items() if term != linear.ROUNDING)
    assert abs(parts[linear.ROUNDING]) < 0.05 * largest
    assert "galaxies" in parts


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"featuriser": "0"}, r"model tiny 1\.0 needs featuriser '0', this classmark has '1'"),
        ({"parameters": {}}, r"model tiny 1\.0 has rows of 4 bits, this classmark reads 2\. Inst"),
        ({"parameters": {"row_bits": 3}}, r"has rows of 3 bits"),
    ],
)
def test_a_bundle_of_another_layout_is_refused(
    make_bundle: Callable[..., Path], changes: dict[str, Any], fault: str
) -> None:
    bundle = load_bundle(make_bundle(**changes))
    with pytest.raises(BundleIncompatible, match=fault):
        linear.load_scorer(bundle)


@needs_kernel
def test_the_kernel_refuses_arrays_of_the_wrong_size() -> None:
    arrays = some_arrays()
    with pytest.raises(ValueError, match="model has the wrong size"):
        LinearScorer(LinearArrays(**{**arrays.__dict__, "rows": arrays.rows[:5]})).score(
            [("a", "b")]
        )
    with pytest.raises(ValueError, match="offsets has the wrong size"):
        LinearScorer(arrays)._score_in_c(Folded(b"abc", np.array([0, 9])))


def test_vectors_are_the_numbers_that_the_head_turns_into_logits_in_both_kernels() -> None:
    scorer = linear.load_scorer(load_bundle(find_bundle(None)))
    papers = [("Graphs", "We colour sparse graphs with few colours."), ("", "qqqq zzzz")]
    arrays = scorer._arrays
    vectors = scorer.vectors(papers)
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, DIM)
    assert not vectors[1].any()
    logits = (vectors.astype(np.float64) @ arrays.head.T) * arrays.logit_scale + arrays.bias
    assert np.array_equal(logits.astype(np.float32), scorer._logits(papers).scores)
    assert np.array_equal(vectors, LinearScorer(arrays, use_kernel=False).vectors(papers))


def test_the_kernel_uses_no_macro_that_leaves_none_uncounted() -> None:
    # Those of newer headers count none, and Python 3.11 then ends when it has used up None.
    source = Path(__file__).parents[2] / "src/classmark/kernels/c/module.c"
    assert "Py_RETURN_" not in source.read_text("utf-8")


@needs_kernel
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is immortal: its count means nothing")
def test_calls_of_the_kernel_leave_the_references_of_none_as_they_were() -> None:
    scorer = LinearScorer(some_arrays())
    papers = [("Galaxies of stellar mass", "Quantum states with graphs."), ("α decay", "in 2d")]
    scorer.score(papers)
    before = sys.getrefcount(None)
    for _ in range(2_000):
        scorer.score(papers)
    assert abs(sys.getrefcount(None) - before) < 1_000
