"""Requests made of invented papers, and loads made of them: closed loops, open loops, wrk.

``measure`` finds one point of a curve with wrk, or with httpx where there is no wrk. The other
loops keep plain streams with so little work a request that it can be left out of account: a client
library takes as much processor time as a tenth of a deep model's answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from classmark.dataset import SampleConfig, sample_papers

CLIENTS = 8
_LUA = Path(__file__).with_name("cycle.lua")
_RESULT = re.compile(r"^RESULT (\{.*\})$", re.MULTILINE)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_JSON = {"Content-Type": "application/json"}
_TIMEOUT_S = 10


def papers(n: int) -> list[dict[str, Any]]:
    """Return n invented papers as the service takes them."""
    found = sample_papers(SampleConfig(papers=n))
    return [{"id": p.id, "title": p.title, "abstract": p.abstract} for p in found]


def single_bodies(n: int) -> list[str]:
    """Return n bodies of one paper each."""
    return [json.dumps(paper) for paper in papers(n)]


def batch_bodies(n: int, size: int) -> list[str]:
    """Return n bodies of ``size`` papers each, no two alike."""
    everything = papers(n * size)
    return [
        json.dumps({"papers": everything[start : start + size]})
        for start in range(0, n * size, size)
    ]


@dataclass(frozen=True)
class Point:
    """One level of load.

    Attributes:
        concurrency: connections, each with one request at a time.
        requests_per_s: answered.
        p50_ms, p95_ms, p99_ms, max_ms: time to the answer.
        refused: answers with a status of 400 or more.
        broken: connections that failed, and requests that timed out.
    """

    concurrency: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    refused: int
    broken: int

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object, rounded."""
        return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(self).items()}


def generator() -> str:
    """Return what makes the load here."""
    return "wrk" if shutil.which("wrk") else "httpx"


def measure(
    url: str,
    bodies: list[str],
    concurrency: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
) -> Point:
    """Return how an address fares under a level of load.

    Args:
        url: of an endpoint that takes the bodies.
        bodies: sent one after the other, again and again.
        concurrency: connections.
        seconds: how long.
        headers: sent with each, e.g. an API key; other processes do not see them.
    """
    sent = {**_JSON, **(headers or {})}
    if generator() == "wrk":
        return _with_wrk(url, bodies, concurrency, seconds, sent)
    return asyncio.run(_with_httpx(url, bodies, concurrency, seconds, sent))


def _with_wrk(
    url: str, bodies: list[str], concurrency: int, seconds: float, headers: Mapping[str, str]
) -> Point:
    with tempfile.TemporaryDirectory() as folder:  # which only this user may read
        file = Path(folder) / "bodies"
        lines = [*(f"{name}: {value}" for name, value in headers.items()), "", *bodies]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = ["wrk", "--threads", "1", "--connections", str(concurrency)]
        command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{_TIMEOUT_S}s"]
        command += ["--script", str(_LUA), url, "--", str(file)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = _RESULT.search(output)
    if found is None:
        raise RuntimeError(f"wrk said no result: {output}")
    result = json.loads(found[1])
    rate = result.pop("requests") / result.pop("seconds")
    return Point(concurrency=concurrency, requests_per_s=rate, **result)


async def _with_httpx(
    url: str, bodies: list[str], concurrency: int, seconds: float, headers: Mapping[str, str]
) -> Point:
    latencies_ms: list[float] = []
    failures = {"refused": 0, "broken": 0}
    end = time.monotonic() + seconds

    async def connection(client: httpx.AsyncClient, place: int) -> None:
        is_first = True  # each sends one, however busy the machine is
        while is_first or time.monotonic() < end:
            is_first = False
            place = (place + 1) % len(bodies)
            start = time.perf_counter()
            try:
                response = await client.post(url, content=bodies[place], headers=headers)
                failures["refused"] += response.is_error
            except httpx.TransportError:
                failures["broken"] += 1
            latencies_ms.append((time.perf_counter() - start) * 1000)

    start = time.monotonic()
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits, trust_env=False) as client:
        await asyncio.gather(*(connection(client, 97 * i) for i in range(concurrency)))
    cuts = statistics.quantiles(latencies_ms * 2, n=100)  # one answer has no quantiles
    return Point(
        concurrency=concurrency,
        requests_per_s=len(latencies_ms) / (time.monotonic() - start),
        p50_ms=cuts[49],
        p95_ms=cuts[94],
        p99_ms=cuts[98],
        max_ms=max(latencies_ms),
        **failures,
    )


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds; nothing of nothing."""
    if not seconds:
        return {}
    return {f"p{q}": round(float(np.percentile(seconds, q)) * 1000, 2) for q in (50, 95, 99)}


def request_of(text: str, deadline_ms: int | None = None, fields: str = "") -> bytes:
    """Return the bytes of a request to ``/v1/classify``.

    Args:
        text: its body, JSON.
        deadline_ms: asked for, if any.
        fields: further header fields, each with its line end.
    """
    body = text.encode()
    deadline = f"X-Classmark-Deadline-Ms: {deadline_ms}\r\n" if deadline_ms else ""
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"{fields}{deadline}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Tally:
    """What a load saw: seconds of answers and of refusals, and everything else by what it was."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    other: dict[str, int] = field(default_factory=dict)

    def note(self, status: int, seconds: float) -> None:
        """Count a response."""
        if status == 200:
            self.answered_s.append(seconds)
        elif status in (429, 503):
            self.refused_s.append(seconds)
        else:
            self.note_other(str(status))

    def note_other(self, what: str) -> None:
        """Count what was neither an answer nor a refusal."""
        self.other[what] = self.other.get(what, 0) + 1


