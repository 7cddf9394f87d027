"""Runs with real processes: the same output as one, whoever is killed, and going on."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bulk_jobs import (
    KILLED_AT,
    TINY,
    dump_line,
    folder_of,
    job_of,
    json_lines_in_one_process,
    kill,
    kill_in_the_middle,
    run_job,
    write_dump,
)

from classmark.bulk import BulkConfig
from classmark.bulk.parts import Parts
from classmark.bulk.pool import Pool
from classmark.bulk.worker import Task, WorkPlan
from classmark.errors import (
    InvalidPaper,
    OutputBusy,
    StorageFailed,
    UnreadableSource,
    UsageError,
    WorkerFailed,
)
from classmark.neighbours import (
    Entry,
    EvidenceWeights,
    SideWeights,
    build_index,
    set_evidence,
)
from classmark.papers import Chunk
from classmark.runtime import Classifier
from recording import Recording

pytestmark = pytest.mark.slow  # reason: processes of their own that load the model


class Deadly(dict[str, str]):
    """Columns that kill the worker that reads them."""

    def get(self, *_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Broken(dict[str, str]):
    """Columns that no worker can read."""

    def get(self, *_: Any) -> Any:
        raise ValueError("no such thing")


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    return write_dump(tmp_path / "dump.jsonl")


def test_json_lines_are_those_of_one_process(
    dump: Path, tmp_path: Path, classifier: Classifier
) -> None:
    write_dump(dump, bad=(3, 4, 30))
    report = run_job(job_of(dump, tmp_path / "out.jsonl"))
    assert (tmp_path / "out.jsonl").read_bytes() == json_lines_in_one_process(classifier, dump)
    assert (report.records, report.bad, report.before) == (40, 3, 0)
    assert not folder_of(tmp_path / "out.jsonl").exists()


def test_parquet_has_the_rows_of_json_lines_and_names_the_model(
    tmp_path: Path, classifier: Classifier
) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", bad=(3, *range(9, 19)))
    for name in ("out.jsonl", "out.parquet"):
        run_job(job_of(dump, tmp_path / name, top=3))
    answers = list(map(json.loads, (tmp_path / "out.jsonl").read_bytes().splitlines()))
    table = pq.read_table(tmp_path / "out.parquet")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [answer["id"] for answer in answers]
    for row, answer in zip(rows, answers, strict=True):
        if "error" in answer:
            assert row["error"] == "{kind}: {message}".format(**answer["error"])
            assert {row[name] for name in row if name not in ("id", "error")} == {None}
            continue
        assert row["error"] is None
        for name in ("primary", "reason", "cross_lists", "set"):
            assert row[name] == answer[name]
        assert row["set_reason"] == answer.get("set_reason")
        assert row["ranked"] == [ranked["code"] for ranked in answer["ranked"]]
        probabilities = [ranked["probability"] for ranked in answer["ranked"]]
        assert row["ranked_probabilities"] == np.float32(probabilities).tolist()
        assert row["probability"] == row["ranked_probabilities"][0]
    metadata = table.schema.metadata
    assert metadata[b"classmark.model_digest"].decode() == classifier.model.digest
    assert metadata[b"classmark.model_name"] == b"fast"


def test_row_groups_are_of_bounded_size(dump: Path, tmp_path: Path) -> None:
    run_job(job_of(dump, tmp_path / "out.parquet"))
    file = pq.ParquetFile(tmp_path / "out.parquet")
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert sum(sizes) == 40
    assert 3 < len(sizes) <= 6


@pytest.mark.parametrize("layout", ["jsonl", "csv", "parquet"])
def test_the_number_of_workers_changes_nothing(dump: Path, tmp_path: Path, layout: str) -> None:
    outputs = [tmp_path / f"{n}.{layout}" for n in (1, 3)]
    for output, workers in zip(outputs, (1, 3), strict=True):
        run_job(job_of(dump, output), config=replace(TINY, workers=workers))
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_records_that_are_no_lines_are_handed_over(tmp_path: Path, classifier: Classifier) -> None:
    source = tmp_path / "papers.csv"
    rows = [f'{i},On graphs {i},"We colour\na graph, {i} times"\n' for i in range(10)]
    source.write_text("id,title,abstract\n" + "".join(rows) + "11,,\n")
    recording = Recording()
    report = run_job(job_of(source, tmp_path / "out.jsonl"), recording)
    assert (tmp_path / "out.jsonl").read_bytes() == json_lines_in_one_process(classifier, source)
    assert (report.records, report.bad, recording.warnings) == (11, 1, [])
    assert len(recording.shares) == 4
    assert recording.shares[-1] == 1.0


@pytest.mark.parametrize("layout", ["jsonl", "csv", "parquet"])
def test_a_killed_run_goes_on_and_writes_the_same(tmp_path: Path, layout: str) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", bad=(1, 33))
    whole, output = tmp_path / f"whole.{layout}", tmp_path / f"out.{layout}"
    run_job(job_of(dump, whole))
    kill_in_the_middle(dump, output)
    assert not output.exists()
    parts = list(folder_of(output).glob("*.part"))
    assert len(parts) >= KILLED_AT
    recording = Recording()
    report = run_job(job_of(dump, output), recording)
    assert recording.warnings[0].startswith(f"resuming: {report.before:,} papers are done, ")
    assert recording.before == [report.before]
    assert 0 < report.before < report.records == 40
    assert output.read_bytes() == whole.read_bytes()
    assert not folder_of(output).exists()


def test_a_run_that_is_killed_twice_goes_on_twice(dump: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    kill_in_the_middle(dump, output)
    n_parts = len(list(folder_of(output).glob("*.part")))
    assert any(line.startswith("resuming") for line in kill_in_the_middle(dump, output))
    assert len(list(folder_of(output).glob("*.part"))) > n_parts


def test_a_part_that_was_cut_short_is_made_again(dump: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    run_job(job_of(dump, whole))
    kill_in_the_middle(dump, output)
    part = min(folder_of(output).glob("*.part"))
    part.write_bytes(part.read_bytes()[:-3])
    run_job(job_of(dump, output))
    assert output.read_bytes() == whole.read_bytes()


def test_a_killed_worker_is_replaced(dump: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run_job(job_of(dump, whole))
    killed = []

    def kill_all(n_parts: int) -> None:
        if n_parts == 2:
            for child in multiprocessing.active_children():
                killed.append(child.pid)
                kill(child.pid)

    run_job(job_of(dump, output), Recording(on_advance=kill_all))
    assert len(killed) == 2
    assert output.read_bytes() == whole.read_bytes()


def test_control_c_does_not_reach_the_workers(dump: Path, tmp_path: Path) -> None:
    def interrupt(_n_parts: int) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGINT)

    assert run_job(job_of(dump, tmp_path / "o.csv"), Recording(on_advance=interrupt)).records == 40


def test_a_worker_that_dies_twice_over_the_same_papers_ends_the_run(
    dump: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        WorkerFailed, match=r"died 2 times \(signal 9\) over the same papers of .*dump.jsonl"
    ):
        run_job(job_of(dump, tmp_path / "out.csv", columns=Deadly(title="title")))
    assert not folder_of(tmp_path / "out.csv").exists()
    assert not multiprocessing.active_children()


def test_an_error_of_a_worker_is_the_error_of_the_run(dump: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match="ValueError: no such thing"):
        run_job(job_of(dump, tmp_path / "out.csv", columns=Broken(title="title")))


def test_what_is_done_is_kept_when_a_run_fails(dump: Path, tmp_path: Path) -> None:
    def interrupt(n_parts: int) -> None:
        if n_parts == 2:
            raise KeyboardInterrupt

    output = tmp_path / "out.jsonl"
    recording = Recording(on_advance=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_job(job_of(dump, output), recording)
    assert not multiprocessing.active_children()
    assert recording.warnings[-1].endswith(
        f" papers are done and kept in {folder_of(output)}: run the same command to resume."
    )
    again = Recording()
    assert run_job(job_of(dump, output), again).before > 0


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"top": 2}, "the options changed since the run before: starting over."),
        ({}, "the input changed since the run before: starting over."),
    ],
)
def test_a_changed_run_starts_anew(
    dump: Path, tmp_path: Path, changes: dict[str, Any], seen: str
) -> None:
    output = tmp_path / "out.jsonl"
    kill_in_the_middle(dump, output)
    if not changes:
        write_dump(dump, 39)
    recording = Recording()
    report = run_job(job_of(dump, output, **changes), recording)
    assert recording.warnings == [seen]
    assert report.before == 0
    run_job(job_of(dump, tmp_path / "whole.jsonl", **changes))
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_edit_that_keeps_size_time_and_beginning_starts_anew(tmp_path: Path) -> None:
    """The first 64 KiB are a line that is no paper, so that the edit lies behind them."""
    source, output = tmp_path / "dump.jsonl", tmp_path / "out.jsonl"
    padding = "x" * (1 << 16) + "\n"
    papers = "".join(dump_line(i) + "\n" for i in range(40))
    source.write_text(padding + papers, encoding="utf-8")
    facts = source.stat()
    kill_in_the_middle(source, output)
    source.write_text(padding + papers.replace("galaxy", "theory"), encoding="utf-8")
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert source.stat().st_size == facts.st_size
    recording = Recording()
    assert run_job(job_of(source, output), recording).before == 0
    assert recording.warnings == ["the input changed since the run before: starting over."]
    run_job(job_of(source, tmp_path / "whole.jsonl"))
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_copy_of_the_input_goes_on_and_errors_name_the_copy(tmp_path: Path) -> None:
    source, output = write_dump(tmp_path / "a.jsonl", bad=(0,)), tmp_path / "out.csv"
    kill_in_the_middle(source, output)
    copy = tmp_path / "b.jsonl"
    copy.write_bytes(source.read_bytes())
    source.unlink()
    recording = Recording()
    assert run_job(job_of(copy, output), recording).before > 0
    assert recording.warnings[0].startswith("resuming: ")
    assert recording.warnings[1].startswith(f"error: {copy}: line 1: ")


def test_a_damaged_manifest_starts_anew(dump: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    kill_in_the_middle(dump, output)
    (folder_of(output) / "manifest.json").write_text("{")
    recording = Recording()
    run_job(job_of(dump, output), recording)
    assert recording.warnings[0].endswith(
        "the size of parts and the index changed since the run before: starting over."
    )


def test_a_second_run_is_refused_while_the_first_works(dump: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    refused: list[str] = []

    def start_another(_n_parts: int) -> None:
        with pytest.raises(OutputBusy) as error:
            run_job(job_of(dump, output))
        refused.append(str(error.value))

    run_job(job_of(dump, output), Recording(on_advance=start_another))
    assert set(refused) == {
        f"another run is at work in {folder_of(output)}. Wait for it, or choose another output."
    }


def test_a_folder_of_somebody_else_is_left_alone(dump: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "out.csv").mkdir()
    (folder_of(tmp_path / "out.csv") / "thesis.txt").write_text("mine")
    with pytest.raises(StorageFailed, match=r"holds 'thesis.txt', which does not belong to a run"):
        run_job(job_of(dump, tmp_path / "out.csv"))
    assert (folder_of(tmp_path / "out.csv") / "thesis.txt").read_text() == "mine"


def test_bad_records_are_told_in_order_and_not_without_end(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", 60, bad=tuple(range(5, 55, 2)))
    recording = Recording()
    report = run_job(job_of(dump, tmp_path / "out.csv"), recording)
    assert report.bad == 25
    numbers = [
        int(line.partition("line ")[2].partition(":")[0]) for line in recording.warnings[:20]
    ]
    assert numbers == list(range(6, 46, 2))
    assert recording.warnings[0].startswith(f"error: {dump}: line 6: not JSON")
    assert recording.warnings[20:] == ["... and 5 more bad records."]


def test_strict_stops_at_the_first_bad_record_of_the_input(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", bad=(7, 38))
    with pytest.raises(InvalidPaper, match=r"dump.jsonl: line 8: not JSON"):
        run_job(job_of(dump, tmp_path / "out.csv", strict=True))
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSource, match=r"none.jsonl cannot be opened: No such file"):
        run_job(job_of(tmp_path / "none.jsonl", tmp_path / "out.csv"))
    assert list(tmp_path.glob("out*")) == []


def test_an_unreadable_file_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UnreadableSource, match="is empty"):
        run_job(job_of(tmp_path / "empty.jsonl", tmp_path / "out.csv"))
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
def test_pipes_are_refused(dump: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match=r"pipe.csv is not a regular file"):
        job_of(tmp_path / "pipe.csv", tmp_path / "out.csv")
    with pytest.raises(StorageFailed, match=r"pipe.csv is a device or a pipe"):
        run_job(job_of(dump, tmp_path / "pipe.csv"))


def test_an_explanation_is_only_for_json_lines(dump: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="explanations cannot be written as parquet"):
        job_of(dump, tmp_path / "out.parquet", explain=True)
    run_job(job_of(dump, tmp_path / "out.jsonl", explain=True))
    assert b'"explanation_method":"exact_linear"' in (tmp_path / "out.jsonl").read_bytes()


def test_a_division_into_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="chunk_bytes must be at least 1, got 0"):
        BulkConfig(chunk_bytes=0)


def test_an_output_behind_a_link_is_replaced_where_it_lies(dump: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out.csv").symlink_to(tmp_path / "real" / "papers.csv")
    run_job(job_of(dump, tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").is_symlink()
    assert len((tmp_path / "real" / "papers.csv").read_bytes().splitlines()) == 41


def test_no_more_than_a_task_a_worker_and_one_ahead_are_held(
    dump: Path, tmp_path: Path, classifier: Classifier
) -> None:
    job = job_of(dump, tmp_path / "out.jsonl")
    plan = WorkPlan(job, Parts(tmp_path, "0" * 16), classifier.model.digest)
    n_given = n_done = most = 0
    raw = dump.read_bytes()

    def tasks() -> Any:
        nonlocal n_given, most
        for index in range(20):
            n_given += 1
            most = max(most, n_given - n_done)
            yield Task(index, "dump", Chunk(raw, 1, 0), 0)

    for _ in Pool(plan, 2).run(tasks()):
        n_done += 1
    assert (n_done, most) == (20, 3)


def test_another_trust_in_an_index_starts_anew(dump: Path, tmp_path: Path) -> None:
    classifier, output = Classifier(), tmp_path / "out.jsonl"
    papers = [(Entry("a", 2001, ("cs.CG",)), "We study a graph and its neural methods.")]
    vectors = classifier.vectors([text for _, text in papers])
    index = tmp_path / "index"
    build_index(index, [([entry for entry, _ in papers], vectors)], classifier.model)
    side = SideWeights((0.5, 1.5, 0.5, 0.0))
    set_evidence(index, EvidenceWeights(1.1, side, side), classifier.model)
    kill_in_the_middle(dump, output)
    recording = Recording()
    run_job(job_of(dump, output, index=index), recording)
    assert recording.warnings == ["the index changed since the run before: starting over."]
    assert output.read_bytes() == json_lines_in_one_process(classifier.with_index(index), dump)
    other = WorkPlan(
        job_of(dump, output, index=index), Parts(tmp_path, "0" * 16), classifier.model.digest, "0"
    )
    task = Task(0, "dump", Chunk(dump.read_bytes(), 1, 0), 0)
    with pytest.raises(WorkerFailed, match="index was replaced during the run"):
        list(Pool(other, 1).run(iter([task])))


def test_a_model_that_was_replaced_during_the_run_ends_it(dump: Path, tmp_path: Path) -> None:
    plan = WorkPlan(job_of(dump, tmp_path / "o.csv"), Parts(tmp_path, "0" * 16), "another")
    task = Task(0, "dump", Chunk(dump.read_bytes(), 1, 0), 0)
    with pytest.raises(WorkerFailed, match="was replaced during the run"):
        list(Pool(plan, 1).run(iter([task])))
