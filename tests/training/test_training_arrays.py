"""Arrays on disk hold what arrays in memory do, and a fit from either gives the same bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_training_linear import config

from classmark.dataset import SampleConfig, sample_papers
from classmark.errors import StorageFailed
from classmark.records import SILENT
from classmark.training import (
    LinearFit,
    choose_frequent,
    fit_linear,
    linear,
    rank_by_importance,
    read_occurrences,
    to_sparse,
    vocabulary,
)
from classmark.training.arrays import LongArray, release_pages


def texts(n: int = 600) -> list[tuple[str, str]]:
    return [(paper.title, paper.abstract) for paper in sample_papers(SampleConfig(papers=n))]


def fit(folder: Path | None) -> list[Any]:
    """Fit a small model with its features in a folder, or in memory; return all its arrays."""
    labels = np.arange(600, dtype=np.int16) % 5
    occurrences = read_occurrences(texts(), SILENT, folder)
    keys, counts = choose_frequent(occurrences, 3)
    papers = to_sparse(occurrences, keys, folder)
    fitted, _ = fit_linear(
        LinearFit(
            papers=papers,
            keys=keys,
            labels=labels,
            weights=np.ones(600, np.float32),
            config=config(),
            n_labels=5,
            seed=7,
        )
    )
    ranked = rank_by_importance(fitted, papers)
    weights = [fitted.keys, fitted.embedding, fitted.head, fitted.bias]
    return [counts, papers.columns, papers.values, papers.starts, *weights, ranked, papers]


@pytest.mark.slow
def test_a_fit_from_disk_gives_the_same_bits_in_whatever_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = fit(None)[:-1]
    monkeypatch.setattr(vocabulary, "CHUNK_PAPERS", 70)
    monkeypatch.setattr(vocabulary, "_SLICE_KEYS", 1000)
    monkeypatch.setattr(vocabulary, "_SHARD_KEYS", 500)
    monkeypatch.setattr(linear, "_RANK_CHUNK", 333)
    monkeypatch.setattr(linear, "_RELEASE_BATCHES", 1)
    for one, other in zip(in_memory, fit(tmp_path), strict=False):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def test_files_on_disk_have_no_name_and_end_with_their_arrays(tmp_path: Path) -> None:
    papers = fit(tmp_path)[-1]
    assert list(tmp_path.iterdir()) == []
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert str(tmp_path) in mapped.read_text()
        del papers
        assert str(tmp_path) not in mapped.read_text()


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_array_grows_keeps_its_type_and_may_stay_empty(tmp_path: Path, on_disk: bool) -> None:
    folder = tmp_path if on_disk else None
    with LongArray(np.int32, folder) as grown, LongArray(np.float32, folder) as empty:
        for part in (np.arange(3), np.zeros(0), np.arange(5, 1, -2)):
            grown.append(part)
        whole, nothing = grown.whole(), empty.whole()
    release_pages(whole, nothing)
    assert whole.tolist() == [0, 1, 2, 5, 3]
    assert (whole.dtype, nothing.dtype, len(nothing)) == (np.int32, np.float32, 0)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="pages are counted on Linux")
def test_pages_that_were_read_are_given_back_and_read_again(tmp_path: Path) -> None:
    with LongArray(np.uint64, tmp_path) as array:
        array.append(np.arange(1 << 18))
        whole = array.whole()
    assert whole.sum() == (1 << 18) * ((1 << 18) - 1) // 2
    assert resident_kb(tmp_path) == 2048
    release_pages(whole[7:])
    assert resident_kb(tmp_path) == 0
    assert whole[-1] == (1 << 18) - 1


def resident_kb(folder: Path) -> int:
    """Return how much of the files of a folder this process has in memory."""
    maps = Path("/proc/self/smaps").read_text().partition(str(folder))[2]
    return int(re.search(r"^Rss:\s+(\d+) kB", maps, re.MULTILINE)[1])  # type: ignore[index]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"cannot write .*absent: No such file or directory"):
        LongArray(np.uint8, tmp_path / "absent")
