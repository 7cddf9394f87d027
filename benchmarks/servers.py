"""Other servers under the same loads and faults: what our process tree and our layers are for.

python benchmarks/servers.py [--output benchmarks/reports/servers.json] [--models fast,deep=BUNDLE]
    [--parts loads,faults] [--only NAME,NAME] [--plot docs/images/servers.svg]

Needs the group `bench`. All have two workers, the same model and this machine. Beside `classmark
serve` stand the least application (`plain_app.py`: Starlette alone) on uvicorn and on granian, our
bento on BentoML, and LitServe, the last two with batches and without. Loads: a curve of single
papers, batches of 100, and an open loop at three times the rate that a closed loop reached; goodput
is what is answered within a second. All servers
take their turn in each round; of each number the best round counts, because other work on the
machine only ever takes time away.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults import overload
from load import batch_bodies, measure, request_of, single_bodies
from report import run_benchmark, start_plot, write_plot
from server_faults import measure_faults
from server_kinds import DEADLINE_S, SERVERS, WORKERS, prepared, running
from service import memory_mb
from watch import tree

LEVELS = (1, 4, 8, 16, 32)
P99_LIMIT_MS = 50
BATCH_PAPERS = 100


def measure_loads(name: str, model: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Return what one server does under loads, and what its start and its memory are.

    Args:
        name: of the server.
        model: a path, or "" for the packaged one.
        folder: that was prepared.
        seconds: of each load.
    """
    singles = single_bodies(500)
    # Of an encoder a batch of 100 papers takes longer than the deadline.
    crowd = singles if model else batch_bodies(16, BATCH_PAPERS)
    with running(name, model, folder) as server:
        address = f"{server.url}/v1/classify"
        measure(address, singles, 8, 3)
        points = []
        for level in LEVELS:
            before = cpu_s(server.pid)
            point = measure(address, singles, level, seconds).to_dict()
            spent = 1000 * (cpu_s(server.pid) - before)
            n = max(1.0, point["requests_per_s"] * max(1, round(seconds)))
            points.append({**point, "cpu_ms_per_request": round(spent / n, 3)})
        requests = [request_of(body, 1000 * DEADLINE_S) for body in crowd]
        over = overload(server.url, requests, seconds, 1000 * DEADLINE_S)
        memory = memory_mb(server.pid)
    return {
        "ready_s": server.ready_s,
        **memory,
        "single": points,
        "overload": {"papers_per_request": 1 if model else BATCH_PAPERS, **over},
    }


def best_of(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the best of what some rounds measured of one server.

    Of the overload it is the round with the highest peak, as a whole.
    """
    points = []
    for level in zip(*(found["single"] for found in rounds), strict=True):
        fastest = max(level, key=lambda point: float(point["requests_per_s"]))
        least_cpu_ms = min(point["cpu_ms_per_request"] for point in level)
        points.append({**fastest, "cpu_ms_per_request": least_cpu_ms})
    return {
        "ready_s": min(found["ready_s"] for found in rounds),
        "ready_s_each": [found["ready_s"] for found in rounds],
        **{key: rounds[-1][key] for key in ("pss_mb", "rss_mb")},
        "single": points,
        "best": best_within(points),
        "overload": max(
            (found["overload"] for found in rounds),
            key=lambda over: float(over["peak"]["answered_per_s"]),
        ),
    }


def best_within(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the point of most throughput whose p99 is within the limit, None if there is none."""
    within = [p for p in points if p["p99_ms"] <= P99_LIMIT_MS and not p["refused"] + p["broken"]]
    return max(within, key=lambda point: float(point["requests_per_s"]), default=None)


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and all below it, user and system."""
    ticks = 0
    for process in tree(pid):
        with suppress(OSError):  # it has ended meanwhile
            ticks += sum(map(int, Path(f"/proc/{process}/stat").read_text().split()[13:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parts that were asked for, beside those that the report has from before."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    names = options.only.split(";")
    result: dict[str, Any] = {"servers": {}, "loads": {}, "dates": {}}
    if options.output and options.output.exists():
        result |= json.loads(options.output.read_text(encoding="utf-8"))
    result |= {"invented": True, "workers": WORKERS, "p99_limit_ms": P99_LIMIT_MS}
    parts = options.parts.split(",")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    result["dates"] |= dict.fromkeys(parts, now)
    if "loads" in parts:
        for model, _, path in (given.partition("=") for given in options.models.split(",")):
            found = loads_in_rounds(names, path and str(Path(path).resolve()), options)
            result["loads"][model] = {**result["loads"].get(model, {}), **found}
    if "faults" in parts:
        with prepared(names, "") as folder:
            for name in names:
                print(f"faults of {name} ...", file=sys.stderr, flush=True)
                found = measure_faults(name, folder, options.fault_seconds)
                result["servers"].setdefault(name, {}).update(found)
    return result


def loads_in_rounds(names: list[str], model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the best of some rounds of each server under loads."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with prepared(names, model) as folder:
        for number in range(options.rounds):
            for name, found in rounds.items():
                load = os.getloadavg()[0]
                print(f"round {number + 1}, {name}, load {load:.0f}", file=sys.stderr, flush=True)
                found.append(measure_loads(name, model, folder, options.seconds))
    return {name: best_of(found) for name, found in rounds.items()}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw p99 over throughput of each server, a panel for each model."""
    loads = result["loads"]
    figure, panels = start_plot().subplots(
        1, len(loads), figsize=(5 * len(loads), 4), layout="constrained", squeeze=False
    )
    for axes, (model, servers) in zip(panels[0], loads.items(), strict=True):
        for place, (name, found) in enumerate(servers.items()):
            rates = [point["requests_per_s"] for point in found["single"]]
            p99 = [point["p99_ms"] for point in found["single"]]
            style = "--" if name.endswith("no batches") else "-"
            axes.plot(rates, p99, style, marker="o", markersize=3, color=f"C{place}", label=name)
        axes.axhline(result["p99_limit_ms"], color="#c0c0c0", linewidth=0.8)
        axes.set(xlabel="single papers/s", ylabel="p99, ms", xscale="log", yscale="log")
        axes.set_title(f"{model} model, {result['workers']} workers", size=9)
        axes.legend(frameon=False, fontsize=7)
    write_plot(figure, path)


FLAGS: dict[str, dict[str, Any]] = {
    "--models": {"default": "fast", "help": "fast (the packaged one), deep=BUNDLE, of the loads"},
    "--parts": {"default": "loads,faults", "help": "parts; others in --output stay"},
    "--seconds": {"type": float, "default": 4, "help": "of each load; 4"},
    "--rounds": {"type": int, "default": 3, "help": "of the loads; 3"},
    "--fault-seconds": {"type": float, "default": 30, "help": "of killing workers; 30"},
    "--only": {"default": ";".join(SERVERS), "help": "servers, separated by semicolons"},
}

if __name__ == "__main__":
    few = {"seconds": 1, "rounds": 1, "fault_seconds": 3}
    run_benchmark(__doc__, measure_all, FLAGS, tiny=few, plot=plot)
