"""Measures the deep tier: torch against ONNX fp32 and int8, serving, and overload.

python benchmarks/deep.py --run RUN --bundle BUNDLE [--papers FILE] [--seconds 20]
    [--output benchmarks/reports/deep.json] [--plot FILE]

RUN is the folder of `classmark train model=transformer`, BUNDLE what `classmark export` made of
it. Kernel: papers a CPU-second on one thread, one paper's latency on all threads, top-1 on the
run's test split. Serving: a closed loop of 8 clients against `classmark serve` and against the
torch server of yardsticks.py, one paper a request. Overload: an open loop at three times the
measured rate, each request with a deadline; goodput is what was answered in time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import read_manifest
from classmark.dataset import load_manifest, read_split
from classmark.export.onnx import Network, to_onnx
from classmark.export.weights import quantise_network
from classmark.kernels.encoder import EncoderConfig, EncoderScorer, default_threads
from classmark.papers import read_papers
from classmark.pipeline.run_folder import find_dataset
from classmark.pipeline.transformer.export import read_network
from classmark.records import Paper, RunRecord
from load import closed_loop, open_loop, quantiles_ms, request_of
from report import run_benchmark, start_plot, write_plot
from service import memory_mb, service, yardstick

ROUNDS, OVERLOAD = 3, 3
DEADLINE_MS = 1000
Pairs = list[tuple[str, str]]


def best_per_cpu_s(work: Callable[[], object], n: int) -> float:
    """Return papers a CPU-second, best of a few rounds: other jobs only ever take time away."""
    work()
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return round(n / min(spent), 2)


def latency_ms(one: Callable[[tuple[str, str]], object], papers: Pairs) -> dict[str, float]:
    """Return the latency of one paper at a time."""
    seconds = []
    for paper in papers:
        started = time.perf_counter()
        one(paper)
        seconds.append(time.perf_counter() - started)
    return quantiles_ms(seconds)


def torch_logits(network: Network, papers: Pairs) -> NDArray[np.float32]:
    """Return the logits of papers, each by itself, on as many threads as torch was given."""
    import torch

    rows = []
    with torch.inference_mode():
        for encoded in network.tokenizer.encode(papers):
            ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
            types = torch.from_numpy(encoded.types.astype(np.int64))[None]
            rows.append(network.module(ids, torch.ones_like(ids), types)[0].numpy())
    return np.stack(rows)


def measure_kernels(run: Path, papers: Pairs, test: Pairs, truth: NDArray[Any]) -> dict[str, Any]:
    """Return size, accuracy, latency and speed of each way to run the network."""
    import torch

    network = read_network(run, RunRecord.read(run))
    plain = to_onnx(network)
    size = (run / "weights/model.safetensors").stat().st_size
    torch.set_num_threads(default_threads())
    one = latency_ms(lambda paper: torch_logits(network, [paper]), papers[:60])
    torch.set_num_threads(1)
    result: dict[str, dict[str, Any]] = {
        "torch fp32": {
            "mb": round(size / 1e6, 1),
            "top_1": float((torch_logits(network, test).argmax(axis=1) == truth).mean()),
            "one_paper_ms": one,
            "papers_per_cpu_s": best_per_cpu_s(lambda: torch_logits(network, papers), len(papers)),
        }
    }
    for name, model in (("fp32", plain), ("int8", quantise_network(plain))):
        wide, narrow = (
            EncoderScorer(
                model,
                network.tokenizer,
                EncoderConfig(name, network.inputs, network.n_labels, threads=threads),
            )
            for threads in (default_threads(), 1)
        )
        right = wide.score(test).scores.argmax(axis=1) == truth
        result[f"ONNX {name}"] = {
            "mb": round(len(model) / 1e6, 1),
            "top_1": float(right.mean()),
            "one_paper_ms": latency_ms(partial(score_one, wide), papers[:60]),
            "papers_per_cpu_s": best_per_cpu_s(partial(narrow.score, papers), len(papers)),
        }
    rate = result["torch fp32"]["papers_per_cpu_s"]
    for part in result.values():
        part["times_torch"] = round(part["papers_per_cpu_s"] / rate, 2)
    return result


def score_one(scorer: EncoderScorer, paper: tuple[str, str]) -> object:
    """Return the scores of one paper."""
    return scorer.score([paper])


def measure_serving(run: Path, bundle: Path, papers: Pairs, seconds: float) -> dict[str, Any]:
    """Return both servers' rates, and the overload of ours."""
    bodies = [json.dumps({"title": title, "abstract": abstract}) for title, abstract in papers]
    requests = [request_of(body, DEADLINE_MS) for body in bodies]

    def peak_of(url: str, pid: int) -> dict[str, Any]:
        asyncio.run(closed_loop(url, requests, 2))
        found = asyncio.run(closed_loop(url, requests, seconds))
        return {
            "papers_per_s": found.pop("answered_per_s"),
            **found,
            "resident_mb": memory_mb(pid)["pss_mb"],
        }

    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        with yardstick(home / "torch", "torch", str(run)) as server:
            plain = peak_of(*server)
        options = ("--model", str(bundle), "--journal", "off", "--no-access-log")
        with service(home / "classmark", *options) as (url, pid, _):
            ours = peak_of(url, pid)
            peak = max(ours["papers_per_s"], 1.0)
            over = asyncio.run(open_loop(url, requests, OVERLOAD * peak, seconds, DEADLINE_MS))
            over["resident_mb"] = memory_mb(pid)["pss_mb"]
    over["goodput_of_peak"] = round(over["goodput_per_s"] / peak, 3)
    ratio = round(ours["papers_per_s"] / max(plain["papers_per_s"], 0.01), 2)
    return {"plain": plain, "classmark": ours, "times_plain": ratio, "overload": over}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw bars of papers a CPU-second and of served papers a second."""
    kernels = {name: part["papers_per_cpu_s"] for name, part in result["kernels"].items()}
    served = {n: result["serving"][n]["papers_per_s"] for n in ("plain", "classmark")}
    figure, panels = start_plot().subplots(1, 2, figsize=(9, 2.6), layout="constrained")
    titles = ("papers a CPU-second, one thread", "papers a second, served")
    for axes, title, rates in zip(panels, titles, (kernels, served), strict=True):
        axes.bar_label(axes.barh(list(rates), list(rates.values()), color="#1f5fbf"), fmt="%g")
        axes.set_title(title, size=9)
        axes.invert_yaxis()
    write_plot(figure, path)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the network does by itself and behind servers."""
    record = RunRecord.read(options.run)
    dataset = options.dataset or find_dataset(options.run, record)
    split = read_split(dataset, "test", load_manifest(dataset))
    rows = np.random.default_rng(0).permutation(len(split))[: options.n_test].tolist()
    test = [(split.titles[i], split.abstracts[i]) for i in rows]
    papers = test[: options.n]
    if options.papers:
        found = (p for p in read_papers(options.papers) if isinstance(p, Paper))
        papers = [(p.title, p.abstract) for p in islice(found, options.n)]
    bundle = read_manifest(options.bundle)
    return {
        "bundle": f"{bundle.name}@{bundle.version} {bundle.parameters.get('precision', '')}",
        "papers": len(papers),
        "mean_chars": round(statistics.mean(len(t) + len(a) for t, a in papers)),
        "generated": record.generated,
        "threads": default_threads(),
        "kernels": measure_kernels(options.run, papers, test, split.labels[rows]),
        "serving": measure_serving(options.run, options.bundle, papers, options.seconds),
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--run": {"type": Path, "required": True, "help": "folder of the fit"},
    "--bundle": {"type": Path, "required": True, "help": "what was exported from it"},
    "--dataset": {"type": Path, "help": "the run's dataset, if it was moved"},
    "--papers": {"type": Path, "help": "papers for speed; the test split without it"},
    "--n": {"type": int, "default": 200, "help": "papers for speed; 200"},
    "--n-test": {"type": int, "default": 1000, "help": "papers for accuracy; 1,000"},
    "--seconds": {"type": float, "default": 20.0, "help": "of each load; 20"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, tiny={"n": 8, "n_test": 8, "seconds": 0.5}, plot=plot)
