"""A score table that was rewritten is counted as it is, or refused; never counted wrongly."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classmark.errors import InvalidScores
from classmark.records import ScoreTable


def table() -> ScoreTable:
    return ScoreTable(
        labels=("a", "b"),
        ids=("p", "q"),
        scores=np.float32([[1, 2], [3, 4]]),
        primary=np.int16([0, -1]),
        listed=np.eye(2, dtype=np.bool_),
        listed_count=np.int16([1, 1]),
        years=np.int16([2020, 2021]),
        periods=("", ""),
        known_share=np.float32([0.5, 1]),
    )


def test_a_sound_table_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(table().to_bytes())
    assert ScoreTable.read(tmp_path / "t.npz").labels == ("a", "b")
    used = replace(
        table(), set_threshold=0.5, used_authors=np.array([True, False]), author_set_threshold=0.2
    )
    (tmp_path / "t.npz").write_bytes(used.to_bytes())
    read = ScoreTable.read(tmp_path / "t.npz")
    assert read.set_thresholds.tolist() == [0.2, 0.5]
    assert read.select(np.array([1])).set_thresholds.tolist() == [0.5]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda t: replace(t, primary=np.int16([0, 2])), "primary has columns from 0 to 2"),
        (lambda t: replace(t, primary=np.int16([0, -7])), "primary has columns from -7 to 0"),
        (lambda t: replace(t, scores=np.float32([[1, math.nan], [3, 4]])), "not finite"),
        (lambda t: replace(t, known_share=np.float32([1, math.inf])), "not finite"),
        (lambda t: replace(t, labels=("a", "a")), "only 1 of its 2 labels are different"),
        (lambda t: replace(t, temperature=0.0), "temperature is 0.0, it must be above 0"),
        (lambda t: replace(t, temperature=math.nan), "not numbers from 0"),
        (lambda t: replace(t, set_threshold="x"), "not numbers from 0"),
        (lambda t: replace(t, thresholds=(0.5, -1.0)), "not numbers from 0"),
        (
            lambda t: replace(t, used_authors=np.zeros(2, np.bool_), author_set_threshold="x"),
            "not numbers from 0",
        ),
    ],
)
def test_a_table_that_would_be_counted_wrongly_is_refused(
    tmp_path: Path, spoil: Callable[[ScoreTable], ScoreTable], problem: str
) -> None:
    (tmp_path / "t.npz").write_bytes(spoil(table()).to_bytes())
    with pytest.raises(InvalidScores, match=problem):
        ScoreTable.read(tmp_path / "t.npz")


def test_an_array_that_claims_more_numbers_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (1 << 45,)}
    np.lib.format.write_array_header_1_0(header, about)
    path = tmp_path / "table.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scores.npy", header.getvalue())
    with pytest.raises(InvalidScores, match=r"table\.npz is not a readable score table"):
        ScoreTable.read(path)


def test_what_is_no_score_table_is_named_with_what_writes_one(tmp_path: Path) -> None:
    (tmp_path / "papers.csv").write_text("id,title\n1,Primes\n", encoding="utf-8")
    (tmp_path / "cut.npz").write_bytes(table().to_bytes()[:200])
    for name, reason in (
        ("papers.csv", "no whole .npz file"),
        ("cut.npz", "no whole .npz file"),
        ("", "it is a folder"),
    ):
        with pytest.raises(
            InvalidScores, match=rf"\({reason}\)\. Write one with `evaluate"
        ) as caught:
            ScoreTable.read(tmp_path / name)
        assert "pickle" not in str(caught.value)
