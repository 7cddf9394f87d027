"""What is refused before Ray is imported, and where Ray is not installed."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from bulk_jobs import job_of, run_job, write_dump

from classmark.bulk import BulkConfig
from classmark.cluster import connect
from classmark.errors import ClusterFailed, MissingExtra, UsageError


def test_without_the_extra_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    dump = write_dump(tmp_path / "dump.jsonl", 2)
    with pytest.raises(MissingExtra, match=r"Run: pip install 'classmark\[ray\]'"):
        run_job(job_of(dump, tmp_path / "out.csv"), config=BulkConfig(engine="ray"))
    assert list(tmp_path.glob("out*")) == []


def test_an_address_that_nobody_answers_is_refused_at_once(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = BulkConfig(engine="ray", address=address)
    with pytest.raises(ClusterFailed, match=rf"no cluster answers at {address} \(Connection refus"):
        run_job(job_of(dump, tmp_path / "out.csv"), config=config)
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("address", ["head", "head:", "ray://head:10001", ":6379", "head:99999"])
def test_an_address_of_another_shape_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT or auto"), connect(address):
        pass


def test_an_unknown_engine_is_refused_and_an_address_without_one() -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'spark'. Choose one of: local, ray"):
        BulkConfig(engine="spark")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the address a:1 of a cluster is only for the engine ray"):
        BulkConfig(address="a:1")


def test_local_work_does_not_import_ray(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", 2)
    before = "ray" in sys.modules
    run_job(job_of(dump, tmp_path / "out.csv"))
    assert ("ray" in sys.modules) == before
