"""What a cluster of Ray costs beside the local pool on one machine, and what many nodes would do.

python benchmarks/ray_scale.py --work DIR [--papers N] [--output benchmarks/reports/ray-scale.json]

Two dumps of generated papers are classified by the local pool and by Ray with as many workers; the
difference separates what grows with the papers from what does not. Wall time depends on what else
the machine does, CPU time hardly. From the CPU time of each part (the workers, the process that
divides, the one that joins) follows the model: it is derived, no cluster of 100 nodes was measured.
Needs [ray], and psutil.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from classmark.bulk import BulkConfig
from classmark.cluster import connect
from classmark.dataset import SampleConfig, sample_dump
from classmark.papers import ChunkSize, read_chunks
from report import Measured, read_report, run_benchmark

WORKERS = 2
_POLL_S = 0.2
_RESULT_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What the model takes from no measurement.

    Attributes:
        cores_a_node: that classify.
        dollars_a_core_hour: of a rented machine, of the order of public price lists.
        driver_gbit_s: network of the machine that puts the parts in their place.
        workers_a_reader: as in ``bulk.cluster``.
        openalex_works: works of OpenAlex, in as many files that each can be read alone.
    """

    cores_a_node: int = 16
    dollars_a_core_hour: float = 0.05
    driver_gbit_s: float = 10.0
    workers_a_reader: int = 4
    openalex_works: int = 250_000_000


class Tree:
    """CPU seconds of the processes that this one has started, also of those that have ended."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def look(self) -> float:
        """Note the CPU seconds of each process, and return their sum."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._seen[process.pid] = times.user + times.system
        return sum(self._seen.values())

    def of(self, pid: int) -> float:
        """Return the CPU seconds of one process."""
        return self._seen.get(pid, 0.0)


def run(tree: Tree, dump: Path, output: Path, *more: str) -> Measured:
    """Classify a dump with the command line; return wall and CPU seconds."""
    command = [sys.executable, "-m", "classmark", "classify", str(dump), "--output", str(output)]
    log = output.with_suffix(".log")
    started, before = time.perf_counter(), tree.look()
    with (
        log.open("w") as errors,
        subprocess.Popen([*command, "--workers", str(WORKERS), *more], stderr=errors) as process,
    ):
        while process.poll() is None:
            tree.look()
            time.sleep(_POLL_S)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(log.read_text())
    return {
        "seconds": round(seconds, 1),
        "cpu_s": round(tree.look() - before, 2),
        "driver_cpu_s": round(tree.of(process.pid), 2),
    }


@contextmanager
def cluster(tree: Tree) -> Iterator[tuple[str, Measured]]:
    """Yield the address of a cluster of this machine, and what its start took."""
    started, before = time.perf_counter(), tree.look()
    with connect(None, n_cpus=WORKERS):
        import ray

        took = {
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_s": round(tree.look() - before, 2),
        }
        yield ray.get_runtime_context().gcs_address, took


def per_paper(small: Measured, large: Measured, n_small: int, n_large: int) -> Measured:
    """Return what each of the further papers took, and what remains without any, by kind."""
    found = {}
    for key in ("seconds", "cpu_s", "driver_cpu_s"):
        slope = max(0.0, large[key] - small[key]) / (n_large - n_small)
        found[f"{key}_per_million"] = round(slope * 1e6, 2)
        found[f"{key}_fixed"] = round(max(0.0, small[key] - slope * n_small), 2)
    return found


def divided(path: Path) -> float:
    """Return the CPU seconds that dividing a file takes."""
    config = BulkConfig()
    started = time.process_time()
    for _ in read_chunks(path, ChunkSize(config.chunk_bytes, config.chunk_records)):
        pass
    return time.process_time() - started


