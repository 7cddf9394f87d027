"""Compression: soft targets, students and static int8 do what the table says of them."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs classmark[deep]")

import torch
from transformers import AutoModel

from classmark.export.onnx import Network, network_scorer, to_onnx, torch_logits
from classmark.export.prune import prune_layers
from classmark.kernels.tokens import PairTokenizer
from classmark.training.transformer.network import EncoderClassifier
from classmark.training.vocabulary import SparsePapers
from compression import is_best, static_int8
from compression_fits import Lesson, fine_tune, soft_papers, zero_weights
from deep_models import write_tiny_encoder

pytestmark = pytest.mark.slow  # reason: imports torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "figures"))
PAPERS = [(f"{topic} of models", f"we prove a {word} bound") for topic in ("graph", "network",
          "galaxy", "market") for word in ("sparse", "deep", "new", "large")]  # fmt: skip
K = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("encoder")
    write_tiny_encoder(folder, num_hidden_layers=3, initializer_range=0.2)
    encoder = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    torch.manual_seed(1)
    module = EncoderClassifier(encoder, K, "mean", 0.0, head_spread=1.0).eval()
    content = (folder / "tokenizer.json").read_bytes()
    return Network(module, module.reads_types, K, PairTokenizer(content, 32), content)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_repeated_papers_add_up_to_the_cross_entropy_of_their_soft_targets(share: float) -> None:
    rng = np.random.default_rng(2)
    papers = SparsePapers(
        np.arange(6, dtype=np.int32), np.ones(6, np.float32), np.array([0, 1, 3, 6])
    )
    wanted, labels = rng.normal(size=(3, K)).astype(np.float32), np.array([4, 0, 2], np.int16)
    repeated, targets, weights = soft_papers(papers, wanted, share, labels)
    soft = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)
    expected = share * soft + (1 - share) * np.eye(K)[labels]
    given = np.zeros((3, K))
    for row, (target, weight) in enumerate(zip(targets, weights, strict=True)):
        columns = repeated.columns[repeated.starts[row] : repeated.starts[row + 1]]
        paper = int(np.searchsorted(papers.starts, columns[0], side="right")) - 1
        assert columns.tolist() == papers.columns[papers.starts[paper] :][: len(columns)].tolist()
        given[paper, target] += weight
    np.testing.assert_allclose(given / given.sum(axis=1, keepdims=True), expected, atol=1e-6)


def divergence(network: Network, wanted: Any) -> float:
    given = torch.from_numpy(torch_logits(network, PAPERS)).log_softmax(dim=1)
    logs = torch.from_numpy(wanted).log_softmax(dim=1)
    return float((logs.exp() * (logs - given)).sum(dim=1).mean())


def test_a_student_comes_closer_to_its_teacher(whole: Network) -> None:
    wanted = torch_logits(whole, PAPERS)
    before = prune_layers(whole, 2, PAPERS)
    after = fine_tune(before, Lesson(PAPERS * 8, np.tile(wanted, (8, 1))))
    assert divergence(after, wanted) < divergence(before, wanted)


def test_zeroed_weights_stay_zero_while_the_rest_is_fitted(whole: Network) -> None:
    zeroed = zero_weights(whole, 0.5)
    wanted = np.tile(torch_logits(whole, PAPERS), (20, 1))
    fitted = fine_tune(zeroed, Lesson(PAPERS * 20, wanted), keep_zeros=True)
    before, after = (dict(n.module.named_parameters()) for n in (zeroed, fitted))
    matrices = [name for name, p in before.items() if p.ndim == 2 and "embeddings" not in name]
    assert len(matrices) > 10
    for name in matrices:
        assert float((before[name] == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
        assert bool((after[name][before[name] == 0] == 0).all())
    assert not torch.equal(before["head.weight"], after["head.weight"])


@pytest.mark.filterwarnings("ignore")  # onnxruntime's quantiser deprecates what it calls itself
def test_static_int8_gives_nearly_the_same_logits_in_fewer_bytes(whole: Network) -> None:
    plain = to_onnx(whole)
    model = partial(static_int8, whole, PAPERS)(plain)
    assert len(model) < 0.6 * len(plain)
    given = network_scorer(whole, model).score(PAPERS).scores
    expected = torch_logits(whole, PAPERS)
    assert np.abs(given - expected).max() < 0.3 * np.abs(expected).max()


def way(name: str, top_1: float, mb: float, rate: float) -> dict[str, Any]:
    family = "fast" if name == "fast" else "bits"
    return {"name": name, "family": family, "top_1": top_1, "mb": mb, "papers_per_cpu_s": rate}


def test_the_curve_joins_what_no_other_way_beats() -> None:
    from of_compression import pareto

    ways = [
        way("plain", 0.5, 90, 60),
        way("small", 0.5, 20, 120),
        way("tiny", 0.4, 2, 9000),
        way("bad", 0.39, 30, 100),
    ]
    with_fast = [*ways, way("fast", 0.6, 1, 90_000)]
    best = [one["name"] for one in with_fast if is_best(one, with_fast)]
    assert best == ["small", "tiny", "fast"]
    by_rate = pareto(ways, lambda one: float(one["papers_per_cpu_s"]), 1)
    by_size = pareto(ways, lambda one: float(one["mb"]), -1)
    assert [one["name"] for one in by_rate] == ["tiny", "small"]
    assert [one["name"] for one in by_size] == ["tiny", "small"]
