"""Measures how papers get from a file into batches, and whether a fit waits for them.

python benchmarks/loading.py --work DIR [--plot docs/images/loading.svg]
    [--output benchmarks/reports/loading.json]

An epoch of invented papers is read from Parquet, JSON lines, CSV and arrays of tokens, by the
loader of the deep tier with 0, 1 and 2 workers, with and without buckets of similar length. Text is
made into tokens batch by batch, as a loader over files does it; arrays hold the tokens that were
made once, which is what `classmark train` does in memory. Then steps of a fit are timed with each
number of workers. CPU time is that of all processes. Needs [deep].
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from classmark.dataset import SampleConfig, load_manifest, read_split, sample_dataset
from classmark.kernels.tokens import PairTokenizer
from classmark.records import SILENT
from classmark.training.transformer import (
    Encoder,
    EncoderClassifier,
    TokenisedPapers,
    load_encoder,
    tokenise,
)
from classmark.training.transformer.data import Order, StepLoader
from classmark.training.transformer.network import cross_entropy
from report import plain_numbers, run_benchmark, start_plot, write_plot

WORKERS = (0, 1, 2)
FORMATS = ("parquet", "jsonl", "csv", "arrays")
BUCKETED = (True, False)
BATCH, SEED, LABELS = 16, 7, 176
COLUMNS = ("title", "summary")
ARRAYS = ("ids", "types", "starts", "known_share")

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Source:
    """Papers that were read from a file: how long each is, and how a batch is made."""

    lengths: NDArray[np.int64]
    make_batch: Callable[[NDArray[np.int64]], dict[str, torch.Tensor]]


@contextmanager
def measured(into: dict[str, Any], name: str) -> Iterator[None]:
    """Note wall and CPU seconds of a block, workers that ended in it included."""

    def cpu_s() -> float:
        both = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(used.ru_utime + used.ru_stime for used in both)

    wall, cpu = time.perf_counter(), cpu_s()
    yield
    into[f"{name}_s"] = round(time.perf_counter() - wall, 3)
    into[f"{name}_cpu_s"] = round(cpu_s() - cpu, 3)


def write_formats(dataset: Path, tokenizer: PairTokenizer, folder: Path) -> dict[str, Path]:
    """Return a file, or a folder, of the same training papers in each format."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.read_parquet(dataset / "train.parquet").select(COLUMNS)
    paths = {name: folder / f"papers.{name}" for name in FORMATS}
    frame.write_parquet(paths["parquet"])
    frame.write_ndjson(paths["jsonl"])
    frame.write_csv(paths["csv"])
    papers = tokenise(tokenizer, list(frame.iter_rows()), SILENT)
    paths["arrays"].mkdir(exist_ok=True)
    for name in ARRAYS:
        np.save(paths["arrays"] / f"{name}.npy", getattr(papers, name))
    return paths


def read_texts(name: str, path: Path) -> Pairs:
    """Return the pairs of a file of texts."""
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        "parquet": pl.read_parquet, "jsonl": pl.read_ndjson, "csv": pl.read_csv,
    }  # fmt: skip
    read = readers[name]
    return list(read(path).select(COLUMNS).iter_rows())


def read_arrays(folder: Path, pad_id: int) -> TokenisedPapers:
    """Return tokens that are mapped from files, not read."""
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return TokenisedPapers(**mapped, pad_id=pad_id)


def batch_of_texts(
    tokenizer: PairTokenizer, pairs: Pairs, rows: NDArray[np.int64]
) -> dict[str, torch.Tensor]:
    """Return some papers as padded tokens, made now."""
    papers = tokenise(tokenizer, [pairs[row] for row in rows], SILENT)
    return batch_of_tokens(papers, np.arange(len(rows)))