def measure(options: argparse.Namespace) -> Measured:
    """Measure both engines, and derive the model."""
    options.work.mkdir(parents=True, exist_ok=True)
    sizes = (options.papers // 4, options.papers)
    dumps = []
    for n_papers in sizes:
        dumps.append(options.work / f"dump-{n_papers}.jsonl")
        if not dumps[-1].exists():
            sample_dump(dumps[-1], SampleConfig(papers=n_papers))
    engines: dict[str, Any] = {}
    outputs: dict[str, bytes] = {}
    tree = Tree()
    with cluster(tree) as (address, start):
        choices = {"local": (), "ray": ("--engine", "ray", "--address", address)}
        for engine, more in choices.items():
            output = options.work / f"{engine}.parquet"
            runs = [run(tree, dump, output, *more) for dump in dumps]
            outputs[engine] = output.read_bytes()
            engines[engine] = {"runs": runs, **per_paper(runs[0], runs[1], *sizes)}
            print(engine, engines[engine], file=sys.stderr)
    engines["ray"]["start"] = start
    packed = options.work / "dump.jsonl.gz"
    with dumps[-1].open("rb") as plain, gzip.open(packed, "wb", compresslevel=6) as file:
        while piece := plain.read(_RESULT_BYTES):
            file.write(piece)
    measured = {
        "workers": WORKERS,
        "papers": list(sizes),
        "bytes_a_paper": round(dumps[-1].stat().st_size / sizes[-1]),
        "result_bytes_a_paper": round(len(outputs["ray"]) / sizes[-1]),
        "same_bytes": outputs["local"] == outputs["ray"],
        "engines": engines,
        "divide_cpu_s_per_million": round(divided(dumps[-1]) / sizes[-1] * 1e6, 2),
        "divide_gzip_cpu_s_per_million": round(divided(packed) / sizes[-1] * 1e6, 2),
        "deep_papers_per_cpu_s": read_report("deep")["kernels"]["ONNX int8"]["papers_per_cpu_s"],
    }
    return {**measured, "derived": derive(measured, Assumed())}


def derive(measured: Measured, assumed: Assumed) -> Measured:
    """Return hours, cost and bottleneck of runs that nobody has made."""
    ray = measured["engines"]["ray"]
    driver_s = ray["driver_cpu_s_per_million"]
    divide_s = measured["divide_gzip_cpu_s_per_million"]
    fast_s = max(0.01, ray["cpu_s_per_million"] - driver_s - measured["divide_cpu_s_per_million"])
    seconds = {"fast": fast_s, "deep": 1e6 / measured["deep_papers_per_cpu_s"]}
    rows = []
    for papers in (2_700_000, assumed.openalex_works):
        for nodes in (1, 10, 100):
            for tier, worker_s in seconds.items():
                cores = nodes * assumed.cores_a_node
                wire = measured["result_bytes_a_paper"] * 8e-3 / assumed.driver_gbit_s
                # Seconds a million papers, if this alone were slow.
                stages = {
                    "workers": worker_s / cores,
                    "readers": divide_s / max(1, cores // assumed.workers_a_reader),
                    "driver": driver_s,
                    "network of the driver": wire,
                }
                slowest = max(stages, key=lambda name: stages[name])
                fixed = ray["seconds_fixed"] + ray["start"]["seconds"]
                hours = (papers / 1e6 * stages[slowest] + fixed) / 3600
                rows.append(
                    {
                        "papers": papers,
                        "nodes": nodes,
                        "tier": tier,
                        "hours": round(hours, 3),
                        "dollars": round(hours * cores * assumed.dollars_a_core_hour, 2),
                        "bottleneck": slowest,
                        "workers_busy": round(stages["workers"] / stages[slowest], 2),
                    }
                )
    return {"assumed": asdict(assumed), "seconds_per_million": seconds, "runs": rows}


def main() -> None:
    """Measure and write the report."""
    flags = {
        "--work": {"type": Path, "required": True, "help": "folder for dumps and outputs"},
        "--papers": {"type": int, "default": 240_000, "help": "of the larger dump"},
    }
    run_benchmark(__doc__, measure, flags, tiny={"papers": 400})


if __name__ == "__main__":
    main()
