"""Measures what profiles led to: CPU seconds of commands before and after each mended finding.

python benchmarks/profile_findings.py --data DIR --work DIR [--output FILE]

Each version is checked out beside the others and runs in the environment of this program. Versions
take turns, so that a busy machine slows all of them. Each must give the results of the first one.
What is measured stays in ``--work``, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from load import measure, single_bodies
from report import ROOT, Measured, run_benchmark
from service import HOST, answers, free_port
from watch import tree

FIRST = "2f976b4"
Run = list[Any]
"""Workload, commit, turn, CPU seconds, and what the result hashes to."""
KERNEL = "src/classmark/kernels"
SEED, N_BODIES, CONNECTIONS, PATIENCE_S = 7, 500, 8, 60


@dataclass(frozen=True)
class Finding:
    """What a profile showed, and the commit that mended it.

    Attributes:
        workload: the command that it was seen in.
        commit: that mended it.
        seen: in the profile.
        mended: how.
    """

    workload: str
    commit: str
    seen: str
    mended: str


FINDINGS = (
    Finding(
        "train",
        "504b47d",
        "half of the samples in the fit of the calibration curve",
        "what does not depend on the curve is found once, in blocks that stay in the cache",
    ),
    Finding(
        "train",
        "f91b263",
        "one sort of the terms of 5,000 papers by paper and term",
        "the terms of each paper are sorted by themselves, in place",
    ),
    Finding(
        "export",
        "504b47d",
        "the fit of the calibration curve",
        "as for train",
    ),
    Finding(
        "build",
        "4dee779",
        "dates that come again and again",
        "a date is read once",
    ),
    Finding(
        "build",
        "a910bf3",
        "words counted three times by a regular expression, clean texts split and joined",
        "words are counted once, by the blanks; a clean text is recognised",
    ),
    Finding(
        "serve",
        "c13ddca",
        "a quarter of a worker's samples in two writes for each answer",
        "header and body leave with one write",
    ),
)


@dataclass(frozen=True)
class Place:
    """Where a version is, and where it works.

    Attributes:
        source: its checkout.
        work: a folder of its own.
        papers: CSV of the papers.
        seconds: how long a service is under load.
    """

    source: Path
    work: Path
    papers: Path
    seconds: float

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands."""
        own = {"PYTHONPATH": str(self.source / "src"), "CLASSMARK_TRACKER": "csv"}
        return {**os.environ, **own, "CLASSMARK_HOME": str(self.work / "home")}

    def run(self, *words: str | Path) -> float:
        """Run a command of classmark; return its CPU seconds.

        Raises:
            SystemExit: it failed.
        """
        command = [sys.executable, "-m", "classmark", *map(str, words)]
        with (self.work / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.work, env=self.environment(), stdout=log, stderr=log
            )
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(command[2:4])} failed: {(self.work / 'log').read_text()[-2000:]}")
        return usage.ru_utime + usage.ru_stime


def build(place: Place) -> tuple[float, str]:
    """Build a dataset; return CPU seconds and its digest."""
    folder = place.work / "data"
    cpu_s = place.run("dataset", "build", place.papers, "--output", folder, "--overwrite")
    return cpu_s, json.loads((folder / "manifest.json").read_text())["digest"]


def train(place: Place) -> tuple[float, str]:
    """Fit the fast tier; return CPU seconds and what its weights and scores hash to."""
    if not (place.work / "data").exists():
        build(place)
    runs = place.work / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    cpu_s = place.run("train", f"dataset.path={place.work / 'data'}", f"runs_dir={runs}")
    (run,) = runs.iterdir()
    files = [run / "log.csv", run / "metrics.csv", *sorted((run / "weights").iterdir())]
    return cpu_s, hash_of(*files)


