"""Real profiles of this process: the function that works, the memory that is held, the steps."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from classmark.errors import MissingExtra, WorkerFailed
from classmark.profiling import Meter, Profiler, config, profiler
from classmark.profiling.meter import MeteredProgress
from recording import Recording

MIB = 1 << 20


def spend(cpu_s: float) -> None:
    """Take so much CPU time, in pure Python."""
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        sum(range(1000))


@pytest.mark.slow
def test_the_sampler_finds_the_function_that_works() -> None:
    with Profiler("cpu", 200, "a test") as running:
        spend(1.0)
    report = running.profile().report
    worker = next(f for f in report.functions if f.name == "spend")
    assert worker.file.endswith("test_profiling_profiler.py")
    assert worker.total > report.total / 2
    assert report.unit == "samples"
    assert report.processes[0].cpu_seconds >= 0.9


@pytest.mark.slow
def test_the_tracker_finds_who_holds_memory_at_the_peak(tmp_path: Path) -> None:
    pytest.importorskip("memray")

    def hold(n_bytes: int) -> bytearray:
        return bytearray(n_bytes)

    def work() -> tuple[int, bytearray]:
        return len(hold(20 * MIB)), hold(60 * MIB)

    def outermost() -> tuple[int, bytearray]:  # memray does not name it
        return work()

    with Profiler("memory", 100, "a test") as running:
        passed, held = outermost()
    report = running.profile().report
    assert passed < len(held) <= report.functions[0].own < len(held) + 10 * MIB
    assert report.functions[0].name == "hold"
    assert (report.unit, report.rate) == ("bytes", None)


def test_steps_have_their_own_time_and_peak() -> None:
    # A process of its own: memory that earlier tests have freed would serve this one too.
    code = (
        "import time\nprint(flush=True)\ninput()\n"
        f"held = bytearray(b'x') * {80 * MIB}\nuntil = time.process_time() + 0.2\n"
        "while time.process_time() < until: 0\nprint(flush=True)\ninput()\n"
        "del held\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asks, answers = process.stdin, process.stdout

        def continue_it() -> None:
            asks.write(b"\n")
            asks.flush()
            answers.readline()

        answers.readline()
        meter, shown = Meter(process.pid, left_out="py-spy"), Recording()
        progress = MeteredProgress(shown, meter)
        progress.step("small")
        progress.step("large")
        continue_it()  # takes memory, and works
        continue_it()  # gives the memory back
        progress.step("after")
        meter.stop()
        asks.write(b"\n")
        asks.close()
    small, large, after = meter.steps
    assert [step.name for step in meter.steps] == ["small", "large", "after"]
    assert large.peak_mb > small.peak_mb + 60
    assert after.peak_mb < large.peak_mb
    assert large.cpu_seconds >= 0.15
    assert shown.steps == ["small", "large", "after"]


@pytest.mark.slow
def test_a_child_counts_as_a_process_of_its_own() -> None:
    code = "import time; x = bytearray(50_000_000)\nwhile time.process_time() < 1.5: 0"
    # A parent of its own: the process of the tests has children that earlier tests left running.
    parent_code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}])\n"
        "print('done', flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        meter = Meter(parent.pid, left_out="py-spy")
        assert parent.stdout.readline() == b"done\n"
        meter.stop()
        parent.stdin.write(b"\n")
        parent.stdin.close()
    _, child = meter.processes
    assert child.cpu_seconds > 0.5
    assert child.name.startswith("process ")
    assert child.peak_mb >= 50


@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_without_the_extra_the_command_that_installs_it_is_named(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=rf"profiler={kind} needs .*'classmark\[profile\]'"):
        Profiler(kind, 100, "a test")  # type: ignore[arg-type]


def test_a_sampler_that_may_not_look_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "py-spy"
    refusing.write_text("#!/bin/sh\necho 'Error: Permission Denied: Try again' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(profiler, "sampler_path", lambda: str(refusing))
    with (
        pytest.raises(WorkerFailed, match=r"cannot look .*: Permission Denied: .*SYS_PTRACE"),
        Profiler("cpu", 100, "a test"),
    ):
        pass
