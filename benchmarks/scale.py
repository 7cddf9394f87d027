"""Measures the whole way at the size of arXiv: a dump of 2.7 M papers, built, fitted, classified.

python benchmarks/scale.py --work DIR [--papers N] [--output benchmarks/reports/scale.json]

Every stage is the command that a user types, in a process of its own that is watched from outside.
A stage that is done is not repeated: the same command goes on after an interruption. At the end
the classification is killed with SIGKILL in the middle, taken up again, and compared with the run
that nobody disturbed, and with one process on the first papers. All papers are invented.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from report import run_benchmark, start_plot, write_plot
from watch import watch

N_PAPERS = 2_700_000
N_CHECKED = 100_000
WORKERS = 2
LIMIT_GIB = 4
KILLED_AT = 0.4
LABEL_SHARE = 0.03  # of the width, between two labels of the plot
CLASSMARK = [sys.executable, "-m", "classmark"]
YARDSTICK = Path(__file__).with_name("yardsticks.py")


class Work:
    """The folder that stages read and write, and the record of those that are done."""

    def __init__(self, folder: Path, papers: int, train: list[str]) -> None:
        self.folder, self.papers, self.train = folder, papers, train
        self.dump, self.dataset = folder / "dump.jsonl", folder / "dataset"
        self.bundle, self.answers = folder / "scale-1.0", folder / "out.parquet"
        self._record = folder / "stages.json"
        folder.mkdir(parents=True, exist_ok=True)
        if not self._record.exists() and any(folder.iterdir()):
            sys.exit(f"{folder} holds files of others, and is removed at the end: choose another.")
        stored = json.loads(self._record.read_text()) if self._record.exists() else {}
        asked = {"papers": papers, "train": train}
        if stored.setdefault("asked", asked) != asked:
            sys.exit(f"{folder} holds stages of {stored['asked']}, not of {asked}: choose another.")
        self.stages: dict[str, Any] = stored.setdefault("stages", {})
        self._stored = stored

    def run(self, name: str, command: list[str], kill_after_s: float | None = None) -> None:
        """Run a stage, unless it is done, and keep what it took."""
        if name in self.stages:
            print(f"{name:<16} done before", file=sys.stderr)
            return
        print(f"{name:<16} ...", file=sys.stderr)
        program = CLASSMARK if name != "yardstick" else [sys.executable, str(YARDSTICK)]
        found = watch([*program, *command], self.output_of(name), kill_after_s)
        if found.status and kill_after_s is None:
            sys.exit(f"{name} ended with status {found.status}.")
        words = ["classmark" if program is CLASSMARK else "yardsticks.py", *command]
        shown = " ".join(words).replace(str(self.folder), "WORK")
        self.keep(name, {"command": shown, **found.to_dict()})

    def keep(self, name: str, stage: dict[str, Any]) -> None:
        """Note a stage as done."""
        self.stages[name] = stage
        self._record.write_text(json.dumps(self._stored))

    def output_of(self, name: str) -> Path:
        """Return the file with the standard output of a stage."""
        return self.folder / f"{name}.out"

    def split_papers(self) -> dict[str, int]:
        """Return the papers of each split of the dataset."""
        manifest = json.loads((self.dataset / "manifest.json").read_text())
        return {name: file["papers"] for name, file in manifest["splits"].items()}


def prepare(work: Work) -> None:
    """Invent the dump, build the dataset, count it, fit and export the model."""
    sample = ["dataset", "sample", "--papers", str(work.papers), "--dump", str(work.dump)]
    work.run("sample", sample)
    work.run("yardstick", ["count", str(work.dump)])
    work.run("build", ["dataset", "build", str(work.dump), "--output", str(work.dataset)])
    work.run("stats", ["dataset", "stats", str(work.dataset), "--json"])
    paths = [f"dataset.path={work.dataset}", f"runs_dir={work.folder / 'runs'}"]
    work.run("train", ["train", *paths, *work.train, "--json"])
    run = json.loads(work.output_of("train").read_text())["run"]
    report = str(work.folder / "evaluation.json")
    work.run("export", ["export", run, "--output", str(work.bundle), "--report", report])


def classify(work: Work, n_checked: int) -> dict[str, Any]:
    """Classify the dump undisturbed, then killed and resumed; return what was compared."""
    first = work.folder / "first.jsonl"
    if not first.exists():
        with work.dump.open("rb") as lines, first.open("wb") as file:
            file.writelines(islice(lines, n_checked))
    one, again = work.folder / "one.parquet", work.folder / "again.parquet"
    work.run("classify", bulk(work, work.dump, work.answers, WORKERS))
    work.run("one-process", bulk(work, first, one, 1))
    command = bulk(work, work.dump, again, WORKERS)
    work.run("killed", command, KILLED_AT * work.stages["classify"]["seconds"])
    left = len(list(again.with_name(again.name + ".parts").glob("*")))
    work.keep("killed", {"files_left": left, **work.stages["killed"]})
    work.run("resumed", command)
    n = min(n_checked, work.papers)
    return {
        "killed_with": work.stages["killed"]["status"],
        "files_left_by_the_killed": work.stages["killed"]["files_left"],
        "resumed_is_undisturbed": file_digest(again) == file_digest(work.answers),
        "checked_papers": n,
        "one_process_rows": row_digest(one, n),
        "two_processes_rows": row_digest(work.answers, n),
    }


def bulk(work: Work, source: Path, output: Path, workers: int) -> list[str]:
    """Return the command that classifies a file."""
    command = ["classify", str(source), "--model", str(work.bundle), "--workers", str(workers)]
    return [*command, "--output", str(output)]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def row_digest(path: Path, n: int) -> str:
    """Return the SHA-256 of the first n rows of a Parquet file, whatever its row groups."""
    digest = hashlib.sha256()
    for row in islice(_rows(path), n):
        digest.update(json.dumps(row, default=str).encode())
    return digest.hexdigest()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(10_000):
            yield from batch.to_pylist()


def with_rates(work: Work) -> dict[str, Any]:
    """Return the stages, each with its papers and papers/s.

    ``times_yardstick`` is papers per CPU-second beside one process that only parses the dump.
    """
    yardstick = work.papers / work.stages["yardstick"]["cpu_s"]
    splits = work.split_papers()
    held_out = splits["valid"] + splits["test"]
    papers: dict[str, Callable[[], int]] = {
        "stats": lambda: sum(splits.values()),
        "train": lambda: splits["train"],
        "export": lambda: held_out,
        "one-process": lambda: sum(1 for _ in (work.folder / "first.jsonl").open("rb")),
    }
    stages = {}
    for name, stage in work.stages.items():
        count = papers.get(name, lambda: work.papers)()
        stages[name] = {"papers": count, **stage}
        if name not in ("killed", "resumed"):
            per_cpu = count / stage["cpu_s"]
            stages[name] |= {
                "papers_per_s": round(count / stage["seconds"]),
                "times_yardstick": round(per_cpu / yardstick, 4),
            }
    return stages


def headline(stages: dict[str, Any], compared: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers to quote."""
    return {
        "limit_gib": LIMIT_GIB,
        "largest_peak_rss_gib": max(stage["peak_rss_gib"] for stage in stages.values()),
        "largest_peak_own_gib": max(stage["peak_own_gib"] for stage in stages.values()),
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "classify_papers_per_s": stages["classify"]["papers_per_s"],
        "same_answers": compared["resumed_is_undisturbed"]
        and compared["one_process_rows"] == compared["two_processes_rows"],
    }


