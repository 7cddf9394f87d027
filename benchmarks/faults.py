"""Measures the service in trouble: overload, killed workers, hostile requests.

python benchmarks/faults.py [--output benchmarks/reports/faults.json] [--seconds 8]
    [--kill-seconds 60] [--hostile 100000] [--only overload,kills,hostile]

Everything runs on this machine, the load too. Overload: an open loop at three times the rate that a
closed loop reaches, in batches of 100 papers; goodput is what is answered within the deadline.
Kills: SIGKILL to a worker every two seconds, beside the Python client and beside connections that
never try again. Hostile: see ``hostile.py``; honest clients classify meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from classmark.client import Client, ClientError
from classmark.service.keys import create_key
from load import (
    Connections,
    Tally,
    batch_bodies,
    closed_loop,
    open_loop,
    papers,
    quantiles_ms,
    request_of,
    single_bodies,
)
from report import run_benchmark
from service import memory_mb, service

BATCH_PAPERS, DEADLINES_MS, TIMES, ROUNDS = 100, (300, 1000, 10_000), 3, 3
KILL_EVERY_S, CLIENTS = 2.0, 4
HONEST_EVERY_S, HONEST_CONNECTIONS, LOOK_EVERY_S = 0.02, 4, 0.5
WARM_UP = 100
AIMS = {
    "overload_goodput_share": 0.9,
    "overload_refusal_p50_ms": 5,
    "kills_failed_through_the_client": 0,
    "hostile_honest_slowest_s": 1.0,
}


def measure_overload(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return goodput and refusals at three times the load, for each deadline."""
    bodies, points = batch_bodies(16, BATCH_PAPERS), []
    with service(folder / "overload") as (url, _, _):
        asyncio.run(closed_loop(url, [request_of(body) for body in bodies], 2))
        for deadline_ms in DEADLINES_MS:
            requests = [request_of(body, deadline_ms) for body in bodies]
            rounds = [overload(url, requests, seconds, deadline_ms) for _ in range(ROUNDS)]
            # The round in the middle: what else the machine does changes from second to second.
            middle = sorted(rounds, key=lambda found: float(found["goodput_share"]))[ROUNDS // 2]
            shares = [found["goodput_share"] for found in rounds]
            points.append({"deadline_ms": deadline_ms, "shares": shares, **middle})
            say(f"overload, {deadline_ms} ms: {shares} of the peak, {middle['refused_ms']}")
    return points


def overload(url: str, requests: list[bytes], seconds: float, deadline_ms: int) -> dict[str, Any]:
    """Return what becomes of three times the rate that was reached right before."""
    peak = asyncio.run(closed_loop(url, requests, seconds))
    rate = TIMES * peak["answered_per_s"]
    over = asyncio.run(open_loop(url, requests, rate, seconds, deadline_ms))
    share = over["goodput_per_s"] / max(peak["answered_per_s"], 0.01)
    return {"peak": peak, **over, "goodput_share": round(share, 3)}


class Killer:
    """Kills a worker of a service every two seconds until ``stop`` is called.

    Attributes:
        kills: how many so far.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.kills = 0
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(KILL_EVERY_S):
            workers = workers_of(self._pid)
            if workers:
                os.kill(workers[self.kills % len(workers)], signal.SIGKILL)
                self.kills += 1

    def stop(self) -> int:
        """Stop, and return the number of kills."""
        self._stop.set()
        self._thread.join()
        return self.kills


def measure_kills(folder: Path, seconds: float) -> dict[str, Any]:
    """Return what failed while workers were killed: through the client, and on raw connections."""
    with service(folder / "kills") as (url, pid, _):
        killer = Killer(pid)
        through_client = classify_for(url, seconds)
        kills = killer.stop()
    with service(folder / "kills-raw") as (url, pid, _):
        killer = Killer(pid)
        requests = [request_of(body) for body in single_bodies(300)]
        raw = asyncio.run(closed_loop(url, requests, seconds))
        raw_kills = killer.stop()
    say(f"kills: {through_client['failed']} of {through_client['answered']} failed")
    return {
        "every_s": KILL_EVERY_S,
        "client": {"kills": kills, **through_client},
        "raw": {
            **{"kills": raw_kills, "seconds": seconds, "failed": sum(raw["other"].values())},
            **raw,
        },
    }


def classify_for(url: str, seconds: float) -> dict[str, Any]:
    """Return how threads fare that share a client of classmark."""
    ends, everything = time.monotonic() + seconds, papers(100)
    seen: Counter[str] = Counter()
    took_s: list[float] = []

    def run() -> None:
        place = 0
        while time.monotonic() < ends:
            started = time.monotonic()
            try:
                client.classify(everything[place % len(everything)])
                seen["answered"] += 1
            except ClientError as error:
                seen[type(error).__name__] += 1
            took_s.append(time.monotonic() - started)
            place += 1

    with Client(url) as client:
        threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    answered = seen.pop("answered", 0)
    return {
        "answered": answered,
        "failed": sum(seen.values()),
        "errors": dict(seen),
        "answered_ms": quantiles_ms(took_s),
        "slowest_s": round(max(took_s), 3),
    }


def measure_hostile(folder: Path, n: int) -> dict[str, Any]:
    """Return how honest clients fare beside hostile ones, with API keys and without."""
    keys = folder / "keys.json"
    _, key = create_key(keys, "benchmark", ["classify", "feedback", "admin"])
    rounds = {}
    for name, options, sent in (("with keys", ["--api-keys", str(keys)], key), ("open", [], None)):
        with service(folder / name.replace(" ", "-"), *options) as (url, pid, _):
            rounds[name] = asyncio.run(beside_hostile(url, pid, n // 2, sent))
        say(f"hostile, {name}: slowest honest request {rounds[name]['honest']['slowest_s']} s")
    return rounds


async def beside_hostile(url: str, pid: int, n: int, key: str | None) -> dict[str, Any]:
    """Return what honest clients saw, the memory of the service, and the answers by kind."""
    # Once through every kind first: what is started on demand, such as readers of files, stays.
    await attacked(url, max(WARM_UP, n // 50), key)
    before = workers_of(pid)
    fields = f"X-API-Key: {key}\r\n" if key else ""
    requests = [request_of(body, fields=fields) for body in single_bodies(200)]
    tally, memory = Tally(), [memory_mb(pid)]
    over = asyncio.Event()
    connections = Connections(url)

    async def honest() -> None:
        place = 0
        while not over.is_set():
            await connections.ask(requests[place % len(requests)], tally)
            place += 1
            await asyncio.sleep(HONEST_EVERY_S)

    async def look() -> None:
        while not over.is_set():
            await asyncio.sleep(LOOK_EVERY_S)
            memory.append(await asyncio.to_thread(memory_mb, pid))

    tasks = [asyncio.create_task(honest()) for _ in range(HONEST_CONNECTIONS)]
    tasks.append(asyncio.create_task(look()))
    started = time.monotonic()
    answers = await attacked(url, n, key)
    seconds = time.monotonic() - started
    over.set()
    await asyncio.gather(*tasks)
    connections.close()
    return {
        "hostile": n,
        "seconds": round(seconds, 1),
        "honest": {
            "answered": len(tally.answered_s),
            "refused": len(tally.refused_s),
            "other": tally.other,
            "answered_ms": quantiles_ms(tally.answered_s),
            "slowest_s": round(max(tally.answered_s, default=0.0), 3),
        },
        "memory_mb": {
            "before": memory[0]["pss_mb"],
            "most": max(look["pss_mb"] for look in memory),
            "after": memory[-1]["pss_mb"],
            "every_tenth": [look["pss_mb"] for look in memory[:: max(1, len(memory) // 10)]],
        },
        "workers_lost": len(set(before) - set(workers_of(pid))),
        "answers": answers,
    }


async def attacked(url: str, n: int, key: str | None) -> dict[str, dict[str, int]]:
    """Send n hostile requests from a process of their own; return the answers by kind."""
    command = [sys.executable, str(Path(__file__).with_name("hostile.py")), url, str(n)]
    command += ["--key", key] if key else []
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    answers: dict[str, dict[str, int]] = json.loads(output)
    return answers


def workers_of(pid: int) -> list[int]:
    """Return the process ids of the workers of a service."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def headline(result: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers to quote, beside the aims."""
    found: dict[str, Any] = {}
    if points := result.get("overload"):
        found["overload_goodput_share"] = min(point["goodput_share"] for point in points)
        found["overload_refusal_p50_ms"] = max(p["refused_ms"].get("p50", 0) for p in points)
    if kills := result.get("kills"):
        found["kills"] = kills["client"]["kills"]
        found["kills_failed_through_the_client"] = kills["client"]["failed"]
        found["kills_failed_raw"] = kills["raw"]["failed"]
    if rounds := result.get("hostile"):
        found["hostile_requests"] = sum(r["hostile"] for r in rounds.values())
        found["hostile_honest_slowest_s"] = max(r["honest"]["slowest_s"] for r in rounds.values())
        found["hostile_memory_growth_mb"] = max(
            r["memory_mb"]["most"] - r["memory_mb"]["before"] for r in rounds.values()
        )
    return found


def say(line: str) -> None:
    """Print progress."""
    print(line, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parts that were asked for, beside those that the report has from before."""
    wanted = options.only.split(",")
    result: dict[str, Any] = {}
    if options.output and options.output.exists():
        result = json.loads(options.output.read_text())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    dates = {**result.get("dates", {}), **dict.fromkeys(wanted, now)}
    result |= {"dates": dates, "invented": True, "aims": AIMS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "overload" in wanted:
            result["overload"] = measure_overload(folder, options.seconds)
        if "kills" in wanted:
            result["kills"] = measure_kills(folder, options.kill_seconds)
        if "hostile" in wanted:
            result["hostile"] = measure_hostile(folder, options.hostile)
    return {**result, "headline": headline(result)}


FLAGS: dict[str, dict[str, Any]] = {
    "--seconds": {"type": float, "default": 8, "help": "of each load; 8"},
    "--kill-seconds": {"type": float, "default": 60, "help": "of kills; 60"},
    "--hostile": {"type": int, "default": 100_000, "help": "requests; 100,000"},
    "--only": {"default": "overload,kills,hostile", "help": "parts; others in --output stay"},
}

if __name__ == "__main__":
    tiny = {"seconds": 0.3, "kill_seconds": 3, "hostile": 400}
    run_benchmark(__doc__, measure, FLAGS, tiny=tiny)
