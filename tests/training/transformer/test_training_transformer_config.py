"""Options of the deep tier are checked before any work, and without torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from classmark.errors import InvalidConfig
from classmark.pipeline import compose_config
from classmark.training import TransformerConfig


def config(**changes: Any) -> TransformerConfig:
    model = compose_config(["model=transformer", "dataset.path=data"]).model
    assert isinstance(model, TransformerConfig)
    return dataclasses.replace(model, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 0}, r"model\.epochs is 0, it must be from 1 to 1000\."),
        ({"rate": float("nan")}, r"model\.rate is nan"),
        ({"cross_list_share": 1.5}, r"model\.cross_list_share is 1\.5, it must be from 0\.0"),
        ({"precision": "fp8"}, r"model\.precision is 'fp8', choose one of: fp32, bf16, fp16\."),
        ({"decay": ""}, r"model\.decay is '', choose one of: linear, cosine, constant\."),
        ({"encoder": " "}, r"model\.encoder is empty\. Name 'packaged'"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_what_can(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        config(**changes)


def test_what_may_be_left_open_may_be_null() -> None:
    keys = ("encoder_dropout", "trained_layers", "time_limit_minutes", "max_samples", "threads")
    assert config(**dict.fromkeys(keys)).max_samples is None


@pytest.mark.slow
def test_a_step_takes_the_papers_of_all_its_batches() -> None:
    assert config(batch_size=8, accumulation=3).papers_a_step == 24


@pytest.mark.slow
def test_the_room_is_imported_without_torch() -> None:
    code = (
        "import sys, classmark.training, classmark.pipeline;"
        "print({'torch', 'lightning', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
