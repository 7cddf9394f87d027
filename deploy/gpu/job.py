"""The GPU job: fit a transformer on prepared pieces, measure it, write it down, without a network.

    python job.py CONFIG.json [--output DIR] [--share 0.01] [KEY=VALUE ...]

Needs Python 3.11, numpy, torch 2.11, transformers and safetensors, and the three files beside it,
one of them classmark's ``network.py``. It reads what ``prepare.py`` wrote (token ids, labels, an
encoder in half precision) and writes what ``collect.py`` turns into a run folder: ``report.json``,
scores of the valid and test papers, weights in half precision. On a CPU it runs in float32, as a
dry run.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job_config import JobConfig
from pieces import (
    SPLITS,
    Batch,
    Split,
    collate,
    make_batches,
    read_split,
    read_weights,
    take_share,
    to_device,
    write_weights,
)
from torch import Tensor, nn

try:
    from classmark.training.transformer.network import (
        EncoderClassifier,
        cross_entropy,
        soft_targets,
    )
except ModuleNotFoundError:  # on the GPU there is no classmark, but a copy of that file
    from network import EncoderClassifier, cross_entropy, soft_targets  # type: ignore[no-redef,import-not-found]

SHOW_EVERY_STEPS = 50


def load_model(folder: Path, n_labels: int, config: JobConfig) -> EncoderClassifier:
    """Return the encoder of a folder with a new head; what is not used is not fitted."""
    from transformers import AutoConfig, AutoModel

    settings = AutoConfig.from_pretrained(folder)
    encoder = AutoModel.from_config(settings, attn_implementation="sdpa")
    missing, unexpected = encoder.load_state_dict(read_weights(folder), strict=False)
    unused = ("pooler.", "embeddings.position_ids")
    wrong = [name for name in [*missing, *unexpected] if not name.startswith(unused)]
    if wrong:
        raise SystemExit(f"the weights in {folder} are not those of its config.json: {wrong[0]}.")
    for name, weight in encoder.named_parameters():
        weight.requires_grad_("pooler." not in name)
    return EncoderClassifier(encoder, n_labels, config.pooling, config.dropout, head_spread=None)


def groups(model: EncoderClassifier, config: JobConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups: lower layers take smaller steps, vectors do not decay."""
    found: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        rate = config.head_rate
        if name.startswith("encoder."):
            depth = model.depth_of(name.removeprefix("encoder."))
            rate = config.encoder_rate * config.layer_decay ** (model.n_layers - depth)
        decay = config.weight_decay if weight.ndim > 1 else 0.0
        found.setdefault((rate, decay), []).append(weight)
    return [
        {"params": p, "lr": rate, "peak": rate, "weight_decay": decay}
        for (rate, decay), p in found.items()
    ]


def flops_per_token(model: EncoderClassifier) -> float:
    """Return multiply-adds times two of one forward pass, attention scores left out."""
    matrices = (p for n, p in model.encoder.named_parameters() if ".layer." in n and p.ndim > 1)
    return 2.0 * sum(matrix.numel() for matrix in matrices)


def loss_of(
    logits: Tensor, split: Split, rows: Tensor, weights: Tensor, config: JobConfig
) -> Tensor:
    """Return the weighted mean cross-entropy against soft targets, in nats."""
    targets = soft_targets(
        split.labels[rows],
        split.listed[rows],
        logits.shape[1],
        listed_share=config.listed_share,
        smoothing=config.label_smoothing,
    )
    weight = weights[split.periods[rows]]
    return cross_entropy(logits, targets, weight) / weight.sum()


@dataclass(frozen=True)
class Place:
    """Where the job runs."""

    device: torch.device
    precision: torch.dtype

    @classmethod
    def here(cls, precision: str) -> Place:
        """Return the GPU if there is one; a CPU computes in float32 whatever was asked for."""
        cuda = torch.cuda.is_available()
        half = cuda and precision == "bf16"
        return cls(
            torch.device("cuda" if cuda else "cpu"), torch.bfloat16 if half else torch.float32
        )

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        )

    def describe(self) -> dict[str, Any]:
        """Return hardware and versions."""
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name()
            if cuda
            else platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "precision": str(self.precision).removeprefix("torch."),
            "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)
            if cuda
            else None,
        }


class Fit:
    """A fit under way: the model, its running average, and what was done so far."""

    def __init__(self, model: EncoderClassifier, place: Place, config: JobConfig) -> None:
        self.model, self.place, self.config = model, place, config
        self.average = copy.deepcopy(model).eval()
        self.forward = torch.compile(model, dynamic=True) if config.compile else model
        fused = place.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(groups(model, config), betas=(0.9, 0.98), fused=fused)
        self.step = self.papers = self.padded_tokens = 0

    def take_step(self, split: Split, batch: Batch, weights: Tensor, scale: float) -> Tensor:
        """Take one step of a share of the peak rate; return the loss."""
        rows, longest = batch.rows.to(self.place.device), batch.longest
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * scale
        inputs = collate(split, rows, longest)
        with self.place.autocast():
            logits = self.forward(*inputs)
        loss = loss_of(logits, split, rows, weights, self.config)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        update_average(self.average, self.model, self.config.average_decay, self.step)
        self.step += 1
        self.papers += len(rows)
        self.padded_tokens += inputs[0].numel()
        return loss.detach()

    def facts(self, seconds: float) -> dict[str, Any]:
        """Return the amount of work, and its speed."""
        tflops = 3 * flops_per_token(self.model) * self.padded_tokens / seconds / 1e12
        peak = self.config.peak_tflops
        return {
            "steps": self.step,
            "papers": self.papers,
            "padded_tokens": self.padded_tokens,
            "seconds": round(seconds, 1),
            "papers_per_second": round(self.papers / seconds, 1),
            "tflops": round(tflops, 3),
            "share_of_peak": round(tflops / peak, 4) if peak else None,
        }


