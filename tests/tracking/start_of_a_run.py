"""The record of a run that starts, as trackers get it."""

from __future__ import annotations

from classmark.records import RunStart

START = RunStart(
    command="classmark train in-a-test",
    seed=7,
    dataset="../data",
    dataset_digest="d" * 64,
    labels=("a", "b"),
    label_space="free",
    generated=True,
    commit="c0ffee+",
)