def stage_labels(stages: dict[str, Any]) -> list[tuple[float, str]]:
    """Return the second at which each stage begins and its name; short ones share a label."""
    room = sum(stage["seconds"] for stage in stages.values()) * LABEL_SHARE
    labels: list[tuple[float, str]] = []
    start = 0.0
    for name, stage in stages.items():
        if labels and start - labels[-1][0] < room:
            labels[-1] = (labels[-1][0], f"{labels[-1][1]}, {name}")
        else:
            labels.append((start, name))
        start += stage["seconds"]
    return labels


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw memory over time, one stage after the other."""
    figure, axes = start_plot().subplots(figsize=(9, 4), layout="constrained")
    start = 0.0
    for number, stage in enumerate(result["stages"].values()):
        minutes = [(start + point[0]) / 60 for point in stage["timeline"]]
        for column, colour, label in (
            (1, "#c8a27c", "resident, pages of mapped files included"),
            (2, "#7a4a21", "resident, its own"),
        ):
            sizes = [point[column] for point in stage["timeline"]]
            axes.fill_between(minutes, sizes, color=colour, label=None if number else label, lw=0)
        axes.axvline(start / 60, color="#e0e0e0", linewidth=0.6, zorder=0)
        start += stage["seconds"]
    for began, names in stage_labels(result["stages"]):
        axes.text(began / 60, LIMIT_GIB * 1.03, names, rotation=60, fontsize=7)
    axes.axhline(LIMIT_GIB, color="#808080", linewidth=0.8)
    axes.set(xlabel="minutes", ylabel="GiB, all processes", ylim=(0, LIMIT_GIB * 1.6))
    axes.set_title(f"{result['papers']:,} papers, {result['provenance']['cores']} cores", size=9)
    axes.legend(frameon=False, fontsize=8, loc="center left")
    write_plot(figure, path)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the stages and return what they took."""
    work = Work(options.work.resolve(), options.papers, options.train.split())
    prepare(work)
    compared = classify(work, options.check_papers)
    stages = with_rates(work)
    return {
        "invented": True,
        "papers": options.papers,
        "splits": work.split_papers(),
        "bytes_of_dump": work.dump.stat().st_size,
        "headline": headline(stages, compared),
        "compared": compared,
        "stages": stages,
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--work": {"type": Path, "required": True, "help": "folder for all files, 12 GiB"},
    "--papers": {"type": int, "default": N_PAPERS, "help": "papers to invent; 2,700,000"},
    "--check-papers": {"type": int, "default": N_CHECKED, "help": "by one process too; 100,000"},
    "--train": {"default": "", "help": "overrides of the fit, separated by spaces"},
    "--keep": {"action": "store_true", "help": "leave the files"},
}

if __name__ == "__main__":
    tiny = {"papers": 1000, "check_papers": 100, "train": "experiment=debug"}
    done = run_benchmark(__doc__, measure, FLAGS, tiny=tiny, plot=plot)
    if not done.keep:
        shutil.rmtree(done.work)
