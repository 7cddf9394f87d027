"""The record of a run: what is written is read back, what is damaged is one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark.errors import RunCorrupt, RunNotFound
from classmark.pipeline.unfinished import write_record
from classmark.records import (
    AuthorFacts,
    CascadeModel,
    CascadePart,
    CascadePoint,
    LinearPart,
    RunRecord,
    RunStart,
    Speeds,
    TransformerPart,
)
from classmark.records.run import FORMAT_VERSION, PARTS, Part

texts = st.text(max_size=8)

numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=4)
points = st.builds(CascadePoint, **dict.fromkeys(CascadePoint.__slots__, numbers))
models = st.builds(CascadeModel, **dict.fromkeys(CascadeModel.__slots__, texts))
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(LinearPart, authors=st.builds(AuthorFacts, scale=numbers)),
    st.builds(
        TransformerPart,
        papers=st.dictionaries(texts, st.integers(), max_size=3),
        job=st.none() | st.dictionaries(texts, plain, max_size=3),
    ),
    st.builds(
        CascadePart,
        fast=models,
        deep=models,
        threshold=numbers,
        mix=st.none() | numbers,
        speeds=st.builds(Speeds, fast=numbers, deep=numbers),
        chosen=st.dictionaries(texts, points, max_size=2),
    ),
)
start_fields: dict[str, Any] = {
    "seed": st.integers(),
    "labels": st.lists(texts, max_size=4).map(tuple),
    "generated": st.booleans(),
    "commit": st.none() | texts,
    "packages": st.dictionaries(texts, texts, max_size=3),
    **dict.fromkeys(
        ("command", "dataset", "dataset_digest", "label_space", "python", "platform"), texts
    ),
}
starts = st.builds(RunStart, kind=st.sampled_from(sorted(PARTS)), **start_fields)


@st.composite
def records(draw: st.DrawFn) -> RunRecord:
    part = draw(parts)
    kind = next(kind for kind, one in PARTS.items() if one is type(part))
    fields = {name: draw(values) for name, values in start_fields.items()}
    return RunRecord(
        kind=kind, **fields, date=draw(texts), fit_seconds=draw(st.none() | numbers), part=part
    )


def slowly(test: Callable[..., None]) -> Any:
    """Mark a test that writes a file for each of a hundred records, on a disk that may be busy."""
    unhurried = settings(suppress_health_check=[HealthCheck.too_slow])
    return pytest.mark.slow(unhurried(test))


def written(folder: Path, record: RunStart) -> dict[str, Any]:
    """Write a record, and return the JSON object of its file."""
    write_record(folder, record)
    value: dict[str, Any] = json.loads((folder / record.FILE).read_text("utf-8"))
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@slowly
@given(record=records() | starts)
def test_what_is_written_is_read_back_equal(folder: Path, record: RunStart) -> None:
    assert written(folder, record)["format_version"] == FORMAT_VERSION
    assert type(record).read(folder) == record


@slowly
@given(record=records(), data=st.data())
def test_a_run_of_0_1_0_is_read_which_states_no_version(
    folder: Path, record: RunRecord, data: st.DataObject
) -> None:
    value = written(folder, record)
    del value["format_version"]
    known = set(value)
    more = data.draw(st.dictionaries(texts.filter(lambda key: key not in known), plain, max_size=2))
    if record.kind == "linear" and data.draw(st.booleans()):
        del value["kind"]
    more.pop("format_version", None)
    (folder / record.FILE).write_text(json.dumps({**more, **value}))
    assert RunRecord.read(folder) == record


@slowly
@given(record=records(), data=st.data())
def test_a_field_that_is_missing_or_of_another_type_is_named(
    folder: Path, record: RunRecord, data: st.DataObject
) -> None:
    value = written(folder, record)
    place, holder = [], value
    while True:
        keys = sorted(holder.keys() - {"format_version", "job"})
        place.append(data.draw(st.sampled_from(keys)))
        inner = holder[place[-1]]
        is_record = isinstance(inner, dict) and place[-1] not in ("papers", "packages", "chosen")
        if not is_record or data.draw(st.booleans()):
            break
        holder = inner
    wrong: Any = {"of": ["another", "type"]} if not isinstance(inner, dict) else 3.5
    if isinstance(inner, list):
        wrong = "text"
    holder[place[-1]] = wrong
    (folder / record.FILE).write_text(json.dumps(value))
    with pytest.raises(RunCorrupt) as error:
        RunRecord.read(folder)
    assert f"{folder} cannot be read: {record.FILE}: " in str(error.value)
    assert repr(".".join(place)) in str(error.value)


@slowly
@given(record=records(), data=st.data())
def test_a_file_that_was_cut_off_is_one_error(
    folder: Path, record: RunRecord, data: st.DataObject
) -> None:
    written(folder, record)
    content = (folder / record.FILE).read_bytes().rstrip()
    (folder / record.FILE).write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(RunCorrupt, match=r"provenance\.json: it is not JSON"):
        RunRecord.read(folder)


LINEAR = {
    "command": "classmark train",
    "seed": 7,
    "dataset": "../data",
    "dataset_digest": "0" * 64,
    "labels": ["a", "b"],
    "label_space": "free",
    "generated": True,
    "features": {"parent": 3, "kept": 2},
    "date": "2026-01-02T03:04:05+00:00",
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": 2}, "'format_version' is 2, this classmark reads up to 1; install a"),
        ({"format_version": "1"}, "'format_version' is '1', it must be a whole number from 1"),
        ({"format_version": True}, "'format_version' is True, it must be a whole number from 1"),
        ({"format_version": 1, "more": 1}, "'more' is not a field"),
        ({"features": {"parent": 3}}, "'features.kept' is missing"),
        ({"features": {"parent": 3, "kept": 2, "x": 1}}, "'features.x' is not a field"),
        ({"kind": "oracle"}, "'kind' is 'oracle', it must be linear or transformer or cascade"),
        ({"kind": ["linear"]}, "'kind' is ['linear'], it must be linear or"),
        ({"labels": ["a", 1]}, "'labels[1]' is 1, it must be a text"),
        ({"seed": True}, "'seed' is True, it must be a whole number"),
        ({"fit_seconds": float("nan")}, "'fit_seconds' is nan, it must be a number"),
        ({"fit_seconds": 10**400}, "'fit_seconds' is 1000"),
        ({"packages": {"numpy": 2}}, "'packages.numpy' is 2, it must be a text"),
        ({"generated": None}, "'generated' is None, it must be true or false"),
        ({"command": ["x" * 999]}, "..., it must be a text"),
    ],
)
def test_a_wrong_value_is_named_with_its_field(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({**LINEAR, **change}))
    with pytest.raises(RunCorrupt) as error:
        RunRecord.read(tmp_path)
    assert problem in str(error.value)
    assert len(str(error.value)) < 400


def test_an_older_run_is_read_with_what_it_did_not_note(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps(LINEAR))
    record = RunRecord.read(tmp_path)
    assert (record.kind, record.commit, record.fit_seconds) == ("linear", None, None)
    with pytest.raises(RunNotFound, match=r"of kind 'linear', not 'cascade'.*model=cascade"):
        record.part_as(CascadePart)
    with pytest.raises(ValueError, match=r"a run of kind 'cascade' has no LinearPart"):
        RunStart(**{f: getattr(record, f) for f in start_fields}, kind="cascade").finished(
            date="", fit_seconds=None, part=record.part
        )


def test_no_run_and_a_record_that_cannot_be_opened_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"is not a finished run: it has no provenance\.json"):
        RunRecord.read(tmp_path)
    with pytest.raises(RunNotFound, match=r"is not a finished run: no such folder"):
        RunRecord.read(tmp_path / "absent")
    (tmp_path / "provenance.json").mkdir()
    with pytest.raises(RunCorrupt, match=r"provenance\.json: Is a directory"):
        RunRecord.read(tmp_path)
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(RunCorrupt, match=r"run\.json: it is not JSON"):
        RunStart.read(tmp_path)
