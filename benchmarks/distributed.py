"""Measures a fit by one and by two processes, and models what more of them would give.

python benchmarks/distributed.py --output benchmarks/reports/distributed.json
    [--plot docs/images/distributed.svg]

A step of the deep tier is timed on this machine: by one process with one thread, by one with two,
and by two with one each (DDP over gloo), in turns, so that other work on the machine disturbs all
alike. The exchange of the gradients is timed by itself. From both, and from data sheets, the time
of a step is derived for more processes and other hardware: nothing of that was measured.
Needs [deep].
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from classmark.pipeline import compose_config
from classmark.training import TransformerConfig
from classmark.training.transformer import EncoderClassifier, load_encoder
from classmark.training.transformer.network import cross_entropy
from classmark.training.transformer.processes import Processes, joined
from report import run_benchmark, start_plot, write_plot

LABELS, SEED, DEVICES = 176, 7, 2
COUNTS = (1, 2, 4, 8, 16, 64)
FORWARD_AND_BACKWARD = 6  # operations a parameter and token: 2 forward, 4 backward
MODES = {"one process, one thread": (1, 1), "one process, two threads": (1, 2),
         "two processes, one thread each": (2, 1)}  # fmt: skip


@dataclass(frozen=True)
class Hardware:
    """What a model is calculated on, and how processes are joined.

    Attributes:
        name: in the table.
        source: where the numbers are from.
        flops: operations a second that a process reaches; None: as measured here.
        bytes_per_s: of the link, in one direction.
        latency_s: of one message.
    """

    name: str
    source: str
    flops: float | None
    bytes_per_s: float
    latency_s: float


# 989 TFLOP/s (bf16, dense), 900 GB/s NVLink in both directions together: NVIDIA's data sheet of the
# H100 SXM. Small encoders reach a fraction of it; a third is a usual assumption.
H100 = 989e12 / 3
_HERE, _SHEET = "compute measured here, link by its name", "a third of the data sheet's 989 TFLOP/s"
HARDWARE = (
    Hardware("processors, 1 Gbit/s", _HERE, None, 125e6, 1e-4),
    Hardware("processors, 10 Gbit/s", _HERE, None, 1.25e9, 5e-5),
    Hardware("H100, NVLink", f"{_SHEET}; 450 GB/s", H100, 450e9, 1e-5),
    Hardware("H100, 400 Gbit/s", f"{_SHEET}; 50 GB/s", H100, 50e9, 2e-5),
)


@dataclass(frozen=True)
class Work:
    """A step: batches of random tokens, all of one length, so that every one costs the same."""

    papers: int
    batches: int
    tokens: int
    rounds: int


def options_of(encoder: str) -> TransformerConfig:
    """Return the configuration of the two processes."""
    words = ["model=transformer", "dataset.path=unused", "model.device=cpu", "model.threads=1"]
    config = compose_config([*words, f"model.devices={DEVICES}", f"model.encoder={encoder}"])
    return config.options(TransformerConfig)


def take_turns(encoder: str, work: Work) -> dict[str, Any]:
    """Return what every way took; the second process calls this too, and waits in between."""
    config = options_of(encoder)
    with joined(config, partial(take_turns, encoder, work)) as processes:
        torch.manual_seed(SEED)
        model = EncoderClassifier(load_encoder(encoder).network, LABELS, "mean", 0.0)
        model.train_top(model.n_layers + 1)
        beside = DistributedDataParallel(model, find_unused_parameters=True)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in MODES}
        run_step(beside, work, processes)  # the first one allocates
        for _ in range(work.rounds):
            for name, (count, threads) in MODES.items():
                torch.set_num_threads(threads)
                dist.barrier()
                alone = count == 1
                used = {"wall_s": 0.0, "cpu_s": 0.0}
                if not alone or processes.is_first:
                    used = timed(model if alone else beside, work, None if alone else processes)
                used["cpu_s"] = processes.sum(used["cpu_s"])
                turns[name].append(used)
        fitted = [p for p in model.parameters() if p.grad is not None]
        n_bytes = 4 * sum(p.numel() for p in fitted)
        exchange = [exchange_s(n_bytes) for _ in range(work.rounds)]
    inner = sum(p.numel() for n, p in model.encoder.named_parameters()
                if model.depth_of(n) and "pooler" not in n)  # fmt: skip
    return {"turns": turns, "gradient_bytes": n_bytes, "exchange_s": exchange,
            "inner_parameters": inner}  # fmt: skip


def timed(model: Any, work: Work, processes: Processes | None) -> dict[str, float]:
    """Return wall and CPU seconds of a step in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run_step(model, work, processes)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def run_step(model: Any, work: Work, processes: Processes | None) -> None:
    """Calculate the gradients of this process's share of a step."""
    mine = work.batches // (processes.count if processes else 1)
    size = work.papers // work.batches
    model.zero_grad()
    for left, batch in zip(reversed(range(mine)), batches_of(mine, size, work.tokens), strict=True):
        with model.no_sync() if processes and left else nullcontext():
            logits = model(batch, torch.ones_like(batch), torch.zeros_like(batch))
            targets = torch.full_like(logits, 1 / LABELS)
            (cross_entropy(logits, targets, torch.ones(len(batch))) / work.papers).backward()


