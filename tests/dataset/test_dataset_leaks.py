from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from classmark.dataset.build.writing import check_leaks
from classmark.errors import LeakFound


def write(folder: Path, **splits: dict[str, str]) -> dict[str, Path]:
    files = {}
    for name, papers in splits.items():
        files[name] = folder / f"{name}.parquet"
        columns = {"id": list(papers), "summary": list(papers.values())}
        schema = {"id": pl.String, "summary": pl.String}
        pl.DataFrame(columns, schema=schema).write_parquet(files[name])
    return files


def test_separate_splits_pass_also_with_an_empty_one(tmp_path: Path) -> None:
    check_leaks(write(tmp_path, train={"a": "one text"}, valid={}, test={"b": "another"}))


def test_one_paper_twice_in_one_split_is_no_leak(tmp_path: Path) -> None:
    check_leaks(write(tmp_path, train={"a": "one text", "b": "one text"}, test={"c": "another"}))


def test_an_id_in_two_splits_is_a_leak_in_whatever_spelling(tmp_path: Path) -> None:
    files = write(
        tmp_path, train={"arXiv:1607.01234v1": "one text"}, test={"1607.01234": "another"}
    )
    with pytest.raises(LeakFound, match=r"1 papers.*by id: .*\(train\) and '1607.01234'"):
        check_leaks(files)


def test_an_abstract_in_two_splits_is_a_leak_in_whatever_typesetting(tmp_path: Path) -> None:
    files = write(tmp_path, train={"a": "On Poincaré maps."}, valid={"b": r"On  Poincar\'e maps"})
    with pytest.raises(LeakFound, match=r"by abstract: 'a' \(train\) and 'b' \(valid\)"):
        check_leaks(files)


def test_only_the_first_leaks_are_named(tmp_path: Path) -> None:
    papers = {f"p{number}": f"text {number}" for number in range(5)}
    with pytest.raises(LeakFound, match=r"5 papers.*'p0'.*'p2'.* and 2 more"):
        check_leaks(write(tmp_path, train=papers, test=papers))
