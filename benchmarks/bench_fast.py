"""Measures the fast tier: papers per CPU-second, one paper, and resident memory.

python benchmarks/bench_fast.py [--papers FILE] [--output benchmarks/reports/fast-speed.json]

Without --papers invented ones are used (the sample generator's), so that anybody can run it. Time
is of the process's CPU, from raw title and abstract to calibrated scores, and to published answers.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core is measured; set before numpy loads

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from classmark import Classifier, Paper
from classmark.bundle import load_bundle
from classmark.bundle.find import find_bundle
from classmark.dataset import SampleConfig, sample_papers
from classmark.kernels.linear import LinearScorer, load_scorer
from classmark.papers import read_papers

BATCH, ROUNDS, ONES = 500, 9, 300
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


def seconds_of(work: Callable[[], object]) -> float:
    """Return the median CPU-seconds of a few rounds, after one to warm up."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        rounds.append(time.process_time() - start)
    return statistics.median(rounds)


def measure_kernel(scorer: LinearScorer, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return papers per CPU-second in batches, and microseconds of one paper alone."""
    batches = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
    together = seconds_of(lambda: [scorer.score(batch) for batch in batches])
    alone = seconds_of(lambda: [scorer.score([pair]) for pair in pairs[:ONES]])
    return {
        "kernel": scorer.kernel,
        "papers_per_cpu_second": round(len(pairs) / together),
        "one_paper_us": round(alone / min(ONES, len(pairs)) * 1e6, 1),
    }


def resident_mb(papers: list[Paper]) -> int:
    """Return the most memory of a process that classifies a stream of papers in batches."""
    lines = "\n".join(json.dumps({"title": p.title, "abstract": p.abstract}) for p in papers)
    run = subprocess.run(
        [sys.executable, "-c", _CHILD], input=lines.encode(), capture_output=True, check=True
    )
    return round(int(run.stdout) / 1024)


def read(path: Path | None, n: int) -> list[Paper]:
    """Return n papers of a file, or invented ones."""
    if path is None:
        return list(sample_papers(SampleConfig(papers=n)))
    return [p for p in islice(read_papers(path), n) if isinstance(p, Paper)]


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--papers", type=Path, help="file of papers; invented ones without it")
    parser.add_argument("--n", type=int, default=5_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    papers = read(options.papers, options.n)
    pairs = [(p.title, p.abstract) for p in papers]
    arrays = load_scorer(load_bundle(find_bundle(None)))._arrays
    classifier = Classifier()
    answers = seconds_of(lambda: classifier.classify(papers))
    result = {
        "machine": f"{platform.platform()}, {platform.processor() or platform.machine()}",
        "python": platform.python_version(),
        "papers": len(papers),
        "invented": options.papers is None,
        "mean_bytes": round(statistics.mean(len(t) + len(a) for t, a in pairs)),
        "numpy": measure_kernel(LinearScorer(arrays, use_kernel=False), pairs),
        "c": measure_kernel(LinearScorer(arrays), pairs),
        "answers_per_cpu_second": round(len(papers) / answers),
        "max_resident_mb": resident_mb(papers),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
