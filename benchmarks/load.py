"""Load on one address: wrk if it is there, else httpx; a closed loop of so many connections."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

_LUA = Path(__file__).with_name("cycle.lua")
_RESULT = re.compile(r"^RESULT (\{.*\})$", re.MULTILINE)
_TIMEOUT_S = 10


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


def measure(url: str, bodies: list[str], concurrency: int, seconds: float) -> Point:
    """Return how an address fares under a level of load.

    Args:
        url: on this machine.
        bodies: sent one after the other, again and again.
        concurrency: connections.
        seconds: how long.
    """
    if generator() == "wrk":
        return _with_wrk(url, bodies, concurrency, seconds)
    return asyncio.run(_with_httpx(url, bodies, concurrency, seconds))


def _with_wrk(url: str, bodies: list[str], concurrency: int, seconds: float) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bodies"
        file.write_text("\n".join(bodies) + "\n", encoding="utf-8")
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


async def _with_httpx(url: str, bodies: list[str], concurrency: int, seconds: float) -> Point:
    latencies_ms: list[float] = []
    failures = {"refused": 0, "broken": 0}
    end = time.monotonic() + seconds

    async def connection(client: httpx.AsyncClient, place: int) -> None:
        while time.monotonic() < end:
            place = (place + 1) % len(bodies)
            start = time.perf_counter()
            try:
                response = await client.post(url, content=bodies[place], headers=_JSON)
                failures["refused"] += response.is_error
            except httpx.TransportError:
                failures["broken"] += 1
            latencies_ms.append((time.perf_counter() - start) * 1000)

    start = time.monotonic()
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits, trust_env=False) as client:
        await asyncio.gather(*(connection(client, 97 * i) for i in range(concurrency)))
    cuts = statistics.quantiles(latencies_ms, n=100)
    return Point(
        concurrency=concurrency,
        requests_per_s=len(latencies_ms) / (time.monotonic() - start),
        p50_ms=cuts[49],
        p95_ms=cuts[94],
        p99_ms=cuts[98],
        max_ms=max(latencies_ms),
        **failures,
    )


_JSON = {"Content-Type": "application/json"}