def fit(
    model: EncoderClassifier, split: Split, weights: Tensor, place: Place, config: JobConfig
) -> tuple[nn.Module, dict[str, Any]]:
    """Fit a model in place; return the model to keep (the running average) and what happened."""
    generator = torch.Generator().manual_seed(config.seed)
    lengths = split.lengths.cpu()
    epochs = [make_batches(lengths, config.batch_tokens, generator) for _ in range(config.epochs)]
    n_steps = sum(map(len, epochs))
    under_way = Fit(model, place, config)
    model.train()
    log, status = [], "finished"
    started = time.monotonic()
    for epoch, batches in enumerate(epochs, 1):
        total, n_seen = 0.0, 0
        for batch in batches:
            scale = rate_at(under_way.step / n_steps, config.warmup)
            loss = under_way.take_step(split, batch, weights, scale)
            seconds = time.monotonic() - started
            if under_way.step % SHOW_EVERY_STEPS == 0 or under_way.step == n_steps:
                check_and_show(float(loss), epoch, under_way, n_steps, seconds)
                total, n_seen = total + float(loss), n_seen + 1
            if seconds > config.time_limit_s:
                status = "stopped by time_limit_s"
                break
        log.append({"epoch": epoch, "loss": round(total / max(1, n_seen), 5)})
        if status != "finished":
            break
    if place.device.type == "cuda":
        torch.cuda.synchronize()
    facts = under_way.facts(time.monotonic() - started)
    return under_way.average, {"status": status, "log": log, **facts}


def rate_at(done: float, warmup: float) -> float:
    """Return the share of the peak rate after a share of the steps: up, then down to 0."""
    return done / warmup if done < warmup else (1 - done) / (1 - warmup)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the running average towards the model; early steps count more."""
    now = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - now)


def check_and_show(loss: float, epoch: int, fit: Fit, n_steps: int, seconds: float) -> None:
    """Print how far the fit is, on stderr; stop if the loss is not finite."""
    if not math.isfinite(loss):
        raise SystemExit(f"the loss is {loss} at step {fit.step}. Lower encoder_rate or head_rate.")
    print(  # noqa: T201 - a program, not a library
        f"epoch {epoch}  step {fit.step:,}/{n_steps:,}  loss {loss:.4f}  "
        f"{fit.papers / seconds:,.0f} papers/s",
        file=sys.stderr,
    )


@torch.inference_mode()
def score(model: nn.Module, split: Split, place: Place, batch_tokens: int) -> Tensor:
    """Return the logits of every paper: float32 [n, k] on the CPU."""
    model.eval()
    batches = make_batches(split.lengths.cpu(), batch_tokens, None)
    parts = []
    for batch in batches:
        with place.autocast():
            parts.append(model(*collate(split, batch.rows.to(place.device), batch.longest)))
    scores = torch.cat(parts).float().cpu()
    return scores[torch.argsort(torch.cat([batch.rows for batch in batches]))]


def accuracy(scores: Tensor, split: Split, periods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return papers and top-1/3/5 accuracy, over all and by period."""
    ranks = (scores > scores.gather(1, split.labels.cpu()[:, None])).sum(1)
    found = {}
    for name, rows in {
        "all": slice(None),
        **{p: split.periods.cpu() == i for i, p in enumerate(periods)},
    }.items():
        some = ranks[rows]
        if len(some):
            found[name] = {
                "papers": len(some),
                **{f"top_{n}": round(float((some < n).float().mean()), 4) for n in (1, 3, 5)},
            }
    return found


def run(config: JobConfig, output: Path, share: float) -> dict[str, Any]:
    """Read, fit, score and write; return the report."""
    torch.manual_seed(config.seed)
    data = Path(config.data)
    meta = json.loads((data / "meta.json").read_text(encoding="utf-8"))
    place = Place.here(config.precision)
    splits = {
        name: to_device(
            take_share(
                read_split(data, meta["splits"][name]["files"], config.max_length),
                share,
                config.seed,
            ),
            place.device,
        )
        for name in SPLITS
    }
    model = load_model(data, len(meta["labels"]), config).to(place.device)
    weights = torch.tensor([config.period_weights.get(p, 1.0) for p in meta["periods"]])
    kept, fitted = fit(model, splits["train"], weights.to(place.device), place, config)
    report = {
        "config": {**asdict(config), "data": data.name},
        "share": share,
        "dataset_digest": meta["dataset_digest"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit": fitted,
        "machine": place.describe(),
        "accuracy": {},
    }
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ("valid", "test"):
        scores = score(kept, splits[name], place, config.batch_tokens)
        report["accuracy"][name] = accuracy(scores, splits[name], meta["periods"])
        np.save(partial / f"scores-{name}.npy", scores.numpy().astype(np.float16))
    write_weights(partial, {n: t for n, t in kept.state_dict().items() if "pooler." not in n})
    (partial / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return report


def main() -> None:
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", type=Path, help="a JSON file with every key")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="keys to change")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder to write")
    parser.add_argument("--share", type=float, default=1.0, help="share of the papers, 0..1")
    given = parser.parse_intermixed_args()
    if not 0 < given.share <= 1:
        parser.error(f"--share must be over 0 and at most 1, got {given.share}")
    report = run(JobConfig.read(given.config, given.changes), given.output, given.share)
    shown = {"fit": report["fit"], "accuracy": report["accuracy"]}
    print(json.dumps(shown, indent=1))  # noqa: T201 - a program, not a library


if __name__ == "__main__":
    main()
