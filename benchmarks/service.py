"""Measures the service: throughput against latency, single papers and batches, start and memory.

python benchmarks/service.py [--output benchmarks/reports/service.json] [--plot docs/service.svg]

Everything runs on this machine, the load generator (wrk, or httpx without it) too. The service is
as it starts by itself: a worker a core, journal and access log on. Right after each level of load
on it comes the same load on one without a journal, and on a bare FastAPI echo with one worker,
which answers a body with itself.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from load import Point, batch_bodies, generator, measure, single_bodies
from report import run_benchmark, start_plot, write_plot
from watch import tree

HOST = "127.0.0.1"
N_BODIES, N_BATCHES, BATCH_PAPERS = 500, 16, 200
P99_LIMIT_MS = 20
STARTS = 3
PATIENCE_S = 60
AIMS = {
    "single_requests_per_s": 2_000,
    "single_p99_ms": P99_LIMIT_MS,
    "share_of_echo": 0.85,
    "batch_papers_per_s": 10_000,
    "ready_s": 3,
    "resident_mb_one_worker": 250,
}
YARDSTICKS = Path(__file__).with_name("yardsticks.py")


@contextmanager
def started(command: list[str], ready_url: str, home: Path) -> Iterator[tuple[int, float]]:
    """Start a server for the block; yield (process id, seconds until it was ready)."""
    environment = {**os.environ, "CLASSMARK_HOME": str(home), "CLASSMARK_SERVE_DRAIN_S": "0.1"}
    start = time.monotonic()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        while not answers(ready_url):
            if process.poll() is not None or time.monotonic() - start > PATIENCE_S:
                sys.exit(f"{command[:4]} did not start: {(home / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield process.pid, time.monotonic() - start
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def answers(url: str) -> bool:
    """Tell whether a server answers without an error of its own; cheaper than httpx."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or HOST, address.port, timeout=5)
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(home: Path, *options: str) -> Iterator[tuple[str, int, float]]:
    """Start classmark for the block; yield (its address, process id, seconds until ready)."""
    url = f"http://{HOST}:{free_port()}"
    command = [sys.executable, "-m", "classmark", "serve", "--host", HOST]
    command += ["--port", url.rpartition(":")[2], *options]
    home.mkdir()
    with started(command, f"{url}/readyz", home) as (pid, ready_s):
        yield url, pid, ready_s


@contextmanager
def yardstick(home: Path, kind: str, *arguments: str) -> Iterator[tuple[str, int]]:
    """Start a server of yardsticks.py for the block; yield its address and process id."""
    port = free_port()
    home.mkdir()
    command = [sys.executable, str(YARDSTICKS), kind, str(port), *arguments]
    with started(command, f"http://{HOST}:{port}/docs", home) as (pid, _):
        yield f"http://{HOST}:{port}", pid


def memory_mb(pid: int) -> dict[str, int]:
    """Return what a process and its children hold: shared pages once (pss), and in each (rss)."""
    sums = {"Pss": 0, "Rss": 0}
    for process in tree(pid):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:  # it has ended meanwhile
            continue
        for name in sums:
            found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
            sums[name] += int(found[1]) if found else 0
    return {f"{name.lower()}_mb": round(kilobytes / 1024) for name, kilobytes in sums.items()}


def measure_one_worker(folder: Path, seconds: float) -> dict[str, Any]:
    """Return time to ready (median of some starts) and memory after load, with one worker."""
    ready_s, memory = [], {}
    for number in range(STARTS):
        with service(folder / f"start-{number}", "--workers", "1") as (url, pid, took_s):
            ready_s.append(round(took_s, 2))
            if number == STARTS - 1:
                measure(f"{url}/v1/classify", single_bodies(N_BODIES), 16, seconds)
                measure(f"{url}/v1/classify", batch_bodies(4, BATCH_PAPERS), 2, seconds)
                memory = memory_mb(pid)
    return {"ready_s": statistics.median(ready_s), "ready_s_each": ready_s, **memory}


