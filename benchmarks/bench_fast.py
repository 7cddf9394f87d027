"""Measures the fast tier: papers per CPU-second, one paper, and resident memory.

python benchmarks/bench_fast.py [--papers FILE] [--output benchmarks/reports/fast-speed.json]

Without --papers invented ones are used (the sample generator's), so that anybody can run it. Time
is of the process's CPU, on one core, from raw title and abstract to calibrated scores, and to
published answers. The yardsticks score the same papers right after: compare ratios, not rates,
between machines.

``published`` is measured in rounds in which each way to publish comes once, the yardsticks among
them: the list of ``Classifier.classify``; the same with each answer looked at; its JSON lines; a
batch of the service without HTTP; and the commands that write JSON lines of a file, less what they
take for one paper. ``authors`` compares lists of answers with and without the authors of the same
papers, for a model that has a table of them.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core is measured; set before numpy loads

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from classmark import Classifier, Paper
from classmark.bundle import load_bundle
from classmark.bundle.find import find_bundle
from classmark.dataset import SampleConfig, sample_papers
from classmark.kernels.linear import LinearScorer, load_scorer
from classmark.papers import read_papers
from report import run_benchmark
from yardsticks import text_yardsticks, tfidf_yardstick

BATCH, ONES = 500, 300
COMMANDS = {"classify --jsonl": ("--jsonl",), "bulk, one worker": ("--workers", "1")}
COMMAND_TIMES = 4
"""So often commands get the papers, so that what they take to start is the smaller part."""
# A process of its own: this one has read the papers with other libraries. VmHWM (Linux), since
# ru_maxrss of a child starts at what its parent held.
_CHILD = """
import re, sys
from pathlib import Path
from classmark import Classifier
from classmark.papers import read_stream
classifier, batch = Classifier(), []
for paper in read_stream(sys.stdin.buffer, format="jsonl"):
    batch.append(paper)
    if len(batch) == 500:
        classifier.classify(batch)
        batch = []
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
Pairs = list[tuple[str, str]]


def seconds_of(work: Callable[[], object], rounds: int) -> float:
    """Return the median CPU-seconds of a few rounds, after one to warm up."""
    work()
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def measure_rate(score: Callable[[Pairs], object], pairs: Pairs, rounds: int) -> dict[str, Any]:
    """Return papers per CPU-second in batches, and microseconds of one paper alone."""
    batches = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
    together = seconds_of(lambda: [score(batch) for batch in batches], rounds)
    alone = seconds_of(lambda: [score([pair]) for pair in pairs[:ONES]], rounds)
    return {
        "papers_per_cpu_second": round(len(pairs) / together),
        "one_paper_us": round(alone / min(ONES, len(pairs)) * 1e6, 1),
    }


def measure_kernel(scorer: LinearScorer, pairs: Pairs, rounds: int) -> dict[str, Any]:
    """Return what a kernel does, with its name."""
    return {"kernel": scorer.kernel, **measure_rate(scorer.score, pairs, rounds)}