def export(place: Place) -> tuple[float, str]:
    """Make a bundle of the run that ``train`` left; return CPU seconds and the bundle's digest."""
    run = place.work / "kept" / "run"  # as far from its dataset as the run was
    if not run.exists():
        if not (place.work / "runs").exists():
            train(place)
        (fitted,) = (place.work / "runs").iterdir()
        shutil.copytree(fitted, run)
    bundle = place.work / "bundle-1.0"
    cpu_s = place.run("export", run, "--output", bundle, "--overwrite")
    models = subprocess.run(
        [sys.executable, "-m", "classmark", "models", "show", str(bundle), "--json"],
        env=place.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return cpu_s, json.loads(models.stdout)["digest"]


def serve(place: Place) -> tuple[float, str]:
    """Put a service under load; return its CPU seconds for 1,000 requests, and an answer's hash."""
    url = f"http://{HOST}:{free_port()}"
    options = ["--port", url.rpartition(":")[2], "--workers", "1", "--host", HOST]
    with served(place, options, f"{url}/readyz") as pid:
        address, bodies = f"{url}/v1/classify", single_bodies(N_BODIES)
        measure(address, bodies, CONNECTIONS, 1)
        before_s = cpu_seconds(pid)
        point = measure(address, bodies, CONNECTIONS, place.seconds)
        spent_s = cpu_seconds(pid) - before_s
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(address, content=bodies[0], headers=headers)
        answer.raise_for_status()
    if point.refused or point.broken:
        sys.exit(f"the service did not answer all: {point}")
    text = json.dumps({key: v for key, v in answer.json().items() if key != "prediction_id"})
    n_requests = point.requests_per_s * max(1, round(place.seconds))
    return 1000 * spent_s / n_requests, hashlib.sha256(text.encode()).hexdigest()


WORKLOADS: dict[str, Callable[[Place], tuple[float, str]]] = {
    "build": build,
    "train": train,
    "export": export,
    "serve": serve,
}
UNITS = {"serve": "CPU seconds for 1,000 requests"}


@contextmanager
def served(place: Place, options: list[str], ready_url: str) -> Iterator[int]:
    """Start a version's service for the block; yield its process id."""
    command = [sys.executable, "-m", "classmark", "serve", *options]
    with (place.work / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place.work, env=place.environment(), stdout=log, stderr=log
        )
    until = time.monotonic() + PATIENCE_S
    try:
        while not answers(ready_url):
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"no service: {(place.work / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and those that it started."""
    ticks = 0
    for process in tree(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def hash_of(*files: Path) -> str:
    """Return the SHA-256 of files."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()


def check_out(commit: str, folder: Path) -> Path:
    """Return a checkout of a version; the kernel is this checkout's, if its sources are the same.

    Raises:
        SystemExit: they differ.
    """
    if not folder.exists():
        subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "add", "--detach", "--quiet", folder, commit],
            check=True,
        )
    if subprocess.run(
        ["git", "-C", str(ROOT), "diff", "--quiet", commit, "--", f"{KERNEL}/c"], check=False
    ).returncode:
        sys.exit(f"the C sources have changed since {commit}: build the kernel of each version")
    for built in (ROOT / KERNEL).glob("_kernel*"):
        shutil.copy2(built, folder / KERNEL / built.name)
    return folder


def versions_of(workload: str) -> list[str]:
    """Return the first version, and those that mended something in a workload, in order."""
    return [FIRST, *(f.commit for f in FINDINGS if f.workload == workload)]


def draw_papers(data: Path, file: Path, n_papers: int) -> None:
    """Write papers of the main set as CSV, drawn by the seed."""
    import polars as pl

    if not file.exists():
        everything = pl.read_parquet(data / "arxiv-train.parquet")
        everything.sample(n_papers, seed=SEED, shuffle=True).write_csv(file)


def measure_all(options: argparse.Namespace) -> Measured:
    """Return what each workload takes in each of its versions."""
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    papers = work / f"papers-{options.papers}.csv"
    draw_papers(options.data, papers, options.papers)
    record = work / "taken.json"
    runs: list[Run] = json.loads(record.read_text()) if record.exists() else []
    for name in options.workloads:
        for turn in range(options.repetitions):
            for commit in versions_of(name):
                if any(run[:3] == [name, commit, turn] for run in runs):
                    continue
                place = Place(
                    check_out(commit, work / "source" / commit),
                    work / "versions" / commit,
                    papers,
                    options.seconds,
                )
                place.work.mkdir(parents=True, exist_ok=True)
                cpu_s, result = WORKLOADS[name](place)
                runs = json.loads(record.read_text()) if record.exists() else []
                runs.append([name, commit, turn, round(cpu_s, 3), result])
                record.write_text(json.dumps(runs))
                print(f"{name} {commit} {turn}: {cpu_s:.2f} {result[:12]}", file=sys.stderr)
    return summary(options, [run for run in runs if run[0] in options.workloads])


def summary(options: argparse.Namespace, runs: list[Run]) -> Measured:
    """Return the report.

    Raises:
        SystemExit: a version gave another result than the first one.
    """
    taken: dict[str, dict[str, list[float]]] = {}
    results: dict[str, set[str]] = {}
    for name, commit, _, cpu_s, result in runs:
        taken.setdefault(name, {}).setdefault(commit, []).append(cpu_s)
        results.setdefault(name, set()).add(result)
    for name, found in results.items():
        if len(found) != 1:
            sys.exit(f"{name}: the versions give {len(found)} different results")
    findings = []
    for finding in FINDINGS:
        if finding.workload not in taken:
            continue
        commits = versions_of(finding.workload)
        before = commits[commits.index(finding.commit) - 1]
        of_workload = taken[finding.workload]
        findings.append(
            {
                "workload": finding.workload,
                "seen": finding.seen,
                "mended": finding.mended,
                "before": taking(before, of_workload[before]),
                "after": taking(finding.commit, of_workload[finding.commit]),
                "result": next(iter(results[finding.workload])),
            }
        )
    ends = {end: {n: t[versions_of(n)[at]] for n, t in taken.items()} for end, at in ENDS.items()}
    return {
        "papers": options.papers,
        "unit": {name: UNITS.get(name, "CPU seconds") for name in taken},
        **{end: {n: taking_of(n, end, t) for n, t in of.items()} for end, of in ends.items()},
        "findings": findings,
    }


ENDS = {"before": 0, "after": -1}


def taking_of(workload: str, end: str, cpu_s: list[float]) -> Measured:
    """Return what a workload takes before all findings were mended, or after."""
    return taking(versions_of(workload)[ENDS[end]], cpu_s)


def taking(commit: str, cpu_s: list[float]) -> Measured:
    """Return commit, median and each of the times."""
    return {"commit": commit, "cpu_s": round(statistics.median(cpu_s), 3), "each": cpu_s}


FLAGS: dict[str, dict[str, Any]] = {
    "--data": {"type": Path, "required": True, "help": "folder with arxiv-train.parquet"},
    "--work": {"type": Path, "required": True, "help": "for checkouts, datasets and runs"},
    "--papers": {"type": int, "default": 50_000},
    "--repetitions": {"type": int, "default": 5},
    "--seconds": {"type": float, "default": 8.0, "help": "of load on the service"},
    "--workloads": {"nargs": "+", "default": list(WORKLOADS), "choices": list(WORKLOADS)},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure_all, FLAGS)
