"""Other servers under the same loads and faults: what our process tree and our layers are for.

python benchmarks/servers.py [--output benchmarks/reports/servers.json] [--models fast,deep=BUNDLE]
    [--parts loads,faults] [--only NAME,NAME] [--plot docs/images/servers.svg]

Needs the group `bench`. All have two workers, the same model and this machine. Beside `classmark
serve` stand the least application (`plain_app.py`: Starlette alone) on uvicorn and on granian, our
bento on BentoML, and LitServe, the last two with batches and without. Loads: a curve of single
papers, batches of 100, and an open loop at three times the rate that a closed loop reached; goodput
is what is answered within a second. All servers run, and take the loads in turns; the best round
counts, because other work on the machine only ever takes time away.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults import overload, say
from load import batch_bodies, measure, request_of, single_bodies
from report import plain_numbers, run_benchmark, start_plot, write_plot
from server_faults import measure_faults
from server_kinds import DEADLINE_S, SERVERS, WORKERS, Running, prepared, running
from service import memory_mb
from watch import tree

LEVELS = (1, 4, 8, 16, 32)
P99_LIMIT_MS = 50
BATCH_PAPERS = 100
OVERLOADS = 2


def measure_loads(
    names: list[str], model: str, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Return what servers do under loads, which they take in turns while the others wait.

    Args:
        names: of the servers.
        model: a path, or "" for the packaged one.
        rounds: of each load; the best counts.
        seconds: of each load.
    """
    singles = single_bodies(500)
    # Of an encoder a batch of 100 papers takes longer than the deadline.
    crowd = singles if model else batch_bodies(16, BATCH_PAPERS)
    requests = [request_of(body, 1000 * DEADLINE_S) for body in crowd]
    found: dict[str, dict[str, Any]] = {}
    with prepared(names, model) as folder, ExitStack() as started:
        servers = {name: started.enter_context(running(name, model, folder)) for name in names}
        for name, server in servers.items():
            found[name] = {"ready_s": server.ready_s, "ready_cpu_s": round(cpu_s(server.pid), 2)}
            measure(f"{server.url}/v1/classify", singles, 8, 2)
        points = curves(servers, singles, rounds, seconds)
        overs = overloads(servers, requests, max(2.0, seconds))
        for name, server in servers.items():
            found[name] |= {
                **memory_mb(server.pid),
                "single": points[name],
                "best": best_within(points[name]),
                "overload": {"papers_per_request": 1 if model else BATCH_PAPERS, **overs[name]},
            }
    return found


def curves(
    servers: Mapping[str, Running], bodies: list[str], rounds: int, seconds: float
) -> dict[str, list[dict[str, Any]]]:
    """Return the best round of each level of load on each server."""
    tries: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for number in range(rounds):
        for level in LEVELS:
            say(f"round {number + 1}, {level} connections, load {os.getloadavg()[0]:.0f}")
            for name, server in servers.items():
                tries[name, level].append(one_point(server, bodies, level, seconds))
    return {name: [best_of(tries[name, level]) for level in LEVELS] for name in servers}


def one_point(server: Running, bodies: list[str], level: int, seconds: float) -> dict[str, Any]:
    """Return a level of load, with the processor time of the server for each request."""
    before = cpu_s(server.pid)
    point = measure(f"{server.url}/v1/classify", bodies, level, seconds).to_dict()
    n = max(1.0, point["requests_per_s"] * max(1, round(seconds)))
    return {**point, "cpu_ms_per_request": round(1000 * (cpu_s(server.pid) - before) / n, 3)}


def best_of(tries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fastest of some rounds, with the rates of all and the least processor time."""
    fastest = max(tries, key=lambda point: float(point["requests_per_s"]))
    return {
        **fastest,
        "cpu_ms_per_request": min(point["cpu_ms_per_request"] for point in tries),
        "requests_per_s_each": [point["requests_per_s"] for point in tries],
    }


def overloads(
    servers: Mapping[str, Running], requests: list[bytes], seconds: float
) -> dict[str, dict[str, Any]]:
    """Return what three times the load does to each server: of some rounds that of most goodput."""
    tries = defaultdict(list)
    for _ in range(OVERLOADS):
        for name, server in servers.items():
            say(f"overload of {name}, load {os.getloadavg()[0]:.0f}")
            tries[name].append(overload(server.url, requests, seconds, 1000 * DEADLINE_S))
    return {
        name: max(found, key=lambda over: float(over["goodput_per_s"]))
        for name, found in tries.items()
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
    result: dict[str, Any] = {"servers": {}, "loads": {}, "loads_measured": {}}
    if options.output and options.output.exists():
        result |= json.loads(options.output.read_text(encoding="utf-8"))
    result |= {"invented": True, "workers": WORKERS, "p99_limit_ms": P99_LIMIT_MS}
    parts = options.parts.split(",")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if "loads" in parts:
        for model, _, path in (given.partition("=") for given in options.models.split(",")):
            load = {"before": round(os.getloadavg()[0], 1)}
            place = path and str(Path(path).resolve())
            found = measure_loads(names, place, options.rounds, options.seconds)
            result["loads"][model] = {**result["loads"].get(model, {}), **found}
            load["after"] = round(os.getloadavg()[0], 1)
            result["loads_measured"][model] = {**load, "date": now}
    if "faults" in parts:
        with prepared(names, "") as folder:
            for name in names:
                say(f"faults of {name} ...")
                found = measure_faults(name, folder, options.fault_seconds)
                result["servers"].setdefault(name, {}).update(found)
    return result


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the processor time of a paper over the connections, a panel for each model."""
    loads = result["loads"]
    figure, panels = start_plot().subplots(
        1, len(loads), figsize=(5 * len(loads), 4), layout="constrained", squeeze=False
    )
    for axes, (model, servers) in zip(panels[0], loads.items(), strict=True):
        for place, (name, found) in enumerate(servers.items()):
            # A refusal costs less than an answer: a point with some is not of a paper.
            whole = [p for p in found["single"] if not p["refused"] + p["broken"]]
            levels = [point["concurrency"] for point in whole]
            cpu_ms = [point["cpu_ms_per_request"] for point in whole]
            style = "--" if name.endswith("no batches") else "-"
            axes.plot(
                levels, cpu_ms, style, marker="o", markersize=3, color=f"C{place}", label=name
            )
        axes.set(xlabel="connections", ylabel="CPU-ms a paper", xscale="log", yscale="log")
        plain_numbers(axes.xaxis, LEVELS)
        plain_numbers(axes.yaxis)
        axes.set_title(f"{model} model, {result['workers']} workers", size=9)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    write_plot(figure, path)


FLAGS: dict[str, dict[str, Any]] = {
    "--models": {"default": "fast", "help": "fast (the packaged one), deep=BUNDLE, of the loads"},
    "--parts": {"default": "loads,faults", "help": "parts; others in --output stay"},
    "--seconds": {"type": float, "default": 3, "help": "of each load; 3"},
    "--rounds": {"type": int, "default": 5, "help": "of the loads; 5"},
    "--fault-seconds": {"type": float, "default": 30, "help": "of killing workers; 30"},
    "--only": {"default": ";".join(SERVERS), "help": "servers, separated by semicolons"},
}

if __name__ == "__main__":
    few = {"seconds": 1, "rounds": 1, "fault_seconds": 3}
    run_benchmark(__doc__, measure_all, FLAGS, tiny=few, plot=plot)
