"""Measures a service in a storm: replacements, canaries, kills and bad changes under load.

python benchmarks/storm.py [--output benchmarks/reports/storm.json] [--plot docs/images/storm.svg]
    [--requests 1000000] [--minutes 15] [--rate 1300]

Processes of load (``storm_load.py``) classify through ``classmark.client`` and on raw connections
that never try again, each with API keys of its own, because a canary takes its share by key. In
the meantime the champion changes ten times, two canaries end by their rules, a candidate is
corrupt, a change finds no room for its files (RLIMIT_FSIZE), and workers are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from classmark.registry import Registry
from classmark.runtime import Classifier
from classmark.service.keys import create_key
from faults import say, workers_of
from load import quantiles_ms
from report import run_benchmark
from service import memory_mb, service
from storm_load import SLICE_S, published
from storm_plot import plot
from versions import WHO, Versions

PROCESSES, KEYS, CLIENT_SHARE = 2, 16, 0.15
SWAPS, KILLS, AROUND_S, PATIENCE_S, LOOK_EVERY_S = 10, 6, 1.0, 200, 1.0
LINES = 200  # of the series in the report
# Versions of other temperatures rank alike, but do not abstain alike.
RULES = {"requests": 300, "minutes": 0.02, "agreement": 0.6, "p99_ratio": None, "abstention": None}
AIMS = {"failed_through_the_client": 0, "wrong_answers": 0, "swap_s": 2, "growth_mb": 20}


class Loads:
    """Processes that make the load, and what they said so far.

    Attributes:
        lines: one for each slice of each process.
    """

    def __init__(self, folder: Path, url: str, keys: list[str], rate: float) -> None:
        self.lines: list[dict[str, Any]] = []
        self._until = folder / "over"
        self._outputs = [folder / f"load-{n}.json" for n in range(PROCESSES)]
        script = str(Path(__file__).with_name("storm_load.py"))
        self._processes = []
        for n, output in enumerate(self._outputs):
            own_keys = folder / f"keys-{n}.json"
            own_keys.write_text(json.dumps(keys[n::PROCESSES]))
            words = ["--url", url, "--keys", own_keys, "--output", output, "--until", self._until]
            words += ["--rate", rate / PROCESSES, "--client-share", CLIENT_SHARE, "--seed", n]
            command = [sys.executable, script, *map(str, words)]
            self._processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self._readers = [threading.Thread(target=self._read, args=(p,)) for p in self._processes]
        for reader in self._readers:
            reader.start()

    @property
    def done(self) -> int:
        """Return how many requests were answered so far."""
        return sum(len(line["client_s"]) + len(line["raw_s"]) for line in list(self.lines))

    def end(self) -> list[dict[str, Any]]:
        """Stop; return what the clients of each process saw."""
        self._until.touch()
        for process, reader in zip(self._processes, self._readers, strict=True):
            if process.wait(PATIENCE_S):
                sys.exit(f"a process of the load ended with status {process.returncode}.")
            reader.join()
        return [json.loads(output.read_text()) for output in self._outputs]

    def _read(self, process: Any) -> None:
        for line in process.stdout:
            self.lines.append(json.loads(line))


class Storm:
    """What happens to the service and its registry, and when.

    Attributes:
        events: each with its name, when it began and ended, and what it took.
        memory: (time, MB of all processes) once a second.
    """

    def __init__(self, versions: Versions, url: str, pid: int, key: str) -> None:
        self.versions, self.pid = versions, pid
        self.events: list[dict[str, Any]] = []
        self.memory: list[tuple[float, int]] = []
        self.swaps = [versions.add(f"7.{i}") for i in range(4)]
        self.promoted, self.corrupt = versions.add("8.0"), versions.add("9.1")
        self.turned = versions.add_turned("9.0")
        self._admin = httpx.Client(
            base_url=url, headers={"X-API-Key": key}, trust_env=False, timeout=PATIENCE_S
        )
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)

    def begin(self) -> None:
        """Begin to look at the memory."""
        self._looking.start()

    def end(self) -> None:
        """Stop looking."""
        self._over.set()
        self._looking.join()
        self._admin.close()

    def schedule(self) -> list[Callable[[], None]]:
        """Return what is to happen, in order."""
        steps: list[Callable[[], None]] = []
        for i in range(SWAPS):
            digest = self.swaps[(i + 1) % len(self.swaps)]
            steps.append(lambda digest=digest: self.swap(digest))  # type: ignore[misc]
        for place in range(KILLS - 2, 0, -1):
            steps.insert(2 * place, self.kill)
        steps.insert(5, self.no_room)
        steps.insert(9, self.corrupt_candidate)
        steps += [self.kill, self.rolled_back, self.kill, self.promote_by_rules]
        return steps

    def swap(self, digest: str) -> None:
        """Promote a bundle, and wait for the last worker."""
        self._note("swap", lambda: self._followed(self.versions.promote(digest)))

    def kill(self) -> None:
        """Kill a worker with SIGKILL, and wait for the next."""

        def kill() -> None:
            os.kill(workers_of(self.pid)[0], signal.SIGKILL)
            time.sleep(0.1)
            until(lambda: self._metric("classmark_workers") == 2)

        self._note("kill", kill)

    def no_room(self) -> None:
        """Let a promotion find no room for its files; it is refused, and nothing changes."""
        before = self.versions.registry.pointer()
        other = next(d for d in self.swaps if d != before.channels.champion)

        def change() -> None:
            words = ["registry", "promote", other, "--force", "--why", "storm"]
            words += ["--registry", str(self.versions.path)]
            done = subprocess.run(
                [sys.executable, "-m", "classmark", *words],
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 1 or "cannot write" not in done.stderr:
                sys.exit(f"a change without room ended with {done.returncode}: {done.stderr}")

        self._note("no room", change)
        if Registry.open(self.versions.path).pointer() != before:
            sys.exit("a change without room changed the pointer.")

    def corrupt_candidate(self) -> None:
        """Spoil the candidate of a canary on the disk, then end the canary."""

        def spoil() -> None:
            self.versions.keep_report(self.corrupt)
            spoiled = next((self.versions.folder(self.corrupt) / "arrays").iterdir())
            content = spoiled.read_bytes()
            self.versions.canary(self.corrupt, 50)
            spoiled.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            time.sleep(2)
            self._followed(self.versions.registry.rollback(who=WHO).sequence)

        self._note("corrupt", spoil)

    def rolled_back(self) -> None:
        """Begin a canary of a model that answers otherwise; the rules must roll it back."""
        self._canary("canary rolled back", self.turned, "agreement is out of bounds")

    def promote_by_rules(self) -> None:
        """Begin a canary of an equal model; the rules must promote it."""
        self._canary("canary promoted", self.promoted, "all rules hold")

    def _canary(self, name: str, digest: str, why: str) -> None:
        def run() -> None:
            self.versions.canary(digest, 60, rules=RULES)
            until(lambda: self.versions.registry.pointer().canary is None)
            pointer = self.versions.registry.pointer()
            if pointer.last_event.why != why:
                sys.exit(f"{name}: the canary ended because {pointer.last_event.why}, not {why}.")
            self._followed(pointer.sequence)

        self._note(name, run)

    def _note(self, name: str, action: Callable[[], None]) -> None:
        began = time.time()
        action()
        ended = time.time()
        event = {"name": name, "began": began, "ended": ended}
        self.events.append({**event, "took_s": round(ended - began, 3)})
        say(f"{name:<20} {ended - began:.2f} s")

    def _followed(self, sequence: int) -> None:
        until(lambda: self._metric("classmark_registry_sequence") == sequence)

    def _metric(self, name: str) -> float:
        try:
            lines = self._admin.get("/metrics").text.splitlines()
        except httpx.TransportError:  # its worker was killed
            return -1.0
        return next((float(x.split()[1]) for x in lines if x.startswith(f"{name} ")), 0.0)

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self.memory.append((time.time(), memory_mb(self.pid)["pss_mb"]))


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; end the benchmark if it takes too long."""
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > ends:
            sys.exit("what the storm waits for did not happen.")
        time.sleep(0.01)


