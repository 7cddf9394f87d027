"""Heads on embeddings and on the fast model's scores: what they learn, and what a mix chooses."""

from __future__ import annotations

import numpy as np
import pytest

from two_cores import Part, Try, fit_head, mix_with_fast

pytest.importorskip("torch", reason="needs classmark[deep]")
pytestmark = pytest.mark.slow  # reason: imports torch

K, DIM = 3, 6


def part(n: int, seed: int, right: float) -> Part:
    """Papers whose embeddings tell the label, and whose fast scores do so often."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, n)
    embedded = np.eye(K, DIM)[labels] + rng.normal(0, 0.3, (n, DIM))
    seen = np.where(rng.random(n) < right, labels, rng.integers(0, K, n))
    fast = np.log(np.full((n, K), 0.1) + 0.7 * np.eye(K)[seen])
    return Part(embedded.astype(np.float32), fast.astype(np.float32), labels.astype(np.int64))


def accuracy(scores: np.ndarray, of: Part) -> float:
    return float((scores.argmax(axis=1) == of.labels).mean())


@pytest.fixture(scope="module")
def parts() -> dict[str, Part]:
    sizes = {"train": 3000, "valid": 400, "test": 400}
    return {name: part(n, seed, right=0.6) for seed, (name, n) in enumerate(sizes.items())}


@pytest.mark.parametrize(
    "one",
    [
        Try("linear", ("embedded",)),
        Try("hidden", ("embedded", "fast"), hidden=16),
        Try("correction", ("embedded",), corrects=True),
    ],
    ids=lambda one: one.name,
)
def test_a_head_learns_what_the_embeddings_tell(parts: dict[str, Part], one: Try) -> None:
    scores = fit_head(one, parts, epochs=20)
    gained = accuracy(scores["test"], parts["test"]) - accuracy(parts["test"].fast, parts["test"])
    assert gained > 0


def test_a_head_that_sees_fewer_papers_is_fitted_on_the_first_of_them(
    parts: dict[str, Part],
) -> None:
    fewer = fit_head(Try("few", ("embedded",), papers=300), parts, epochs=1)
    short = {**parts, "train": part(3000, 0, right=0.6)}
    short["train"].labels[300:] = 0  # whoever saw these would learn that all is label 0
    again = fit_head(Try("few", ("embedded",), papers=300), short, epochs=1)
    np.testing.assert_array_equal(fewer["test"], again["test"])


def test_a_mix_with_a_useless_head_leaves_it_little_weight(parts: dict[str, Part]) -> None:
    rng = np.random.default_rng(9)
    noise = {s: rng.normal(0, 1, parts[s].fast.shape).astype(np.float32) for s in ("valid", "test")}
    weight, both = mix_with_fast(noise, parts)
    assert weight <= 0.5
    assert accuracy(both["test"], parts["test"]) > 0.5
