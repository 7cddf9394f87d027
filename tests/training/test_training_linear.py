"""The fit learns, repeats itself, and gives the same answers without the C kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classmark.errors import InvalidConfig, TrainingFailed
from classmark.kernels.featuriser import KERNEL
from classmark.kernels.linear import DIM
from classmark.training import (
    LinearConfig,
    LinearFit,
    LinearWeights,
    SparsePapers,
    fit_linear,
    linear,
    rank_by_importance,
    round_rows,
)
from recording import Recording

N_LABELS, N_FEATURES, N_PAPERS = 3, 30, 240
needs_kernel = pytest.mark.skipif(KERNEL is None, reason="no C compiler at install")


def config(**changes: Any) -> LinearConfig:
    values: dict[str, Any] = {
        "start": None,
        "max_features": 1000,
        "min_papers": 1,
        "epochs": 4,
        "warm_epochs": 1,
        "refine_epochs": 2,
        "batch_size": 32,
        "rate": 0.1,
        "warm_rate": 0.05,
        "refine_rate": 0.05,
        "head_rate": 0.05,
        "weight_decay": 0.0,
        "hidden_dropout": 0.2,
        "label_smoothing": 0.1,
        "parts_share": 0.0,
        "parts_weight": 0.3,
        "period_weights": {},
        "threads": 2,
        "max_author_entries": 0,
    }
    return LinearConfig(**{**values, **changes})


def papers_of(rows: list[NDArray[np.intp]]) -> SparsePapers:
    columns = np.concatenate(rows).astype(np.int32)
    lengths = np.array([len(row) for row in rows])
    values = np.repeat(1 / np.sqrt(lengths), lengths).astype(np.float32)
    return SparsePapers(columns, values, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))


@pytest.fixture
def toy() -> tuple[SparsePapers, NDArray[np.int16]]:
    """Papers of three labels: feature f belongs to label f % 3, one in five words is a stray."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, N_LABELS, N_PAPERS).astype(np.int16)
    rows = []
    for label in labels:
        own = rng.choice(np.arange(label, N_FEATURES, N_LABELS), 4, replace=False)
        stray = rng.integers(0, N_FEATURES, 1)
        rows.append(np.unique(np.concatenate([own, stray])))
    return papers_of(rows), labels


def fit(
    toy: tuple[SparsePapers, NDArray[np.int16]],
    seed: int = 7,
    weights: NDArray[np.float32] | None = None,
    start: LinearWeights | None = None,
    is_warm: bool = False,
    **changes: Any,
) -> tuple[LinearWeights, list[float]]:
    papers, labels = toy
    return fit_linear(
        LinearFit(
            papers=papers,
            keys=np.arange(N_FEATURES, dtype=np.uint64),
            labels=labels,
            weights=np.ones(len(papers), np.float32) if weights is None else weights,
            config=config(**changes),
            n_labels=N_LABELS,
            seed=seed,
            start=start,
            is_warm=is_warm,
        )
    )


