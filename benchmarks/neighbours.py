"""How an index of papers finds neighbours: recall, time, size, by bits and lists that are read.

python benchmarks/neighbours.py --papers FILES [--papers-wanted N]
    [--output benchmarks/reports/neighbours.json] [--plot docs/images/neighbours.svg]

Vectors are those of the shipped model. Queries are papers that are not in the index; the truth is
brute force over float32. If fewer papers are given than wanted, each further one is the sum of two
of them, so that a million can be measured anywhere; the report says how many are real. Without
files the papers are invented. Times are CPU seconds, of one thread in a search.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark import Classifier, Index, Paper
from classmark.dataset import SampleConfig, sample_dataset
from classmark.neighbours import Entry, build_index
from classmark.neighbours.rows import PROBES, Bits, Floats, unit
from classmark.papers import read_papers
from classmark.runtime import in_batches
from report import run_benchmark, start_plot, write_plot

SEED, K, BLOCK = 7, 10, 1 << 16
BITS: tuple[Bits, ...] = (8, 4, 2)
PROBES_TRIED = (4, 8, 16, PROBES, 48)
FLAGS: dict[str, dict[str, Any]] = {
    "--papers": {"type": Path, "nargs": "*", "default": [], "help": "files of papers"},
    "--papers-wanted": {"type": int, "default": 1_000_000},
    "--queries": {"type": int, "default": 500},
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what an index of each number of bits finds and takes."""
    classifier = Classifier()
    start = time.process_time()
    real = vectors_of(classifier, papers_of(options.papers))
    seconds = time.process_time() - start
    random = np.random.default_rng(SEED)
    order = random.permutation(len(real))
    queries, papers = real[order[: options.queries]], real[order[options.queries :]]
    vectors = enlarged(papers, options.papers_wanted, random)
    truth = brute_force(vectors, queries)
    return {
        "model": classifier.model.to_dict(),
        "papers": len(vectors),
        "real_papers": min(len(papers), len(vectors)),
        "queries": len(queries),
        "k": K,
        "vectors_cpu_s": round(seconds, 1),
        "papers_per_cpu_second": round(len(real) / seconds),
        "bits": {str(bits): measure_bits(vectors, queries, truth, bits) for bits in BITS},
    }


def papers_of(files: list[Path]) -> Iterator[Paper]:
    """Yield the papers of some files, or invented ones."""
    with tempfile.TemporaryDirectory() as folder:
        if not files:
            sample_dataset(Path(folder, "sample"), SampleConfig(papers=3000))
        for file in files or sorted(Path(folder, "sample").glob("*.parquet")):
            yield from (item for item in read_papers(file) if isinstance(item, Paper))


def vectors_of(classifier: Classifier, papers: Iterator[Paper]) -> Floats:
    """Return the vectors of papers."""
    batches = in_batches(papers, lambda paper: paper.size_chars)
    return np.concatenate([classifier.vectors(batch) for batch in batches])


def enlarged(vectors: Floats, wanted: int, random: np.random.Generator) -> Floats:
    """Return as many vectors as wanted: some of them, or sums of two beside them."""
    more = wanted - len(vectors)
    if more <= 0:
        return vectors[:wanted]
    one, other = random.integers(0, len(vectors), (2, more))
    return np.concatenate([vectors, vectors[one] + vectors[other]])


def brute_force(vectors: Floats, queries: Floats) -> NDArray[np.int64]:
    """Return the K rows of greatest cosine for each query."""
    wanted = unit(queries)
    best = np.zeros((len(queries), 0), dtype=np.int64)
    values = np.zeros((len(queries), 0), dtype=np.float32)
    for first in range(0, len(vectors), BLOCK):
        found = wanted @ unit(vectors[first : first + BLOCK]).T
        rows = np.broadcast_to(np.arange(first, first + found.shape[1]), found.shape)
        values, best = np.hstack([values, found]), np.hstack([best, rows])
        keep = np.argpartition(-values, K - 1, axis=1)[:, :K]
        values = np.take_along_axis(values, keep, axis=1)
        best = np.take_along_axis(best, keep, axis=1)
    return best


def measure_bits(
    vectors: Floats, queries: Floats, truth: NDArray[np.int64], bits: Bits
) -> dict[str, Any]:
    """Return size, time to build, and recall and time by lists that a search reads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        batches = (
            ([Entry(str(i)) for i in range(first, min(first + BLOCK, len(vectors)))], part)
            for first in range(0, len(vectors), BLOCK)
            if len(part := vectors[first : first + BLOCK])
        )
        start, wall = time.process_time(), time.perf_counter()
        build_index(path, batches, Classifier().model, bits=bits)
        built = {"cpu_s": time.process_time() - start, "wall_s": time.perf_counter() - wall}
        index = Index.open(path)
        size = sum(size for size, _ in index.manifest.files.values())
        return {
            "bytes_per_paper": round(size / len(vectors), 1),
            "build": {name: round(value, 1) for name, value in built.items()},
            "lists": index.manifest.lists,
            "probes": {str(n): search(index, queries, truth, n) for n in PROBES_TRIED},
        }


def search(
    index: Index, queries: Floats, truth: NDArray[np.int64], probes: int
) -> dict[str, float]:
    """Return recall at K, and time of one search, after a first round that reads the files."""
    index.search(queries[:20], K, probes=probes)
    times, hits = [], 0
    for query, best in zip(queries, truth.tolist(), strict=True):
        start = time.thread_time()
        found = index.search(query[None], K, probes=probes)
        times.append(1000 * (time.thread_time() - start))
        hits += len({int(index.id_of(row)) for row in found.rows[0]} & set(best))
    median, p95 = np.percentile(times, [50, 95])
    return {
        "recall": round(hits / truth.size, 4),
        "median_ms": round(float(median), 3),
        "p95_ms": round(float(p95), 3),
    }


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw recall against the time of a search."""
    plt = start_plot()
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    for bits, found in result["bits"].items():
        points = list(found["probes"].values())
        label = f"{bits} bits, {found['bytes_per_paper']:g} bytes a paper"
        times, recalls = ([point[key] for point in points] for key in ("median_ms", "recall"))
        axes.plot(times, recalls, marker="o", markersize=3, label=label)
    axes.set(xlabel="median of a search, ms", ylabel=f"recall of the nearest {result['k']}")
    axes.set_title(f"{result['papers']:,} papers", size=10)
    axes.legend(frameon=False, fontsize=8)
    write_plot(figure, path)


if __name__ == "__main__":
    tiny = {"papers": [], "papers_wanted": 4000, "queries": 20}
    run_benchmark(__doc__, measure, FLAGS, tiny=tiny, plot=plot)
