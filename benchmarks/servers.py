"""Other servers under the same loads and faults: what our process tree and our layers are for.

python benchmarks/servers.py [--output benchmarks/reports/servers.json]   (needs the group `bench`)

All have two workers and the shipped model on this machine. Beside ``classmark serve`` stand the
least application (``plain_app.py``: Starlette alone) on uvicorn and on granian.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import workers_of
from load import (
    Connections,
    Tally,
    batch_bodies,
    measure,
    quantiles_ms,
    request_of,
    single_bodies,
)
from report import run_benchmark
from service import HOST, answers, free_port, memory_mb

WORKERS = 2
CONNECTIONS = (1, 8, 32)
CLIENTS = 8
KILL_EVERY_S = 2.0
STOPPED_S = 40.0
PATIENCE_S = 15
HEADER_BYTES, BODY_BYTES = 64 << 20, 256 << 20
_PLAIN = ["plain_app:app", "--host", HOST, "--workers", str(WORKERS)]
SERVERS = {
    "classmark": ["-m", "classmark", "serve", "--host", HOST, "--workers", str(WORKERS)],
    "uvicorn": ["-m", "uvicorn", *_PLAIN, "--log-level", "error"],
    "granian": ["-m", "granian", *_PLAIN, "--interface", "asgi", "--respawn-failed-workers"],
}


@dataclass
class Running:
    """A server that runs.

    Attributes:
        url: its address.
        pid: of the process that was started.
        stop_s: seconds from SIGTERM to its end, once it has ended; None if it had to be killed.
    """

    url: str
    pid: int
    stop_s: float | None = None


@contextmanager
def running(name: str, folder: Path) -> Iterator[Running]:
    """Start a server for the block; stop it with SIGTERM, and all of it with SIGKILL after that."""
    port = free_port()
    server = Running(f"http://{HOST}:{port}", 0)
    command = [sys.executable, *SERVERS[name], "--port", str(port)]
    environment = {**os.environ, "CLASSMARK_HOME": str(folder), "CLASSMARK_SERVE_DRAIN_S": "0.1"}
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    server.pid = process.pid
    try:
        while not answers(f"{server.url}/readyz"):
            if process.poll() is not None:
                sys.exit(f"{name} did not start: {(folder / f'{name}.log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield server
    finally:
        asked = time.monotonic()
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
            server.stop_s = round(time.monotonic() - asked, 2)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure_server(name: str, folder: Path, seconds: float, fault_seconds: float) -> dict[str, Any]:
    """Return what one server does under loads and faults, each on a fresh start of it."""
    singles, batches = single_bodies(500), batch_bodies(8, 200)
    with running(name, folder) as server:
        address = f"{server.url}/v1/classify"
        measure(address, singles, 8, 2)
        points = [measure(address, singles, n, seconds).to_dict() for n in CONNECTIONS]
        batch = measure(address, batches, WORKERS, seconds).to_dict()
    requests = [request_of(body) for body in singles]
    with running(name, folder) as server:
        kills = asyncio.run(with_faults(server, requests, fault_seconds, signal.SIGKILL))
    with running(name, folder) as server:
        stopped = asyncio.run(with_faults(server, requests, STOPPED_S, signal.SIGSTOP))
    stopped["stop_s"] = server.stop_s
    return {
        "single": points,
        "batch_papers_per_s": round(batch["requests_per_s"] * 200),
        "kills": kills,
        "stopped": stopped,
        "long_header": endless(name, folder, b"X-Filler: ", HEADER_BYTES),
        "large_body": endless(name, folder, b"", BODY_BYTES),
    }


async def with_faults(
    server: Running, requests: list[bytes], seconds: float, fault: signal.Signals
) -> dict[str, Any]:
    """Return how a load fares while workers are killed in turn, or while one of them is stopped."""
    tally, ends = Tally(), time.monotonic() + seconds
    connections = Connections(server.url)
    unanswered = 0

    async def ask(place: int) -> None:
        nonlocal unanswered
        while time.monotonic() < ends:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + 10):
                    await connections.ask(requests[place % len(requests)], tally)
            except TimeoutError:
                unanswered += 1
            place += CLIENTS

    async def hurt() -> None:
        place = 0
        while time.monotonic() < ends - KILL_EVERY_S:
            await asyncio.sleep(KILL_EVERY_S)
            if workers := answering_children(server.pid):
                os.kill(workers[place % len(workers)], fault)
                place += 1
            if fault == signal.SIGSTOP:
                return

    await asyncio.gather(hurt(), *(ask(i) for i in range(CLIENTS)))
    connections.close()
    return {
        "seconds": seconds,
        "answered_per_s": round(len(tally.answered_s) / seconds, 1),
        "latency_ms": quantiles_ms(tally.answered_s),
        "failed": sum(tally.other.values()),
        "unanswered_after_10_s": unanswered,
        "other": tally.other,
    }


def answering_children(pid: int) -> list[int]:
    """Return the workers of a server, without helpers that Python starts beside them."""
    found = []
    for child in workers_of(pid):
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"resource_tracker" not in command:
            found.append(child)
    return found


def endless(name: str, folder: Path, field: bytes, n_bytes: int) -> dict[str, Any]:
    """Return the answer to so many bytes in one header field or body, and the memory they took."""
    with running(name, folder) as server:
        before = memory_mb(server.pid)["pss_mb"]
        head = (
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        head += field if field else b"Content-Length: %d\r\n\r\n" % n_bytes
        port = int(server.url.rpartition(":")[2])
        start = time.monotonic()
        with socket.create_connection((HOST, port), timeout=30) as connection:
            status, sent = _send(connection, head, n_bytes)
        return {
            "bytes": n_bytes,
            "sent_before_the_answer": sent,
            "answer": status,
            "seconds": round(time.monotonic() - start, 2),
            "memory_growth_mb": memory_mb(server.pid)["pss_mb"] - before,
        }


def _send(connection: socket.socket, head: bytes, n_bytes: int) -> tuple[str, int]:
    sent, block = 0, b"x" * (1 << 20)
    try:
        connection.sendall(head)
        while sent < n_bytes:
            connection.sendall(block)
            sent += len(block)
        if not head.endswith(b"\r\n\r\n"):
            connection.sendall(b"\r\nContent-Length: 0\r\n\r\n")
    except OSError:
        pass
    try:
        answer = connection.recv(4096)
    except OSError as error:
        return type(error).__name__, sent
    return (answer.split(b"\r\n")[0].decode("latin-1") or "closed"), sent


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Return what each server does."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for server in options.only.split(","):
            print(f"measuring {server} ...", file=sys.stderr, flush=True)
            found[server] = measure_server(
                server, Path(name), options.seconds, options.fault_seconds
            )
    return {"invented": True, "workers": WORKERS, "servers": found}


FLAGS: dict[str, dict[str, Any]] = {
    "--seconds": {"type": float, "default": 6, "help": "of each load; 6"},
    "--fault-seconds": {"type": float, "default": 30, "help": "of killing workers; 30"},
    "--only": {"default": ",".join(SERVERS), "help": "servers to measure"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure_all, FLAGS, tiny={"seconds": 1, "fault_seconds": 3})