def assert_same(a: LinearWeights, b: LinearWeights) -> None:
    for name in ("keys", "embedding", "head", "bias"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def accuracy(fitted: LinearWeights, toy: tuple[SparsePapers, NDArray[np.int16]]) -> float:
    return float((fitted.score(toy[0]).argmax(axis=1) == toy[1]).mean())


def test_it_learns_labels_that_words_tell_apart(toy: Any) -> None:
    fitted, losses = fit(toy)
    assert accuracy(fitted, toy) > 0.97
    assert len(losses) == 4
    assert losses[0] < 1.5 * np.log(N_LABELS)
    assert losses[-1] < 0.5 * losses[0]
    assert fitted.embedding.shape == (N_FEATURES, DIM)
    assert fitted.embedding.dtype == fitted.head.dtype == fitted.bias.dtype == np.float32


def test_every_paper_is_seen_once_an_epoch(toy: Any) -> None:
    papers, labels = toy
    recording = Recording()
    fit_linear(
        LinearFit(
            papers=papers,
            keys=np.arange(N_FEATURES, dtype=np.uint64),
            labels=labels,
            weights=np.ones(N_PAPERS, np.float32),
            config=config(epochs=2, batch_size=100),
            n_labels=N_LABELS,
            seed=1,
            progress=recording,
        )
    )
    assert recording.counts == [100, 100, 40, 100, 100, 40]


def test_the_same_seed_gives_the_same_arrays_and_another_seed_others(toy: Any) -> None:
    first, again, other = fit(toy, 7)[0], fit(toy, 7)[0], fit(toy, 8)[0]
    assert_same(first, again)
    assert not np.array_equal(first.embedding, other.embedding)


@pytest.mark.parametrize("threads", [1, 3, 7])
def test_the_number_of_threads_does_not_change_a_bit(toy: Any, threads: int) -> None:
    assert_same(fit(toy)[0], fit(toy, threads=threads)[0])


@pytest.mark.slow
def test_it_learns_without_the_kernel_too(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "KERNEL", None)
    fitted, losses = fit(toy)
    assert accuracy(fitted, toy) > 0.97
    assert losses[-1] < 0.5 * losses[0]
    assert_same(fitted, fit(toy)[0])


@needs_kernel
@pytest.mark.parametrize("rounded", [False, True])
def test_sums_of_rows_agree_with_numpy(
    toy: Any, monkeypatch: pytest.MonkeyPatch, rounded: bool
) -> None:
    embedding = np.random.default_rng(2).normal(size=(N_FEATURES, DIM)).astype(np.float32)
    rows = np.array([5, 0, 239, 5], dtype=np.int64)
    fast = linear.sum_rows(toy[0], rows, embedding, rounded=rounded)
    monkeypatch.setattr(linear, "KERNEL", None)
    slow = linear.sum_rows(toy[0], rows, embedding, rounded=rounded)
    assert np.allclose(fast, slow, atol=1e-5)
    assert np.array_equal(fast[0], fast[3])


@pytest.mark.parametrize("has_kernel", [pytest.param(True, marks=needs_kernel), False])
def test_refining_goes_on_from_its_start_and_leaves_rows_of_two_bits(
    toy: Any, monkeypatch: pytest.MonkeyPatch, has_kernel: bool
) -> None:
    if not has_kernel:
        monkeypatch.setattr(linear, "KERNEL", None)
    parent, before = fit(toy)
    refined, losses = fit(toy, start=parent)
    assert len(losses) == 2
    assert losses[0] < 1.5 * before[-1]
    assert accuracy(refined, toy) > 0.97
    steps = np.abs(refined.embedding).max(axis=1, keepdims=True) / 1.5
    assert (steps > 0).all()
    assert set(np.round(refined.embedding / steps, 4).ravel()) <= {-1.5, -0.5, 0.5, 1.5}


def test_refining_leaves_its_start_as_it_was(toy: Any) -> None:
    parent = fit(toy)[0]
    fit(toy, start=parent)
    assert_same(parent, fit(toy)[0])


def test_the_scores_of_refined_weights_are_those_of_their_rows(toy: Any) -> None:
    refined = fit(toy, start=fit(toy)[0])[0]
    hidden = linear.sum_rows(toy[0], np.arange(len(toy[0]), dtype=np.int64), refined.embedding)
    assert np.allclose(refined.score(toy[0]), hidden @ refined.head + refined.bias, atol=1e-5)


@pytest.mark.parametrize("has_kernel", [pytest.param(True, marks=needs_kernel), False])
def test_weight_decay_makes_rows_shorter_and_still_learns(
    toy: Any, monkeypatch: pytest.MonkeyPatch, has_kernel: bool
) -> None:
    if not has_kernel:
        monkeypatch.setattr(linear, "KERNEL", None)
    free, held = fit(toy)[0], fit(toy, weight_decay=0.02)[0]
    lengths = [np.linalg.norm(fitted.embedding, axis=1) for fitted in (free, held)]
    assert (lengths[1] < 0.95 * lengths[0]).all()
    assert accuracy(held, toy) > 0.97


def test_a_paper_of_weight_zero_teaches_nothing(toy: Any) -> None:
    papers, labels = toy
    weights = (labels != 2).astype(np.float32)
    wrong = np.where(labels == 2, 0, labels).astype(np.int16)
    assert_same(fit(toy, weights=weights)[0], fit((papers, wrong), weights=weights)[0])


def test_scores_of_no_paper_are_an_empty_table(toy: Any) -> None:
    fitted = fit(toy, epochs=1)[0]
    nothing = SparsePapers(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(1, np.int64))
    assert fitted.score(nothing).shape == (0, N_LABELS)


def test_scores_do_not_depend_on_the_chunk(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = fit(toy, epochs=1)[0]
    whole = fitted.score(toy[0])
    monkeypatch.setattr(linear, "_SCORE_CHUNK", 7)
    assert np.allclose(whole, fitted.score(toy[0]), atol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_ends_the_fit_with_what_to_change(toy: Any) -> None:
    weights = np.full(N_PAPERS, np.inf, dtype=np.float32)
    with pytest.raises(TrainingFailed, match=r"the loss is nan in epoch 1. Lower model.rate \(now"):
        fit(toy, weights=weights)


def test_importance_ignores_what_a_feature_adds_to_all_labels_alike() -> None:
    rng = np.random.default_rng(0)
    head = rng.normal(size=(DIM, N_LABELS)).astype(np.float32)
    head[0] = 50.0
    embedding = np.zeros((3, DIM), dtype=np.float32)
    embedding[0, 0] = 9.0  # a huge but shared logit
    embedding[1, 1] = 0.5
    embedding[2, 1] = 1.0
    weights = LinearWeights(np.arange(3, dtype=np.uint64), embedding, head, np.zeros(3, np.float32))
    papers = papers_of([np.array([0, 1, 2])] * 4)
    assert rank_by_importance(weights, papers).tolist() == [2, 1, 0]


def test_importance_grows_with_how_much_of_the_papers_a_feature_is() -> None:
    head = np.random.default_rng(0).normal(size=(DIM, N_LABELS)).astype(np.float32)
    embedding = np.zeros((3, DIM), dtype=np.float32)
    embedding[:2, 1] = 1.0
    weights = LinearWeights(np.arange(3, dtype=np.uint64), embedding, head, np.zeros(3, np.float32))
    papers = papers_of([np.array([1]), np.array([0, 1]), np.array([2])])
    assert rank_by_importance(weights, papers).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_features", 0),
        ("min_papers", 0),
        ("epochs", 1001),
        ("batch_size", 0),
        ("rate", float("nan")),
        ("rate", float("inf")),
        ("refine_rate", 0.0),
        ("refine_epochs", 0),
        ("head_rate", 0.0),
        ("weight_decay", -1e-3),
        ("hidden_dropout", 1.0),
        ("label_smoothing", -0.1),
        ("threads", 0),
        ("max_author_entries", -1),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(InvalidConfig, match=rf"model\.{key} is {value}, it must be from"):
        config(**{key: value})


def test_a_period_weighs_from_0_to_1000() -> None:
    assert config(period_weights={"from-2020": 0}).period_weights == {"from-2020": 0}
    with pytest.raises(InvalidConfig, match=r"model.period_weights.from-2020 is -1"):
        config(period_weights={"from-2020": -1})


def test_a_warm_fit_keeps_what_was_learned_and_rounds_nothing(
    toy: tuple[SparsePapers, NDArray[np.int16]],
) -> None:
    learned, _ = fit(toy, epochs=5)
    cold, _ = fit(toy, epochs=1)
    warm, losses = fit(toy, start=learned, is_warm=True, warm_epochs=1)
    assert len(losses) == 1
    assert accuracy(warm, toy) >= accuracy(cold, toy)
    assert accuracy(warm, toy) >= accuracy(learned, toy) - 0.02
    assert not np.array_equal(warm.embedding, round_rows(warm.embedding))


def test_weights_are_carried_over_to_other_features_and_labels() -> None:
    rng = np.random.default_rng(3)
    old = LinearWeights(
        np.array([2, 5, 9], np.uint64),
        rng.standard_normal((3, DIM), dtype=np.float32),
        rng.standard_normal((DIM, 2), dtype=np.float32),
        np.array([0.5, -1.0], np.float32),
    )
    keys = np.array([1, 5, 9, 11], np.uint64)
    new = old.carried_over(keys, np.array([1, -1, 0]), seed=7)
    assert new.keys is keys
    assert np.array_equal(new.embedding[[1, 2]], old.embedding[[1, 2]])
    assert not new.embedding[[0, 3]].any()
    assert np.array_equal(new.head[:, [0, 2]], old.head[:, [1, 0]])
    assert new.head[:, 1].any()
    assert new.bias.tolist() == [-1.0, -1.0, 0.5]
    assert {a.dtype for a in (new.embedding, new.head, new.bias)} == {np.dtype(np.float32)}