def times_yardsticks(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return how many times as many papers each kernel does as each yardstick."""
    rate = "papers_per_cpu_second"
    return {
        kernel: {
            name: round(found[kernel][rate] / yardstick[rate], 2)
            for name, yardstick in found["yardsticks"].items()
        }
        for kernel in ("numpy", "c")
    }


def _each(score: Callable[[Pairs], object], batches: list[Pairs]) -> None:
    for batch in batches:
        score(batch)


def batch_of_service(classifier: Classifier) -> Callable[[list[Paper]], object]:
    """Return what answers batches as the service does, without HTTP and journal."""
    from classmark.service.answering.answerer import Answerer, AnswerOptions, Question
    from classmark.service.http.classify import batch_json
    from classmark.service.metrics import Metrics
    from classmark.service.settings import ServiceSettings

    answerer = Answerer(classifier, ServiceSettings(), Metrics())

    def answer(papers: list[Paper]) -> None:
        for start in range(0, len(papers), BATCH):
            asked = [Question(answerer.checked(p)) for p in papers[start : start + BATCH]]
            documents = answerer.answer_many(asked, AnswerOptions(), lambda: None)
            batch_json(answerer.model, documents)

    return answer


def seconds_of_command(papers: list[Paper], folder: Path, *options: str) -> float:
    """Return the CPU-seconds of ``classmark classify`` over a file of papers."""
    source, target = folder / f"{len(papers)}.jsonl", folder / "answers.jsonl"
    if not source.exists():
        rows = ({"id": p.id, "title": p.title, "abstract": p.abstract} for p in papers)
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "classmark", "classify", str(source), "--output", str(target)]
    target.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, *options], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_published(classifier: Classifier, papers: list[Paper], rounds: int) -> dict[str, Any]:
    """Return the rate of each way to publish answers, and how many times a yardstick's it is."""
    pairs = [(p.title, p.abstract) for p in papers]
    batches = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
    serve = batch_of_service(classifier)
    ways: dict[str, Callable[[], object]] = {
        "list": lambda: classifier.classify(papers),
        "looked at": lambda: [answer.primary for answer in classifier.classify(papers)],
        "JSON lines": lambda: b"\n".join(classifier.classify(papers).json_objects()),
        "batch of the service": lambda: serve(papers),
    }
    yardsticks = {**text_yardsticks(), **tfidf_yardstick(pairs)}
    for name, score in yardsticks.items():
        ways[name] = partial(_each, score, batches)
    spent: dict[str, list[float]] = {name: [] for name in (*ways, *COMMANDS)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, work in ways.items():
                spent[name].append(seconds_of(work, 1))
            for name, options in COMMANDS.items():
                many, one = (
                    seconds_of_command(some, Path(folder), *options)
                    for some in (papers * COMMAND_TIMES, papers[:1])
                )
                spent[name].append(max(many - one, 1e-3) / COMMAND_TIMES)
    rates = {name: len(papers) / statistics.median(times) for name, times in spent.items()}
    return {
        name: {
            "papers_per_cpu_second": round(rate),
            "times": {other: round(rate / rates[other], 2) for other in yardsticks},
        }
        for name, rate in rates.items()
        if name not in yardsticks
    }


def measure_authors(
    classifier: Classifier, papers: list[Paper], rounds: int
) -> dict[str, Any] | None:
    """Return what authors cost, and how many papers use them.

    Microseconds of CPU a paper without and with them, and the MB that their table keeps resident.

    None for a model without a table of authors.
    """
    if classifier._join is None:
        return None
    spent: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for authors, times in spent.items():
            classify = partial(classifier.classify, papers, authors=authors)
            times.append(seconds_of(classify, 1) / len(papers) * 1e6)
    without, with_authors = (statistics.median(times) for times in spent.values())
    return {
        "without_us": round(without, 1),
        "with_us": round(with_authors, 1),
        "cost": round(with_authors / without - 1, 2),
        "papers_of_known_authors": int(classifier.score(papers).with_authors.sum()),
        "resident_mb": resident_mb(papers, authors=True) - resident_mb(papers),
    }


def resident_mb(papers: list[Paper], *, authors: bool = False) -> int:
    """Return the peak memory of a process that classifies a stream of papers in batches."""
    records = (
        {"title": p.title, "abstract": p.abstract, "authors": list(p.authors) if authors else []}
        for p in papers
    )
    lines = "\n".join(map(json.dumps, records))
    run = subprocess.run(
        [sys.executable, "-c", _CHILD], input=lines.encode(), capture_output=True, check=True
    )
    return round(int(run.stdout) / 1024)


def read(path: Path | None, n: int) -> list[Paper]:
    """Return n papers of a file, or invented ones."""
    if path is None:
        return list(sample_papers(SampleConfig(papers=n)))
    return [p for p in islice(read_papers(path), n) if isinstance(p, Paper)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the speeds of both kernels, of whole answers and of the yardsticks."""
    papers, rounds = read(options.papers, options.n), options.rounds
    texts = [replace(p, authors=()) for p in papers]  # what the yardsticks read too
    pairs = [(p.title, p.abstract) for p in texts]
    arrays = load_scorer(load_bundle(find_bundle(None)))._arrays
    classifier = Classifier()
    found = {
        "papers": len(papers),
        "invented": options.papers is None,
        "mean_bytes": round(statistics.mean(len(t) + len(a) for t, a in pairs)),
        "numpy": measure_kernel(LinearScorer(arrays, use_kernel=False), pairs, rounds),
        "c": measure_kernel(LinearScorer(arrays), pairs, rounds),
        "published": measure_published(classifier, texts, rounds),
        "authors": measure_authors(classifier, papers, rounds),
        "max_resident_mb": resident_mb(papers),
        "yardsticks": {
            name: measure_rate(score, pairs, rounds) for name, score in text_yardsticks().items()
        },
    }
    return {**found, "times": times_yardsticks(found)}


FLAGS: dict[str, dict[str, Any]] = {
    "--papers": {"type": Path, "help": "file of papers; invented ones without it"},
    "--n": {"type": int, "default": 5_000, "help": "papers; 5,000"},
    "--rounds": {"type": int, "default": 9, "help": "of each measurement; 9"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, tiny={"n": 60, "rounds": 1})