def batches_of(n: int, size: int, tokens: int) -> Iterator[torch.Tensor]:
    """Yield batches of random tokens."""
    random = torch.Generator().manual_seed(SEED)
    for _ in range(n):
        yield torch.randint(5, 100, (size, tokens), generator=random)


def exchange_s(n_bytes: int) -> float:
    """Return the seconds that summing as many bytes over the processes takes."""
    gradients = torch.zeros(n_bytes // 4)
    dist.barrier()
    begun = time.perf_counter()
    dist.all_reduce(gradients)
    return time.perf_counter() - begun


def exchange_model_s(n: int, n_bytes: int, hardware: Hardware) -> float:
    """Return the seconds of a ring exchange: each process sends 2 (n - 1) / n of the bytes."""
    sent = 2 * (n - 1) / n * n_bytes
    return sent / hardware.bytes_per_s + 2 * (n - 1) * hardware.latency_s


def scaling(
    hardware: Hardware, paper_s: float, n_bytes: int, papers: int, *, each: bool
) -> list[dict[str, Any]]:
    """Return the derived step of each number of processes, calculating and exchanging in turn.

    Args:
        hardware: what joins them.
        paper_s: seconds that a process calculates for a paper.
        n_bytes: of the gradients.
        papers: of a step: of each process, or of all together.
        each: whether they are of each.
    """
    found = []
    for n in COUNTS:
        compute = paper_s * (papers if each else papers / n)
        exchange = exchange_model_s(n, n_bytes, hardware) if n > 1 else 0.0
        of_all = papers * n if each else papers
        found.append({
            "processes": n, "compute_s": compute, "exchange_s": exchange,
            "papers_per_s": of_all / (compute + exchange),
            "efficiency": float(f"{compute / (compute + exchange):.4g}"),
        })  # fmt: skip
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was measured, and what follows of it for other machines."""
    work = Work(options.papers, options.batches, options.tokens, options.rounds)
    found = take_turns(str(options.encoder), work)
    modes = {
        name: {key: round(statistics.median(turn[key] for turn in turns), 3)
               for key in ("wall_s", "cpu_s")}
        for name, turns in found["turns"].items()
    }  # fmt: skip
    alone, _, both = modes.values()
    n_bytes, exchange = found["gradient_bytes"], statistics.median(found["exchange_s"])
    paper_flop = FORWARD_AND_BACKWARD * found["inner_parameters"] * work.tokens
    derived = []
    for hardware in HARDWARE:
        paper_s = paper_flop / hardware.flops if hardware.flops else alone["cpu_s"] / work.papers
        derived.append({
            **asdict(hardware), "paper_s": paper_s,
            "papers_a_step_fixed": scaling(hardware, paper_s, n_bytes, work.papers, each=False),
            "papers_a_process_fixed": scaling(hardware, paper_s, n_bytes, work.papers, each=True),
        })  # fmt: skip
    return {
        "devices": DEVICES,
        "backend": "gloo",
        "step": asdict(work),
        "measured": modes,
        "speed_up": {"wall": round(alone["wall_s"] / both["wall_s"], 3),
                     "of_cpu": round(alone["cpu_s"] / both["cpu_s"], 3)},
        "gradient_bytes": n_bytes,
        "exchange_s": round(exchange, 4),
        "exchange_bytes_per_s": round(n_bytes / exchange),
        "inner_parameters": found["inner_parameters"],
        "paper_gflop": round(paper_flop / 1e9, 2),
        "derived": derived,
    }  # fmt: skip


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw the derived efficiency over the number of processes."""
    figure, axes = start_plot().subplots(figsize=(8.5, 3.2), layout="constrained")
    colours = ("#c0d4f4", "#7aa6e8", "#1f5fbf", "#d9822b")
    for of, colour in zip(report["derived"], colours, strict=True):
        for key, style in (("papers_a_process_fixed", "-"), ("papers_a_step_fixed", ":")):
            steps = of[key]
            label = of["name"] if style == "-" else None
            axes.plot([s["processes"] for s in steps], [100 * s["efficiency"] for s in steps],
                      style, color=colour, label=label, marker="o", markersize=3)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(COUNTS, [str(n) for n in COUNTS])
    axes.set_xlabel("processes (derived)")
    papers = report["step"]["papers"]
    axes.set_title(f"share of a step that is not exchange, %; solid: {papers} papers each, dotted: "
                   f"{papers} in all", size=9)  # fmt: skip
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    write_plot(figure, path)


FLAGS: dict[str, dict[str, Any]] = {
    "--encoder": {"default": "packaged", "help": "as model.encoder takes it; packaged"},
    "--papers": {"type": int, "default": 32, "help": "papers of a step; 32"},
    "--batches": {"type": int, "default": 2, "help": "batches of a step; 2"},
    "--tokens": {"type": int, "default": 128, "help": "tokens of each paper; 128"},
    "--rounds": {"type": int, "default": 5, "help": "rounds; the median counts; 5"},
}

if __name__ == "__main__":
    tiny = {"papers": 4, "tokens": 8, "rounds": 1}
    run_benchmark(__doc__, measure, FLAGS, tiny=tiny, plot=plot)