def measure_curves(folder: Path, levels: list[int], seconds: float) -> dict[str, Any]:
    """Return the curves of single papers, with and without journal, of the echo, and of batches."""
    single, batches = single_bodies(N_BODIES), batch_bodies(N_BATCHES, BATCH_PAPERS)
    curves: dict[str, list[Point]] = {"single": [], "off": [], "echo": [], "batch": []}
    with (
        service(folder / "service") as (url, _, _),
        service(folder / "off", "--journal", "off") as (off, _, _),
        yardstick(folder / "echo", "echo") as (bare, _),
    ):
        classify_url = f"{url}/v1/classify"
        targets = {"single": classify_url, "off": f"{off}/v1/classify", "echo": f"{bare}/echo"}
        for target in targets.values():
            measure(target, single, 16, 1)
        for concurrency in levels:
            for name, target in targets.items():
                curves[name].append(shown(name, measure(target, single, concurrency, seconds)))
        for concurrency in [level for level in levels if level <= 8]:
            point = measure(classify_url, batches, concurrency, seconds)
            curves["batch"].append(shown("batch", point))
        status = httpx.get(f"{url}/v1/status", trust_env=False).json()
    curves["single_without_journal"] = curves.pop("off")
    return {
        "workers": status["workers"],
        "journal": status["journal"],
        "single_bytes": round(statistics.mean(map(len, single))),
        "batch_papers": BATCH_PAPERS,
        **{name: [point.to_dict() for point in points] for name, points in curves.items()},
    }


def shown(name: str, point: Point) -> Point:
    """Print a point while the others are still measured."""
    print(
        f"{name:<6} {point.concurrency:>3} connections  {point.requests_per_s:>8,.0f} requests/s  "
        f"p50 {point.p50_ms:.1f}  p99 {point.p99_ms:.1f} ms",
        file=sys.stderr,
    )
    return point


def headline(curves: dict[str, Any], one_worker: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers to quote, beside the aims."""
    best, best_echo = best_of(curves["single"]), best_of(curves["echo"])
    return {
        "single_requests_per_s": round(best["requests_per_s"]),
        "single_p99_ms": best["p99_ms"],
        "single_concurrency": best["concurrency"],
        "echo_requests_per_s": round(best_echo["requests_per_s"]),
        "echo_p99_ms": best_echo["p99_ms"],
        "share_of_echo": round(best["requests_per_s"] / best_echo["requests_per_s"], 2),
        "share_without_journal": round(
            best_of(curves["single_without_journal"])["requests_per_s"]
            / best_echo["requests_per_s"],
            2,
        ),
        "batch_papers_per_s": round(
            max(p["requests_per_s"] for p in curves["batch"]) * curves["batch_papers"]
        ),
        "ready_s": one_worker["ready_s"],
        "resident_mb_one_worker": one_worker["rss_mb"],
        "refused_or_broken": sum(
            p["refused"] + p["broken"] for p in curves["single"] + curves["batch"]
        ),
    }


def best_of(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the most throughput within the limit of latency, or at all if none is within it."""
    within = [point for point in points if point["p99_ms"] <= P99_LIMIT_MS]
    return max(within or points, key=lambda point: float(point["requests_per_s"]))


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw p50 and p99 against throughput for single papers and the echo."""
    figure, axes = start_plot().subplots(figsize=(7, 4), layout="constrained")
    for name, label, colour in (
        ("single", f"classmark, {result['workers']} workers", "#7a4a21"),
        ("echo", "bare FastAPI echo, 1 worker", "#808080"),
    ):
        rates = [point["requests_per_s"] for point in result[name]]
        for percentile, style in (("p50_ms", "--"), ("p99_ms", "-")):
            latencies = [point[percentile] for point in result[name]]
            text = f"{label}, {percentile[:3]}"
            axes.plot(rates, latencies, style, marker="o", markersize=3, color=colour, label=text)
    axes.axhline(P99_LIMIT_MS, color="#c0c0c0", linewidth=0.8)
    axes.set(xlabel="requests/s", ylabel="latency, ms", yscale="log")
    cores = result["provenance"]["cores"]
    axes.set_title(f"{cores} cores, load generator on the same machine", size=9)
    axes.legend(frameon=False, fontsize=8)
    write_plot(figure, path)


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Return the curves, and start and memory with one worker."""
    with tempfile.TemporaryDirectory() as folder:
        one_worker = measure_one_worker(Path(folder), options.seconds)
        levels = [int(level) for level in options.levels.split(",")]
        curves = measure_curves(Path(folder), levels, options.seconds)
    return {
        "load_generator": f"{generator()}, one thread, on the same machine",
        "invented": True,
        "seconds_each": options.seconds,
        "aims": AIMS,
        "headline": headline(curves, one_worker),
        "one_worker": one_worker,
        **curves,
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--seconds": {"type": float, "default": 5, "help": "for each level of load; 5"},
    "--levels": {"default": "1,2,4,8,16,32,64", "help": "connections"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure_all, FLAGS, tiny={"seconds": 1, "levels": "2"}, plot=plot)