def wrong_answers(versions: Versions, seen: list[dict[str, Any]]) -> list[str]:
    """Return the sampled texts that were not answered as their version does offline."""
    offline: dict[str, Classifier] = {}
    wrong = []
    for sampled in (one for part in seen for one in part["sample"]):
        digest = sampled["answer"]["model"]["digest"]
        if digest not in offline:
            offline[digest] = Classifier(versions.folders[digest])
        expected = json.dumps(published(offline[digest].classify(sampled["text"])))
        if json.dumps(sampled["answer"]) != expected:
            wrong.append(sampled["text"])
    return wrong


def near(events: list[dict[str, Any]], at: float, names: tuple[str, ...] = ()) -> bool:
    """Tell whether a slice that ended then overlaps an event, or what comes right after it."""
    return any(
        event["began"] < at and at - SLICE_S < event["ended"] + AROUND_S
        for event in events
        if not names or event["name"] in names
    )


def latencies(lines: list[dict[str, Any]], events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the quantiles of all requests in quiet times and around the events of each name."""
    found: dict[str, Any] = {}
    names = dict.fromkeys(event["name"] for event in events)
    groups = {"quiet": [x for x in lines if not near(events, x["at"])]}
    groups |= {name: [x for x in lines if near(events, x["at"], (name,))] for name in names}
    for name, group in groups.items():
        for kind in ("raw", "client"):
            took_s = [s for line in group for s in line[f"{kind}_s"]]
            found.setdefault(name, {})[kind] = {"n": len(took_s), **quantiles_ms(took_s)}
    return found


def series(lines: list[dict[str, Any]], start: float, seconds: float) -> list[list[float]]:
    """Return (seconds, requests/s, p99 in ms) of equal parts of the time."""
    part_s = max(1.0, seconds / LINES)
    parts: dict[int, list[float]] = {}
    for line in lines:
        took_s = parts.setdefault(int((line["at"] - start) / part_s), [])
        took_s += line["raw_s"] + line["client_s"]
    return [
        [round(n * part_s, 1), round(len(took_s) / part_s, 1), quantiles_ms(took_s)["p99"]]
        for n, took_s in sorted(parts.items())
        if took_s
    ]


def run_storm(storm: Storm, loads: Loads, options: argparse.Namespace) -> None:
    """Let everything happen, evenly over the time, then wait for the last requests."""
    until(lambda: loads.done > options.requests / 50)  # every process has begun
    start, seconds = time.monotonic(), options.minutes * 60
    steps = storm.schedule()
    for n, step in enumerate(steps, start=1):
        time.sleep(max(0.0, start + n * seconds / (len(steps) + 1) - time.monotonic()))
        step()
    while time.monotonic() < start + seconds or loads.done < options.requests:
        time.sleep(SLICE_S)


def summary(storm: Storm, loads: Loads, seen: list[dict[str, Any]], start: float) -> dict[str, Any]:
    """Return what was measured."""
    lines, seconds = loads.lines, time.time() - start
    failed, digests, raw_other = Counter[str](), Counter[str](), Counter[str]()
    for part in seen:
        failed.update(part["failed"])
        digests.update(part["digests"])
    for line in lines:
        raw_other.update(line["raw_other"])
    return {
        "seconds": round(seconds, 1),
        "client": {"answered": sum(digests.values()), "failed": dict(failed)},
        "raw": {
            "answered": sum(len(line["raw_s"]) for line in lines),
            "refused": sum(line["raw_refused"] for line in lines),
            "failed": dict(raw_other),
        },
        "versions_seen": len(digests),
        "sampled": sum(len(part["sample"]) for part in seen),
        "wrong": wrong_answers(storm.versions, seen),
        "findings_in_the_registry": [f.file for f in storm.versions.registry.verify()],
        "latency_ms": latencies(lines, storm.events),
        "events": [
            {**e, "began": round(e["began"] - start, 2), "ended": round(e["ended"] - start, 2)}
            for e in storm.events
        ],
        "memory_mb": [[round(at - start, 1), mb] for at, mb in storm.memory],
        "series": series(lines, start, seconds),
    }


def headline(result: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers to quote, beside the aims."""
    swaps = [event["took_s"] for event in result["events"] if event["name"] == "swap"]
    memory = [mb for _, mb in result["memory_mb"]]
    tenth = max(1, len(memory) // 10)
    # The first tenth is before most models were loaded; from then on it has to stay.
    growth = statistics.median(memory[-tenth:]) - statistics.median(memory[tenth : 3 * tenth])
    raw, client, ms = result["raw"], result["client"], result["latency_ms"]
    return {
        "requests": raw["answered"] + client["answered"],
        "minutes": round(result["seconds"] / 60, 1),
        "failed_through_the_client": sum(client["failed"].values()),
        "failed_raw": sum(raw["failed"].values()) + raw["refused"],
        "wrong_answers": len(result["wrong"]),
        "swap_s": max(swaps),
        "swap_median_s": round(statistics.median(swaps), 3),
        "growth_mb": round(growth, 1),
        "p99_quiet_ms": ms["quiet"]["raw"].get("p99"),
        "p99_swap_ms": ms["swap"]["raw"].get("p99"),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what a storm did."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        versions, keys = Versions(folder), folder / "keys.json"
        versions.promote(versions.add("6.0"))
        texts = [create_key(keys, f"c{n}", ("classify", "admin"))[1] for n in range(KEYS)]
        words = ["--workers", "2", "--registry", str(versions.path), "--api-keys", str(keys)]
        words += ["--no-access-log", "--journal", "off"]
        with service(folder / "home", *words) as (url, pid, _):
            storm, start = Storm(versions, url, pid, texts[0]), time.time()
            loads = Loads(folder, url, texts, options.rate)
            storm.begin()
            try:
                run_storm(storm, loads, options)
            finally:
                seen = loads.end()
                storm.end()
        result = {"invented": True, "aims": AIMS, "rate": options.rate, "rules": RULES}
        result |= {"client_share": CLIENT_SHARE, **summary(storm, loads, seen, start)}
    return {**result, "headline": headline(result)}


FLAGS: dict[str, dict[str, Any]] = {
    "--requests": {"type": int, "default": 1_000_000, "help": "at least; 1,000,000"},
    "--minutes": {"type": float, "default": 15, "help": "at least; 15"},
    "--rate": {"type": float, "default": 1300, "help": "requests a second to aim at; 1,300"},
}

if __name__ == "__main__":
    tiny = {"requests": 2000, "minutes": 0.2, "rate": 200}
    run_benchmark(__doc__, measure, FLAGS, tiny=tiny, plot=plot)
