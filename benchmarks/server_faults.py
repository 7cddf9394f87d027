"""Servers in trouble: workers that are killed or stopped, a header or a body without end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from faults import workers_of
from load import CLIENTS, Connections, Tally, quantiles_ms, request_of, single_bodies
from server_kinds import Running, running
from service import HOST, memory_mb

KILL_EVERY_S = 2.0
STOPPED_S = 40.0
HEADER_BYTES, BODY_BYTES = 64 << 20, 256 << 20


def measure_faults(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Return what one server does under each fault, each on a fresh start of it."""
    requests = [request_of(body) for body in single_bodies(500)]
    with running(name, "", folder) as server:
        kills = asyncio.run(with_faults(server, requests, seconds, signal.SIGKILL))
    with running(name, "", folder) as server:
        stopped = asyncio.run(with_faults(server, requests, STOPPED_S, signal.SIGSTOP))
    stopped["stop_s"] = server.stop_s
    return {
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
    with running(name, "", folder) as server:
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
