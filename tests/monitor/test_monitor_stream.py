"""The continuous watch: false alarms over a whole stream, delay, and going on where it stopped."""

from __future__ import annotations

import numpy as np
import pytest
from drift_papers import LABELS, N_FIELDS, features

from classmark.errors import InvalidWindow
from classmark.monitor.stream import BINS, SCORES, Stream


def test_a_stream_without_drift_rarely_reaches_the_level_however_often_one_looks() -> None:
    alpha, alarms = 0.1, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        stream = Stream.begin(features(rng, 300))
        stream.watch(features(rng, 1500), rng.random(1500))
        alarms += stream.p_value <= alpha
    assert alarms <= 60 * alpha + 3 * np.sqrt(60 * alpha * (1 - alpha))


def test_a_fifth_of_papers_of_another_field_is_noticed_within_some_hundred() -> None:
    rng = np.random.default_rng(1)
    stream = Stream.begin(features(rng, 2000))
    before = stream.watch(features(rng, 500), rng.random(500))
    assert before.max() < np.log(100)
    mixed = features(rng, 1000, hidden=0.2).select(rng.permutation(1000))
    after = stream.watch(mixed, rng.random(1000))
    assert after.max() > np.log(100)
    assert stream.p_value <= 0.01
    leading = stream.leading(LABELS)
    assert len(leading) == 5
    assert leading == sorted(leading, key=lambda pair: -pair[1])
    assert {name for name, _ in leading} <= {*SCORES, *(f"towards {label}" for label in LABELS)}


def test_a_tenth_of_papers_of_another_field_is_noticed_in_time() -> None:
    rng = np.random.default_rng(11)
    stream = Stream.begin(features(rng, 2000))
    stream.watch(features(rng, 1000), rng.random(1000))
    mixed = features(rng, 3000, hidden=0.1).select(rng.permutation(3000))
    assert stream.watch(mixed, rng.random(3000)).max() > np.log(100)


def test_watching_in_parts_is_watching_in_one_go() -> None:
    reference, papers = (features(np.random.default_rng(s), 200) for s in (2, 3))
    chance = np.random.default_rng(4).random(200)
    whole, parts = Stream.begin(reference), Stream.begin(reference)
    path = whole.watch(papers, chance)
    first = np.arange(200) < 70
    found = [parts.watch(papers.select(rows), chance[rows]) for rows in (first, ~first)]
    assert np.array_equal(np.concatenate(found), path)
    assert np.array_equal(whole.log_wealth, parts.log_wealth)
    assert whole.peak == parts.peak == max(0.0, path.max())
    assert whole.n_papers == parts.n_papers == 200


def test_every_paper_is_counted_once_in_every_score() -> None:
    stream = Stream.begin(features(np.random.default_rng(5), 800))
    assert len(stream.columns) == N_FIELDS
    stream.watch(features(np.random.default_rng(6), 40), np.full(40, 0.5))
    assert stream.counts.shape == (len(SCORES) + len(stream.columns), BINS)
    assert set(stream.counts.sum(axis=1).tolist()) == {440}


def test_papers_that_are_all_alike_and_like_the_reference_raise_no_alarm() -> None:
    one = features(np.random.default_rng(7), 1).select(np.zeros(500, dtype=np.intp))
    stream = Stream.begin(one)
    stream.watch(one, np.random.default_rng(8).random(500))
    assert stream.p_value > 0.01


def test_a_reference_of_too_few_papers_is_refused() -> None:
    with pytest.raises(InvalidWindow, match="has 49 papers, a watch needs 50"):
        Stream.begin(features(np.random.default_rng(9), 49))


def test_an_empty_batch_changes_nothing() -> None:
    reference = features(np.random.default_rng(10), 60)
    stream = Stream.begin(reference)
    nothing = reference.select(np.zeros(0, dtype=np.intp))
    assert len(stream.watch(nothing, np.zeros(0))) == 0
    assert stream.n_papers == 0
    assert stream.p_value == 1
