"""Order and batches: every paper once an epoch, like with like, and back to any position."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from classmark.training.transformer.data import Order, Step, StepLoader, TokenisedPapers
from classmark.training.transformer.processes import Processes

pytestmark = pytest.mark.slow  # reason: imports torch

LENGTHS = np.random.default_rng(1).integers(5, 200, 500)


def order(**changes: object) -> Order:
    values = {"lengths": LENGTHS, "batch_size": 16, "accumulation": 2, "bucketed": True, "seed": 3}
    return Order(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("bucketed", [True, False])
def test_an_epoch_has_every_paper_once_and_no_epoch_is_like_another(bucketed: bool) -> None:
    first, second = (order(bucketed=bucketed).batches(epoch) for epoch in (0, 1))
    for batches in (first, second):
        assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    again = order(bucketed=bucketed).batches(0)
    assert [b.tolist() for b in again] == [b.tolist() for b in first]
    other = order(bucketed=bucketed, seed=4).batches(0)
    assert np.concatenate(other).tolist() != np.concatenate(first).tolist()


def test_buckets_save_most_of_the_padding() -> None:
    def padding(batches: list[np.ndarray]) -> int:
        return sum(int((LENGTHS[b].max() - LENGTHS[b]).sum()) for b in batches)

    plain, bucketed = order(bucketed=False).batches(0), order().batches(0)
    assert padding(bucketed) < 0.2 * padding(plain)
    means = [float(LENGTHS[b].mean()) for b in bucketed]
    assert means != sorted(means), "batches of one length must not follow one another"


def test_a_step_takes_as_many_batches_as_are_accumulated() -> None:
    steps = order().steps(0)
    assert len(steps) == order().steps_an_epoch == 16
    assert [len(batches) for batches in steps] == [2] * 16
    assert len(order(accumulation=3).steps(0)[-1]) == 2


def with_rows(rows: np.ndarray) -> dict[str, torch.Tensor]:
    return {"rows": torch.from_numpy(rows), "weights": torch.ones(len(rows))}


def rows_of(step: Step) -> list[list[int]]:
    return [batch["rows"].tolist() for batch in step["batches"]]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_loader_goes_on_where_it_was(workers: int) -> None:
    def loader() -> StepLoader:
        return StepLoader(order(), 2, with_rows, workers=workers)

    whole = [rows_of(step) for step in loader()]
    assert len(whole) == len(loader()) == 32
    for position in (0, 5, 16, 31, 32):
        resumed = loader()
        resumed.load_state_dict({"position": position})
        assert [rows_of(step) for step in resumed] == whole[position:]
        assert resumed.state_dict() == {"position": 32}


def test_what_workers_made_ahead_does_not_count_as_seen() -> None:
    loader = StepLoader(order(), 2, with_rows, workers=2)
    steps = iter(loader)
    seen = [rows_of(next(steps)) for _ in range(3)]
    assert loader.state_dict() == {"position": 3}
    resumed = StepLoader(order(), 2, with_rows)
    resumed.load_state_dict({"position": 2})
    assert rows_of(next(iter(resumed))) == seen[2]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_step_and_calculate_as_often(count: int) -> None:
    shared = order(accumulation=4, lengths=LENGTHS[:460])
    alone = list(StepLoader(shared, 1, with_rows))
    places = [Processes(rank=rank, count=count, local_count=count) for rank in range(count)]
    parts = [list(StepLoader(shared, 1, with_rows, processes=place)) for place in places]
    assert [len(part) for part in parts] == [len(alone)] * count
    for step, *beside in zip(alone, *parts, strict=True):
        weighed = [batch for part in beside for batch in part["batches"] if batch["weights"].sum()]
        by_number = sorted(weighed, key=lambda batch: batch["number"])
        assert [batch["rows"].tolist() for batch in by_number] == rows_of(step)
        assert {part["papers"] for part in beside} == {step["papers"]}
        assert len({len(part["batches"]) for part in beside}) == 1
    assert len(alone[-1]["batches"]) % count, "the last step must leave a process without a batch"


def test_short_papers_are_filled_up_with_padding() -> None:
    papers = TokenisedPapers(
        ids=np.array([2, 7, 3, 2, 8, 9, 3], np.int32),
        types=np.array([0, 0, 0, 0, 0, 1, 1], np.int8),
        starts=np.array([0, 3, 7]),
        known_share=np.ones(2, np.float32),
        pad_id=5,
    )
    batch = papers.pad(np.array([1, 0]))
    assert batch["ids"].tolist() == [[2, 8, 9, 3], [2, 7, 3, 5]]
    assert batch["mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["types"].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert batch["ids"].dtype == torch.int64
