from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classmark.dataset.config import DatasetConfig, SampleConfig, name_periods
from classmark.errors import InvalidConfig

TIMES = {"train_until": "2017-12-31", "valid_until": "2018-06-30"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": "dewey"}, r"labels is 'dewey'. Choose one of: arxiv, free"),
        ({"split": "random"}, r"split is 'random'.*stratified, time, ids"),
        ({"small": "hide"}, r"small is 'hide'.*drop, merge, keep"),
        ({"min_papers": 0}, r"min_papers is 0. Choose at least 1"),
        ({"seed": -1}, r"seed is -1. Choose 0 to"),
        ({"test_share": 1.5}, r"test_share is 1.5. Choose 0.0 to 1.0"),
        ({"valid_share": float("nan")}, r"valid_share is nan"),
        ({"test_share": 0.5, "valid_share": 0.5}, r"leave no paper for training"),
        ({"split": "time"}, r"split=time needs two dates"),
        ({"split": "time", **TIMES, "valid_until": "2017-12-31"}, r"2017-12-31 must precede"),
        ({"split": "time", **TIMES, "train_until": "31.12.2017"}, r"'31.12.2017' is not a date"),
        ({"split": "time", **TIMES, "train_until": "20171231"}, r"Write YYYY-MM-DD"),
        (TIMES, r"--train-until means nothing with split=stratified.*--split time"),
        ({"test_ids": Path("ids.txt")}, r"--test-ids means nothing.*--split ids"),
        ({"split": "ids"}, r"split=ids needs a list of test papers"),
        ({"periods": ("2019-12-31", "2017-12-31")}, r"periods: 2019-12-31 must precede"),
        ({"periods": ("2017-02-30",)}, r"periods: '2017-02-30' is not a date"),
    ],
)
def test_dataset_config_names_the_value_that_cannot_work(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidConfig, match=message):
        DatasetConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"papers": 0}, r"papers is 0. Choose 1 to"),
        ({"noise": 1.1}, r"noise is 1.1"),
        ({"drift": -0.1}, r"drift is -0.1"),
        ({"categories": 23}, r"categories is 23. Choose 24 to 28"),
    ],
)
def test_sample_config_names_the_value_that_cannot_work(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidConfig, match=message):
        SampleConfig(**values)


@pytest.mark.parametrize(
    ("ends", "names"),
    [
        ((), ()),
        (("2017-12-31",), ("until-2017", "from-2018")),
        (("2017-12-31", "2019-12-31"), ("until-2017", "2018-2019", "from-2020")),
        (("2017-12-31", "2018-12-31"), ("until-2017", "2018", "from-2019")),
        (
            ("2023-03-31", "2023-06-30"),
            ("until-2023-03-31", "2023-04-01-to-2023-06-30", "from-2023-07-01"),
        ),
    ],
)
def test_periods_are_named_by_years_or_else_by_days(
    ends: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert name_periods(ends) == names


def test_options_in_the_manifest_name_files_without_their_folder() -> None:
    config = DatasetConfig(split="ids", test_ids=Path("/somewhere/private/test.txt"))
    assert config.to_dict()["test_ids"] == "test.txt"
