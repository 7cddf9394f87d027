"""A drift report in ``/metrics``: its numbers, and what is shown of a file that is none."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.records import utc_text
from classmark.records.drift import (
    Alarm,
    Counts,
    DriftReport,
    LiveScore,
    Size,
    StreamState,
    WindowTest,
)
from classmark.records.evaluation import AccuracyEstimate, MetricValue
from classmark.service.drift import LOOK_EVERY_S, READABLE, DriftFile
from classmark.service.metrics import Metrics
from classmark.wire import ModelRef


def report_of(**changes: Any) -> DriftReport:
    found: dict[str, Any] = {
        "model": ModelRef("fast", "2.0", "0" * 64),
        "reference": "validation papers",
        "created_at_utc": utc_text(),
        "since_utc": "",
        "until_utc": "",
        "counts": Counts(read=9, compared=7, repeated=1, without_features=1, left_out=0),
        "alpha": 0.01,
        "window": WindowTest(n_window=7, n_reference=9, p_value=0.0, statistics={}, shifts=()),
        "size": Size(share=0.25, low=0.2, high=0.3),
        "stream": StreamState(n=7, begun_at_utc=utc_text(), martingale=3.5, p_value=0.2),
        "alarms": (Alarm(kind="window", action="retrain", p_value=0.0, text="more cs.LG"),),
    }
    return DriftReport(**found | changes)


def write(path: Path, report: DriftReport) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report.to_dict()))
    part.replace(path)


def shown(file: DriftFile) -> dict[str, float]:
    lines = Metrics(drift=file).text().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("classmark_drift")]
    return {name: float(value) for name, value in pairs}


def test_the_numbers_of_a_report_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    write(path, report_of())
    seen = shown(DriftFile(path))
    assert seen.pop("classmark_drift_report_age_seconds") == pytest.approx(0, abs=60)
    kinds = {f'classmark_drift_alarm{{kind="{k}"}}': 0 for k in ("stream", "client", "accuracy")}
    actions = {f'classmark_drift_action{{action="{a}"}}': 0 for a in ("none", "report", "page")}
    assert seen == {
        "classmark_drift_report_readable": 1,
        "classmark_drift_papers": 7,
        "classmark_drift_p_value": 0,
        "classmark_drift_size": 0.25,
        'classmark_drift_size_interval{bound="low"}': 0.2,
        'classmark_drift_size_interval{bound="high"}': 0.3,
        "classmark_drift_martingale": 3.5,
        'classmark_drift_action{action="retrain"}': 1,
        'classmark_drift_alarm{kind="window"}': 1,
        **kinds,
        **actions,
    }


def test_an_estimated_accuracy_is_shown_with_its_interval(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    estimate = AccuracyEstimate(
        papers=7, labels=0, value=0.6, low=0.5, high=0.7, level=0.95, reference=0.61
    )
    write(path, report_of(accuracy=estimate))
    found = {name: n for name, n in shown(DriftFile(path)).items() if "accuracy{" in name}
    assert found == {
        'classmark_drift_accuracy{bound="value"}': 0.6,
        'classmark_drift_accuracy{bound="low"}': 0.5,
        'classmark_drift_accuracy{bound="high"}': 0.7,
        'classmark_drift_accuracy{bound="reference"}': 0.61,
    }


def test_a_live_accuracy_is_shown_with_its_interval_and_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    share = MetricValue(value=0.6, low=0.5, high=0.7)
    live = LiveScore(
        name="30 days", n=90, top1=share, top5=share, n_accepted=0, accepted=None, abstained=1.0,
        n_sets=0, covered=None,
    )  # fmt: skip
    write(path, report_of(live=live))
    lines = Metrics(drift=DriftFile(path)).text().decode().splitlines()
    assert [line for line in lines if line.startswith("classmark_live")] == [
        "classmark_live_labels 90.0",
        'classmark_live_accuracy{bound="high"} 0.7',
        'classmark_live_accuracy{bound="low"} 0.5',
        'classmark_live_accuracy{bound="value"} 0.6',
    ]
    old = report_of().to_dict()
    del old["live"]
    path.write_text(json.dumps(old))
    assert DriftFile(path).values()[READABLE, ""] == 1


def test_a_test_that_was_not_made_has_no_number(tmp_path: Path) -> None:
    path = tmp_path / "drift.json"
    write(path, report_of(window=None, size=None, stream=None, alarms=()))
    seen = shown(DriftFile(path))
    assert seen['classmark_drift_action{action="none"}'] == 1
    assert not {"classmark_drift_p_value", "classmark_drift_size", "classmark_drift_martingale"} & {
        *seen
    }


def test_without_the_setting_nothing_is_said_of_drift() -> None:
    lines = Metrics().text().decode().splitlines()
    assert not [line for line in lines if line.startswith("classmark_drift")]


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "{}", "null", "[" * 100_000, '{"format_version": 99}', b"\xff\xfe"],
)
def test_a_missing_or_damaged_file_is_a_gauge_and_no_error(
    tmp_path: Path, content: str | bytes | None
) -> None:
    path = tmp_path / "drift.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert shown(DriftFile(path)) == {"classmark_drift_report_readable": 0}


@given(st.data())
def test_no_damage_to_a_report_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(json.dumps(report_of().to_dict()).encode())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(bytes(whole))
    assert shown(DriftFile(path))["classmark_drift_report_readable"] in (0, 1)


def test_a_report_is_read_again_when_its_file_has_changed_and_gone_when_that_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "drift.json"
    file = DriftFile(path)
    size = ("classmark_drift_size", "")

    def later() -> dict[tuple[str, ...], float]:
        time.sleep(LOOK_EVERY_S)  # it looks no more often
        return file.values()

    write(path, report_of())
    assert file.values()[size] == 0.25
    write(path, report_of(size=Size(share=0.5, low=0.4, high=0.6)))
    assert file.values()[size] == 0.25
    assert later()[size] == 0.5
    path.unlink()
    assert later() == {(READABLE, ""): 0}


def test_the_age_is_that_of_the_report_and_grows_without_a_change_of_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "drift.json"
    write(path, report_of(created_at_utc=utc_text(round((time.time() - 5000) * 1000))))
    os.utime(path)
    file = DriftFile(path)
    first = shown(file)["classmark_drift_report_age_seconds"]
    assert 5000 <= first <= 5100
    assert shown(file)["classmark_drift_report_age_seconds"] > first