def batch_of_tokens(papers: TokenisedPapers, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Return some papers as padded tokens, with the targets of a fit."""
    n = len(rows)
    return {**papers.pad(rows), "targets": torch.full((n, LABELS), 1 / LABELS),
            "weights": torch.ones(n)}  # fmt: skip


def open_source(name: str, path: Path, tokenizer: PairTokenizer) -> Source:
    """Return the papers of a file; of texts the length is known in characters only."""
    if name == "arrays":
        papers = read_arrays(path, tokenizer.pad_id)
        return Source(papers.lengths, partial(batch_of_tokens, papers))
    pairs = read_texts(name, path)
    lengths = np.array([len(title) + len(text) for title, text in pairs], dtype=np.int64)
    return Source(lengths, partial(batch_of_texts, tokenizer, pairs))


def load_epoch(source: Source, workers: int, *, bucketed: bool) -> dict[str, Any]:
    """Return how long an epoch of batches took, and how much of them is padding."""
    order = Order(lengths=source.lengths, batch_size=BATCH, accumulation=1, bucketed=bucketed,
                  seed=SEED)  # fmt: skip
    found: dict[str, Any] = {"workers": workers, "bucketed": bucketed}
    tokens = places = 0
    with measured(found, "epoch"):
        begun = time.perf_counter()
        for step in StepLoader(order, 1, source.make_batch, workers=workers):
            found.setdefault("first_batch_s", round(time.perf_counter() - begun, 3))
            mask = step["batches"][0]["mask"]
            tokens, places = tokens + int(mask.sum()), places + mask.numel()
    papers = len(source.lengths)
    return {**found, "papers_per_s": round(papers / found["epoch_s"], 1),
            "papers_per_cpu_s": round(papers / found["epoch_cpu_s"], 1),
            "padding": round(1 - tokens / places, 4)}  # fmt: skip


def load_all(paths: dict[str, Path], tokenizer: PairTokenizer) -> list[dict[str, Any]]:
    """Return every format with each number of workers, with and without buckets."""
    found = []
    for name, path in paths.items():
        size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.iterdir()))
        for workers, bucketed in itertools.product(WORKERS, BUCKETED):
            reading: dict[str, Any] = {}
            with measured(reading, "read"):
                source = open_source(name, path, tokenizer)
            loaded = load_epoch(source, workers, bucketed=bucketed)
            found.append({"format": name, "mb": round(size / 1e6, 2), **reading, **loaded})
    return found


def fit_steps(encoder: Encoder, source: Source, workers: int, *, bucketed: bool,
              steps: int) -> dict[str, Any]:  # fmt: skip
    """Return the time of some steps of a fit, and the share that was spent waiting for batches."""
    model = EncoderClassifier(encoder.network, LABELS, "mean", 0.1)
    model.train_top(model.n_layers + 1)
    torch.set_num_threads(1)  # on a busy machine two wait for each other longer than they compute
    optimiser = torch.optim.AdamW(model.parameters(), 1e-5)
    order = Order(lengths=source.lengths, batch_size=BATCH, accumulation=1, bucketed=bucketed,
                  seed=SEED)  # fmt: skip
    loader = iter(StepLoader(order, 1, source.make_batch, workers=workers))
    next(loader)  # workers start with the first one
    found: dict[str, Any] = {"workers": workers, "bucketed": bucketed}
    waited, papers = 0.0, 0
    with measured(found, "fit"):
        for _ in range(steps):
            begun = time.perf_counter()
            step = next(loader)
            waited += time.perf_counter() - begun
            for batch in step["batches"]:
                logits = model(batch["ids"], batch["mask"], batch["types"])
                cross_entropy(logits, batch["targets"], batch["weights"]).backward()
            optimiser.step()
            optimiser.zero_grad()
            papers += step["papers"]
    del loader  # its workers end
    found["papers_per_cpu_s"] = round(papers / found["fit_cpu_s"], 2)
    return {**found, "papers_per_s": round(papers / found["fit_s"], 2),
            "waited_share": round(waited / found["fit_s"], 5)}  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what loading costs by format, workers and buckets, and what a fit waits for."""
    dataset = options.dataset or options.work / "dataset"
    if not dataset.is_dir():
        sample_dataset(dataset, SampleConfig(papers=options.papers), command="benchmarks/loading")
    manifest = load_manifest(dataset)
    encoder = load_encoder(str(options.encoder))
    tokenizer = PairTokenizer(encoder.tokenizer_json, options.max_length)
    paths = write_formats(dataset, tokenizer, options.work / "formats")
    once: dict[str, Any] = {}
    with measured(once, "read"):
        split = read_split(dataset, "train", manifest)
    with measured(once, "tokenise"):
        tokenise(tokenizer, list(zip(split.titles, split.abstracts, strict=True)), SILENT)
    arrays = open_source("arrays", paths["arrays"], tokenizer)
    return {
        "papers": len(split),
        "generated": manifest.generated,
        "mean_tokens": round(float(arrays.lengths.mean()), 1),
        "max_length": options.max_length,
        "batch_size": BATCH,
        "workers": list(WORKERS),
        "trainer": once,
        "loading": load_all(paths, tokenizer),
        "fit": [
            fit_steps(encoder, arrays, workers, bucketed=bucketed, steps=options.steps)
            for workers, bucketed in itertools.product(WORKERS, BUCKETED)
        ],
    }


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw bars of papers a second by format and workers, and of padding."""
    figure, (left, right) = start_plot().subplots(1, 2, figsize=(9, 3.2), layout="constrained",
                                                  width_ratios=(3, 1))  # fmt: skip
    colours = ("#1f5fbf", "#7aa6e8", "#c0d4f4")
    for shift, (workers, colour) in enumerate(zip(report["workers"], colours, strict=True)):
        of = [r for r in report["loading"] if r["workers"] == workers and r["bucketed"]]
        places = [i + (shift - 1) * 0.27 for i in range(len(of))]
        bars = left.bar(places, [r["papers_per_s"] for r in of], 0.25, color=colour,
                        label=f"{workers} worker{'s' * (workers != 1)}")  # fmt: skip
        left.bar_label(bars, [f"{r['papers_per_s']:,.0f}" for r in of], size=7)
    left.set_yscale("log")
    plain_numbers(left.yaxis)
    left.set_xticks(range(len(FORMATS)), FORMATS)
    left.set_title("papers a second from the file to batches, with buckets", size=9)
    left.legend(frameon=False, fontsize=8)
    of_arrays = [r for r in report["loading"] if r["format"] == "arrays" and not r["workers"]]
    bars = right.bar(["buckets", "none"], [100 * r["padding"] for r in of_arrays], 0.5,
                     color="#1f5fbf")  # fmt: skip
    right.bar_label(bars, fmt="%.0f %%", size=8)
    right.set_title("padding in a batch", size=9)
    right.set_yticks([])
    write_plot(figure, path)


FLAGS: dict[str, dict[str, Any]] = {
    "--work": {"type": Path, "required": True, "help": "folder for the files that are read"},
    "--dataset": {"type": Path, "help": "a dataset; invented papers without it"},
    "--encoder": {"default": "packaged", "help": "as model.encoder takes it; packaged"},
    "--papers": {"type": int, "default": 1500, "help": "invented papers; 1,500"},
    "--max-length": {"type": int, "default": 256, "help": "tokens of a paper; 256"},
    "--steps": {"type": int, "default": 3, "help": "steps of the fit that are timed; 3"},
}

if __name__ == "__main__":
    tiny = {"papers": 200, "steps": 1, "max_length": 128}
    run_benchmark(__doc__, measure, FLAGS, tiny=tiny, plot=plot)
