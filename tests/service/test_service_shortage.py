"""The machine is short of processes, memory, descriptors, a disk, or somebody who reads."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from waiting import PATIENCE_S, until

from classmark.client import ClientConfig
from classmark.errors import ListenFailed
from classmark.service.settings import ServiceSettings
from classmark.service.workers.process import fit_descriptors
from preload import build_preload, calls, failing

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}
SERVE = [sys.executable, "-m", "classmark", "serve", "--port", "0", "--workers", "2"]


def answered(url: str) -> int:
    return httpx.post(f"{url}/v1/classify", json=PAPER, timeout=PATIENCE_S).status_code


def events(stderr: str) -> list[str]:
    return [json.loads(line)["event"] for line in stderr.splitlines() if line.startswith("{")]


def has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Outcome:
    """What became of a service that was started with a fault.

    Attributes:
        exit_code: of the supervisor.
        has_answered: whether it served.
        errors: lines of stderr that are no log lines.
        events: of the log.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        """Start it; where it serves, let it answer and stop it."""
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        home = {"CLASSMARK_HOME": str(folder / "home"), "TMPDIR": str(temporary)}
        quick = {"CLASSMARK_SERVE_DRAIN_S": "0.1"}
        with subprocess.Popen(
            SERVE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **home, **quick, **environment},
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+:\d+", line)
            self.has_answered = found is not None and until(lambda: answered(found[0]) == 200)
            if self.has_answered:
                process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=PATIENCE_S)
            self.exit_code = process.returncode
        until(lambda: not has_processes(process.pid))
        assert list(temporary.iterdir()) == []
        self.events = events(stderr)
        lines = [line for line in stderr.splitlines() if not line.startswith("{")]
        # Written by the event loop's C code where it could not begin.
        self.errors = [line for line in lines if line != "deallocating an open event loop"]

    def is_in_order(self) -> bool:
        """Tell whether it served and stopped in order, or ended with one line that says why."""
        if self.has_answered:
            return (self.exit_code, self.errors) == (0, [])
        return self.exit_code == 1 and len(self.errors) == 1 and self.errors[0][:7] == "error: "


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_preload(tmp_path_factory.mktemp("preload"))


@pytest.mark.slow
def test_a_worker_that_serves_needs_no_further_thread(
    tmp_path: Path, start: Any, preload: Path
) -> None:
    log = tmp_path / "calls"
    with start("--workers", "1", **failing(preload, "thread:0:EAGAIN", log)):
        n_calls = calls(log)
    with start("--workers", "1", **failing(preload, f"thread:{n_calls + 1}+:EAGAIN")) as server:
        with server.client() as client:
            batch = {"papers": [PAPER] * 50}
            statuses = [client.post("/v1/classify", json=batch).status_code for _ in range(40)]
            assert statuses == [200] * 40
            assert client.get("/v1/status").status_code == 200
            large = {"file": ("papers.csv", "title,abstract\n" + "Graphs,Colours\n" * 9000)}
            refused = client.post("/v1/files", files=large)
        assert refused.status_code == 503, refused.text
        assert "no thread can be started" in refused.json()["detail"]


@pytest.mark.slow
def test_shared_memory_that_cannot_be_had_is_one_line(tmp_path: Path, preload: Path) -> None:
    outcome = Outcome(tmp_path, **failing(preload, "mmap:1:ENOMEM:anonymous"))
    assert outcome.exit_code == 1
    (line,) = outcome.errors
    assert re.match(r"error: the workers cannot share [\d,]+ bytes of memory \(Cannot alloc", line)


@pytest.mark.slow
def test_a_fork_that_fails_is_tried_again_and_the_others_go_on(start: Any, preload: Path) -> None:
    # The first ones are of two workers, and of the process beside each that writes the journal.
    faults = failing(preload, "fork:5:EAGAIN")
    with start("--workers", "2", **faults) as server:
        victim, other = server.workers()
        os.kill(victim, signal.SIGKILL)
        until(lambda: "worker not started" in events(server.stderr()))
        until(lambda: len(server.workers()) == 2 and victim not in server.workers())
        assert other in server.workers()
        assert answered(server.url) == 200
        seen = next(line for line in server.logs() if line["event"] == "worker not started")
        assert seen["detail"] == "Resource temporarily unavailable"


@pytest.mark.slow
def test_forks_that_go_on_failing_leave_nothing_open_and_do_not_hinder_the_stop(
    start: Any, preload: Path
) -> None:
    with start("--workers", "1", **failing(preload, "fork:2+:EAGAIN")) as server:
        files = Path(f"/proc/{server.process.pid}/fd")
        before = len(list(files.iterdir()))
        os.kill(server.workers()[0], signal.SIGKILL)
        until(lambda: events(server.stderr()).count("worker not started") >= 4)
        assert len(list(files.iterdir())) <= before
        delays = [line.get("again_in_s") for line in server.logs() if "again_in_s" in line]
        assert delays == sorted(set(delays))
        assert server.stop() == 0


@pytest.mark.slow
def test_no_process_at_all_is_one_error_line(tmp_path: Path, preload: Path) -> None:
    outcome = Outcome(tmp_path, **failing(preload, "fork:1+:EAGAIN"))
    assert outcome.exit_code == 1
    (line,) = outcome.errors
    assert line.startswith("error: no worker process can be started (Resource temporarily unav")


