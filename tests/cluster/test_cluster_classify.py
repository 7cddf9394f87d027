"""Files classified on a cluster of two nodes: the bytes of one machine, whatever node dies."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from bulk_jobs import TINY, folder_of, job_of, kill_in_the_middle, run_job, write_dump

from classmark.bulk import BulkConfig
from classmark.cluster import connect
from classmark.errors import (
    ClusterFailed,
    InvalidPaper,
    UnreadableSource,
    WorkerFailed,
)
from recording import Recording

pytestmark = [
    pytest.mark.slow,  # reason: a cluster takes seconds to start
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: make test-ray"),
]


def on(nodes: Any) -> BulkConfig:
    """Return a configuration with parts of a few papers, made by the nodes of a cluster."""
    return replace(TINY, engine="ray", address=nodes.address)


@pytest.mark.parametrize("layout", ["jsonl", "csv", "parquet"])
def test_a_cluster_writes_the_bytes_of_this_machine(
    nodes: Any, tmp_path: Path, layout: str
) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", bad=(3, 4, 30))
    table = tmp_path / "papers.csv"
    rows = [f'{i},On graphs {i},"We colour\na graph, {i} times"\n' for i in range(10)]
    table.write_text("id,title,abstract\n" + "".join(rows))
    here, there = tmp_path / f"here.{layout}", tmp_path / f"there.{layout}"
    recordings = [Recording(), Recording()]
    reports = [
        run_job(job_of(dump, output, inputs=(dump, table, dump)), recording, config)
        for output, recording, config in (
            (here, recordings[0], TINY), (there, recordings[1], on(nodes)),
        )
    ]  # fmt: skip
    assert there.read_bytes() == here.read_bytes()
    assert replace(reports[0], seconds=0) == replace(reports[1], seconds=0)
    assert recordings[1].warnings == recordings[0].warnings
    assert sorted(recordings[1].counts) == sorted(recordings[0].counts)
    assert recordings[1].shares[-1] == 1.0
    assert not folder_of(there).exists()


def test_a_node_that_is_killed_in_the_middle_loses_nothing(
    make_nodes: Callable[[], Any], tmp_path: Path
) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", 200, bad=(1, 150))
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run_job(job_of(dump, whole))
    nodes = make_nodes()

    def kill(n_parts: int) -> None:
        if n_parts == 5:
            nodes.add()
            nodes.kill_oldest()

    recording = Recording(on_advance=kill)
    report = run_job(job_of(dump, output), recording, on(nodes))
    assert output.read_bytes() == whole.read_bytes()
    assert (report.records, report.bad, report.before) == (200, 2, 0)
    assert len(recording.counts) > 20
    assert sum(recording.counts) == 200


def test_a_run_that_was_killed_here_resumes_on_a_cluster(nodes: Any, tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", bad=(1, 33))
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    run_job(job_of(dump, whole))
    kill_in_the_middle(dump, output)
    recording = Recording()
    report = run_job(job_of(dump, output), recording, on(nodes))
    assert 0 < report.before < report.records == 40
    assert recording.warnings[0].startswith(f"resuming: {report.before:,} papers are done, ")
    assert sum(recording.counts) == 40 - report.before
    assert output.read_bytes() == whole.read_bytes()


def test_a_run_that_stops_on_a_cluster_resumes_here(nodes: Any, tmp_path: Path) -> None:
    def interrupt(n_parts: int) -> None:
        if n_parts == 3:
            raise KeyboardInterrupt

    dump = write_dump(tmp_path / "dump.jsonl")
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run_job(job_of(dump, whole))
    with pytest.raises(KeyboardInterrupt):
        run_job(job_of(dump, output), Recording(on_advance=interrupt), on(nodes))
    assert run_job(job_of(dump, output)).before > 0
    assert output.read_bytes() == whole.read_bytes()


def test_what_cannot_be_read_is_said_as_on_this_machine(nodes: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UnreadableSource, match=r"empty.jsonl is empty"):
        run_job(job_of(tmp_path / "empty.jsonl", tmp_path / "o.csv"), config=on(nodes))
    dump = write_dump(tmp_path / "dump.jsonl", bad=(7, 38))
    with pytest.raises(InvalidPaper, match=r"dump.jsonl: line 8: not JSON"):
        run_job(job_of(dump, tmp_path / "o.csv", strict=True), config=on(nodes))
    assert not (tmp_path / "o.csv").exists()


def test_a_connection_outlives_the_threads_of_its_run_and_none_starts_a_cluster(
    nodes: Any,
) -> None:
    import ray

    found: list[int] = []

    def ask_late() -> None:
        time.sleep(3)  # Ray waits for 2 s
        found.append(ray.get(ray.put(7)))

    with connect(nodes.address):
        threading.Thread(target=ask_late, name="StreamingExecutor-late").start()
    assert found == [7]
    with pytest.raises(Exception, match=r"not been started|must be called|initialized"):
        ray.put(7)
    assert not ray.is_initialized()


class Deadly(dict[str, str]):
    """Columns that kill the worker that reads them."""

    def get(self, *_: Any) -> Any:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(120)  # now and then Ray waits forever for a dead worker; make tries again
def test_papers_that_kill_every_worker_end_the_run(nodes: Any, tmp_path: Path) -> None:
    from ray import cloudpickle

    # The nodes cannot import this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    dump = write_dump(tmp_path / "dump.jsonl", 2)
    with pytest.raises(WorkerFailed, match="died"):
        run_job(job_of(dump, tmp_path / "o.csv", columns=Deadly(title="title")), config=on(nodes))


def test_a_node_without_the_extra_is_named(
    make_nodes: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = make_nodes()
    blocker = tmp_path / "bare" / "sitecustomize.py"
    blocker.parent.mkdir()
    blocker.write_text("import sys\nsys.modules['pandas'] = None\n")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(blocker.parent))
        nodes.add()
    dump = write_dump(tmp_path / "dump.jsonl", 2)
    with pytest.raises(ClusterFailed, match=r"^node \w{8} \(\S+\) lacks pandas. Install the same"):
        run_job(job_of(dump, tmp_path / "out.csv"), config=on(nodes))
    assert list(tmp_path.glob("out*")) == []