class Connections:
    """Connections to a server that are kept between requests."""

    def __init__(self, url: str) -> None:
        self._host, port = url.removeprefix("http://").split(":")
        self._port = int(port)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes, tally: Tally) -> None:
        """Send one request, and note what comes of it."""
        started = time.perf_counter()
        try:
            if self._free:
                reader, writer = self._free.pop()
            else:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.note_other(type(error).__name__)
            return
        tally.note(int(head[9:12]), time.perf_counter() - started)
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._free.append((reader, writer))

    def close(self) -> None:
        """Close what is open."""
        for _, writer in self._free:
            writer.close()


async def closed_loop(url: str, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Return the rate that some clients reach which ask again as soon as they are answered."""
    tally, ends = Tally(), time.perf_counter() + seconds
    connections = Connections(url)

    async def client_loop(first: int) -> None:
        place = first
        while time.perf_counter() < ends:
            await connections.ask(requests[place % len(requests)], tally)
            place += CLIENTS

    started = time.perf_counter()
    await asyncio.gather(*(client_loop(i) for i in range(CLIENTS)))
    spent = time.perf_counter() - started
    connections.close()
    return {
        "answered_per_s": round(len(tally.answered_s) / spent, 2),
        "latency_ms": quantiles_ms(tally.answered_s),
        "refused": len(tally.refused_s),
        "other": tally.other,
    }


async def open_loop(
    url: str, requests: Sequence[bytes], rate: float, seconds: float, deadline_ms: int
) -> dict[str, Any]:
    """Return what becomes of requests that come at a rate, whatever the answers.

    Args:
        url: of the service.
        requests: sent one after the other, again and again.
        rate: requests a second.
        seconds: how long.
        deadline_ms: an answer that takes a twentieth longer than this does not count.
    """
    tally, tasks, connections = Tally(), set(), Connections(url)
    n, started = int(rate * seconds), time.perf_counter()
    for i in range(n):
        await asyncio.sleep(max(0.0, started + i / rate - time.perf_counter()))
        task = asyncio.create_task(connections.ask(requests[i % len(requests)], tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    spent = time.perf_counter() - started
    if tasks:
        await asyncio.wait(tasks)
    connections.close()
    in_time = [s for s in tally.answered_s if s * 1000 <= deadline_ms * 1.05]
    return {
        "sent_per_s": round(n / spent, 1),
        "goodput_per_s": round(len(in_time) / spent, 2),
        "answered": len(tally.answered_s),
        "answered_ms": quantiles_ms(tally.answered_s),
        "refused": len(tally.refused_s),
        "refused_ms": quantiles_ms(tally.refused_s),
        "other": tally.other,
    }