@pytest.mark.slow
def test_the_temporary_folder_may_vanish_or_never_have_been(start: Any, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with start("--workers", "1", TMPDIR=str(temporary)) as server:
        assert list(temporary.iterdir()) == []
        shutil.rmtree(temporary)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: server.workers() not in ([worker], []))
        assert until(lambda: answered(server.url)) == 200
        mapped = Path(f"/proc/{server.workers()[0]}/maps").read_text()
        assert str(temporary) not in mapped
    with start("--workers", "1", TMPDIR=str(tmp_path / "never")) as server:
        assert answered(server.url) == 200


@pytest.mark.slow
def test_spawned_workers_share_counts_too(tmp_path: Path) -> None:
    # As on macOS, where workers cannot be forked.
    code = (
        "from classmark.service.workers import process; process.FORKS = False; "
        "from classmark.__main__ import main; main()"
    )
    errors = tmp_path / "stderr.txt"
    environment = {**os.environ, "CLASSMARK_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, *SERVE[3:]]
    with (
        errors.open("wb") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().split()[4]
        for _ in range(6):
            assert answered(url) == 200
        counted = 'requests_total{method="POST",route="/v1/classify",status="200"} 6.0'
        assert until(lambda: counted in httpx.get(f"{url}/metrics").text)
        assert until(lambda: "classmark_workers 2.0" in httpx.get(f"{url}/metrics").text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert all(line.startswith("{") for line in errors.read_text().splitlines())


@pytest.mark.slow
def test_uptime_is_that_of_the_service_when_all_workers_are_new(start: Any) -> None:
    def started() -> str:
        text = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).text
        (line,) = re.findall(r"^classmark_start_time_seconds .*", text, re.MULTILINE)
        return str(line)

    with start("--workers", "1") as server:
        before, (worker,) = started(), server.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: server.workers() not in ([worker], []))
        assert until(started) == before


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "| true"])
def test_nobody_need_read_what_the_service_says(tmp_path: Path, redirection: str) -> None:
    log = tmp_path / "pid"
    script = f"echo $BASHPID > {log}; exec {' '.join(SERVE)}"
    with subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; ({script}) {redirection}"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CLASSMARK_HOME": str(tmp_path)},
    ) as shell:
        until(lambda: log.exists() and log.read_text().strip())
        pid = int(log.read_text())
        (url,) = until(lambda: listening(pid))
        assert answered(url) == 200
        for process in (pid, *children(pid)):
            links = [str(Path(f"/proc/{process}/fd/{n}").readlink()) for n in (0, 1, 2)]
            assert not any("socket" in link or "sqlite" in link for link in links), links
        os.kill(pid, signal.SIGTERM)
        assert shell.wait(PATIENCE_S) == 0
    assert not Path(f"/proc/{pid}").exists()


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listening(pid: int) -> list[str]:
    """Return the addresses of 127.0.0.1 that a process listens on."""
    links = [str(link) for link in _links(Path(f"/proc/{pid}/fd"))]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        f"http://127.0.0.1:{int(row[1].partition(':')[2], 16)}"
        for row in rows
        if row[3] == "0A" and f"socket:[{row[9]}]" in links
    ]


def _links(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        for entry in folder.iterdir():
            with suppress(FileNotFoundError):
                yield entry.readlink()


@pytest.mark.slow
def test_too_few_descriptors_are_said_and_connections_beyond_them_refused(tmp_path: Path) -> None:
    command = f"ulimit -n 128; exec {' '.join(SERVE)}"
    with subprocess.Popen(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CLASSMARK_HOME": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[4]
        with ExitStack() as stack:
            for _ in range(150):
                client = stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE_S))
                with suppress(httpx.TransportError):  # refused, and closed
                    client.get("/healthz")
            assert process.poll() is None
        assert until(lambda: answered(url)) == 200
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    first = json.loads(stderr.splitlines()[0])
    assert (first["event"], first["level"]) == ("few file descriptors", "warning")
    assert (first["limit"], first["needed"], first["max_connections"]) == (128, 1090, 62)
    assert "cannot accept" not in events(stderr)


@pytest.mark.slow
def test_accept_without_a_descriptor_is_logged_now_and_then(start: Any, preload: Path) -> None:
    with start("--workers", "1", **failing(preload, "accept:1:EMFILE")) as server:
        assert answered(server.url) == 200
        (seen,) = [line for line in server.logs() if line["event"] == "cannot accept"]
        assert seen["detail"] == "Too many open files"
        assert "ulimit -n" in seen["advice"]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the soft and the hard limit of open files, as they are said to be."""
    said = [256, 1024]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(said))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: said.__setitem__(0, limit[0]))
    return said


def test_the_limit_of_descriptors_is_raised_as_far_as_it_is_needed(limits: list[int]) -> None:
    settings = ServiceSettings(max_connections=500)
    assert fit_descriptors(settings, 4) is settings
    assert limits == [568, 1024]
    assert fit_descriptors(settings, 2) is settings
    limits[:] = [resource.RLIM_INFINITY, resource.RLIM_INFINITY]
    assert fit_descriptors(settings, 2) is settings
    limits[:] = [256, resource.RLIM_INFINITY]
    assert fit_descriptors(settings, 2) is settings


def test_a_limit_without_room_for_a_connection_ends_the_start(limits: list[int]) -> None:
    limits[:] = [64, 64]
    with pytest.raises(ListenFailed, match="open files is 64; a worker needs 66 before"):
        fit_descriptors(ServiceSettings(), 2)


def test_the_client_waits_longer_than_a_stuck_worker_lasts() -> None:
    settings = ServiceSettings()
    assert ClientConfig().timeout_s > settings.stuck_after_s + 5
