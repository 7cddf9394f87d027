"""Measures the deep tier: torch against ONNX fp32 and int8, serving, and overload.

python benchmarks/deep.py --run RUN --bundle BUNDLE [--papers FILE] [--seconds 20]
    [--output benchmarks/reports/deep.json]

RUN is the folder of `classmark train model=transformer`, BUNDLE what `classmark export` made of
it. Kernel: papers a CPU-second on one thread, one paper's latency on all threads, top-1 on the
run's test split. Serving: a closed loop of 8 clients against `classmark serve` and against
deep_plain.py, one paper a request. Overload: an open loop at three times the measured rate, each
request with a deadline; goodput is what was answered in time. A plot (SVG) is written beside the
JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from classmark.bundle import read_manifest
from classmark.dataset import load_manifest, read_split
from classmark.export.onnx import Network, quantise_network, to_onnx
from classmark.kernels.encoder import EncoderConfig, EncoderScorer, default_threads
from classmark.papers import read_papers
from classmark.pipeline.run_folder import find_dataset
from classmark.pipeline.transformer.export import read_network
from classmark.records import Paper, RunRecord
from overload import closed_loop, open_loop, quantiles_ms, request_of

HERE = Path(__file__).parent
ROUNDS, OVERLOAD = 3, 3
DEADLINE_MS = 1000
STARTED = re.compile(r"http://\S+:\d+")
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


def torch_logits(network: Network, papers: Pairs) -> np.ndarray:
    """Return the logits of papers, each by itself, on as many threads as torch was given."""
    import torch

    rows = []
    with torch.inference_mode():
        for encoded in network.tokenizer.encode(papers):
            ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
            types = torch.from_numpy(encoded.types.astype(np.int64))[None]
            rows.append(network.module(ids, torch.ones_like(ids), types)[0].numpy())
    return np.stack(rows)


def measure_kernels(run: Path, papers: Pairs, test: Pairs, truth: np.ndarray) -> dict[str, Any]:
    """Return size, accuracy, latency and speed of each way to run the network."""
    import torch

    network = read_network(run, RunRecord.read(run))
    plain = to_onnx(network)
    size = (run / "weights/model.safetensors").stat().st_size
    torch.set_num_threads(default_threads())
    one = latency_ms(lambda paper: torch_logits(network, [paper]), papers[:60])
    torch.set_num_threads(1)
    result = {
        "torch fp32": {
            "mb": round(size / 1e6, 1),
            "top_1": float((torch_logits(network, test).argmax(axis=1) == truth).mean()),
            "one_paper_ms": one,
            "papers_per_cpu_s": best_per_cpu_s(lambda: torch_logits(network, papers), len(papers)),
        }
    }
    for name, model in (("fp32", plain), ("int8", quantise_network(plain))):
        scorers = [
            EncoderScorer(
                model,
                network.tokenizer,
                EncoderConfig(name, network.inputs, network.n_labels, threads=threads),
            )
            for threads in (default_threads(), 1)
        ]
        wide, narrow = scorers
        right = wide.score(test).scores.argmax(axis=1) == truth
        result[f"ONNX {name}"] = {
            "mb": round(len(model) / 1e6, 1),
            "top_1": float(right.mean()),
            "one_paper_ms": latency_ms(lambda paper, s=wide: s.score([paper]), papers[:60]),
            "papers_per_cpu_s": best_per_cpu_s(lambda s=narrow: s.score(papers), len(papers)),
        }
    return result


@contextmanager
def classmark_server(bundle: Path) -> Iterator[tuple[str, int]]:
    """Yield the address and process id of `classmark serve`."""
    command = [sys.executable, "-m", "classmark", "serve", "--model", str(bundle), "--port", "0"]
    command += ["--journal", "off", "--no-access-log"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        found = STARTED.search(line)
        if found is None:
            raise SystemExit(f"classmark serve did not start: {line!r}")
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def plain_server(run: Path) -> Iterator[tuple[str, int]]:
    """Yield the address and process id of deep_plain.py."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(HERE / "deep_plain.py"), str(run), str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if process.poll() is not None:
                raise SystemExit("deep_plain.py did not start")
            try:
                httpx.get(f"{url}/openapi.json", timeout=5)
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(60)


def resident_mb(pid: int) -> float:
    """Return the proportional memory of a process and its children (Linux)."""
    total, pids = 0, [pid]
    while pids:
        place = Path(f"/proc/{pids.pop()}")
        try:
            rollup = (place / "smaps_rollup").read_text()
            pids += map(int, (place / f"task/{place.name}/children").read_text().split())
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[1])  # type: ignore[index]
    return round(total / 1024, 1)


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
            "resident_mb": resident_mb(pid),
        }

    with plain_server(run) as server:
        plain = peak_of(*server)
    with classmark_server(bundle) as (url, pid):
        ours = peak_of(url, pid)
        peak = max(ours["papers_per_s"], 1.0)
        over = asyncio.run(open_loop(url, requests, OVERLOAD * peak, seconds, DEADLINE_MS))
        over["resident_mb"] = resident_mb(pid)
    over["goodput_of_peak"] = round(over["goodput_per_s"] / peak, 3)
    ratio = round(ours["papers_per_s"] / max(plain["papers_per_s"], 0.01), 2)
    return {"plain": plain, "classmark": ours, "times_plain": ratio, "overload": over}


def draw(result: dict[str, Any]) -> str:
    """Return bars of papers a CPU-second and of served papers a second, as SVG."""
    kernels = {name: part["papers_per_cpu_s"] for name, part in result["kernels"].items()}
    serving = result["serving"]
    served = {name: serving[name]["papers_per_s"] for name in ("plain", "classmark")}
    marks, y = [], 20
    groups = (("papers a CPU-second, one thread", kernels), ("papers a second, served", served))
    for title, group in groups:
        marks.append(f'<text x="10" y="{y}" font-weight="bold">{title}</text>')
        widest = max(group.values())
        for name, value in group.items():
            y += 26
            width = 380 * value / widest
            marks.append(f'<text x="10" y="{y + 4}">{name}</text>')
            marks.append(
                f'<rect x="110" y="{y - 10}" width="{width:.1f}" height="18" fill="#1f5fbf"/>'
            )
            marks.append(f'<text x="{116 + width:.1f}" y="{y + 4}">{value:g}</text>')
        y += 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="600" height="{y}" '
        f'font-family="sans-serif" font-size="13">{"".join(marks)}</svg>\n'
    )


def cpu_name() -> str:
    """Return what the kernel calls the processor."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def main() -> None:
    """Measure, print, and write JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, help="the run's dataset, if it was moved")
    parser.add_argument("--papers", type=Path, help="papers for speed; the test split without it")
    parser.add_argument("--n", type=int, default=200, help="papers for speed")
    parser.add_argument("--n-test", type=int, default=1000, help="papers for accuracy")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
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
    result = {
        "machine": f"{platform.platform()}, {cpu_name()}, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "bundle": f"{bundle.name}@{bundle.version} {bundle.parameters.get('precision', '')}",
        "papers": len(papers),
        "mean_chars": round(statistics.mean(len(t) + len(a) for t, a in papers)),
        "generated": record.generated,
        "threads": default_threads(),
        "kernels": measure_kernels(options.run, papers, test, split.labels[rows]),
        "serving": measure_serving(options.run, options.bundle, papers, options.seconds),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        options.output.with_suffix(".svg").write_text(draw(result))


if __name__ == "__main__":
    main()
