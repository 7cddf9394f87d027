"""What compression fits: a teacher, networks that follow it, and fast models of its answers."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import DatasetSplit
from classmark.export import quantise
from classmark.export.onnx import Network
from classmark.export.prune import pooled
from classmark.kernels.calibration import softmax
from classmark.kernels.encoder import padded, plan_runs
from classmark.kernels.linear import LinearArrays
from classmark.kernels.tokens import PairTokenizer
from classmark.pipeline import compose_config
from classmark.records import SILENT
from classmark.training import LinearConfig
from classmark.training.linear import LinearFit, fit_linear, rank_by_importance
from classmark.training.transformer import load_encoder
from classmark.training.transformer.network import EncoderClassifier
from classmark.training.vocabulary import (
    SparsePapers,
    choose_frequent,
    read_occurrences,
    to_sparse,
)

SEED = 7
HEAD_ROUNDS, DECAY, SMOOTHING = 120, 3e-4, 0.05
RATE, BATCH_TOKENS = 3e-5, 1024
SOFT_LABELS = 5
CHUNK = 500

Floats = NDArray[np.float32]
Pairs = list[tuple[str, str]]


def pairs_of(split: DatasetSplit) -> Pairs:
    """Return title and abstract of each paper."""
    return list(zip(split.titles, split.abstracts, strict=True))


def bare_network(n_labels: int, max_length: int) -> Network:
    """Return the packaged encoder with a head that knows nothing."""
    import torch

    encoder = load_encoder("packaged")
    encoder.network.set_attn_implementation("eager")
    torch.manual_seed(SEED)
    module = EncoderClassifier(encoder.network, n_labels, "mean", dropout=0.0).eval()
    tokenizer = PairTokenizer(encoder.tokenizer_json, max_length)
    return Network(module, module.reads_types, n_labels, tokenizer, encoder.tokenizer_json)


def stored(path: Path, make: Callable[[], Floats]) -> Floats:
    """Return an array that a file keeps; make it if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make())
    return np.asarray(np.load(path, allow_pickle=False), np.float32)


def embedded(network: Network, papers: Pairs, folder: Path) -> Floats:
    """Return the vectors of papers, in parts that the next call finds again."""
    parts = []
    for first in range(0, len(papers), CHUNK):
        make = partial(pooled, network, papers[first : first + CHUNK])
        parts.append(stored(folder / f"{first}.npy", make))
    return np.concatenate(parts)


def fit_head(vectors: Floats, labels: NDArray[Any], k: int) -> Floats:
    """Return a head fitted to labels: float32 [k, h + 1], the bias last."""
    import torch

    centre, spread = vectors.mean(axis=0), vectors.std(axis=0) + 1e-3
    x = torch.from_numpy((vectors - centre) / spread)
    truth = torch.from_numpy(labels.astype(np.int64))
    weight = torch.zeros(k, x.shape[1], requires_grad=True)
    bias = torch.zeros(k, requires_grad=True)
    steps = torch.optim.LBFGS([weight, bias], max_iter=HEAD_ROUNDS, line_search_fn="strong_wolfe")
    entropy = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)

    def loss() -> Any:
        steps.zero_grad()
        value = entropy(x @ weight.T + bias, truth) + DECAY * (weight**2).sum()
        value.backward()
        return value

    steps.step(loss)
    scaled = weight.detach().numpy() / spread
    return np.column_stack([scaled, bias.detach().numpy() - scaled @ centre]).astype(np.float32)


def with_head(network: Network, head: Floats) -> Network:
    """Return a network with another head, of ``fit_head``."""
    import torch

    module: Any = copy.deepcopy(network.module)
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(head[:, :-1]))
        module.head.bias.copy_(torch.from_numpy(head[:, -1]))
    return replace(network, module=module)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Papers, and what the teacher says of them: logits float32 [n, k]."""

    papers: Pairs
    wanted: Floats


def fine_tune(network: Network, lesson: Lesson, *, keep_zeros: bool = False) -> Network:
    """Return a network of which all but the embeddings followed the teacher, once over its papers.

    Args:
        network: not changed.
        lesson: papers, and soft targets.
        keep_zeros: weights that are 0 stay 0.
    """
    import torch

    module: Any = copy.deepcopy(network.module)
    fitted = [p for name, p in module.named_parameters() if "embeddings" not in name]
    for parameter in module.parameters():
        parameter.requires_grad_(any(parameter is one for one in fitted))
    masks = [p.detach() != 0 for p in fitted]
    encoded = network.tokenizer.encode(lesson.papers)
    batches = list(plan_runs([len(paper) for paper in encoded], BATCH_TOKENS))
    targets = torch.from_numpy(lesson.wanted).softmax(dim=1)
    steps = torch.optim.AdamW(fitted, lr=RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(steps, RATE, total_steps=len(batches))
    for place in np.random.default_rng(SEED).permutation(len(batches)):
        rows = batches[place]
        feed = padded([encoded[row] for row in rows], network.tokenizer.pad_id)
        logs = module(*(torch.from_numpy(part) for part in feed.values())).log_softmax(dim=1)
        steps.zero_grad()
        (-(targets[rows] * logs).sum(dim=1).mean()).backward()
        torch.nn.utils.clip_grad_norm_(fitted, 1.0)
        steps.step()
        rates.step()
        if keep_zeros:
            with torch.no_grad():
                for parameter, mask in zip(fitted, masks, strict=True):
                    parameter *= mask
    return replace(network, module=module.eval())


def zero_weights(network: Network, share: float) -> Network:
    """Return a network whose matrices lost the share of their numbers nearest to 0."""
    import torch

    module: Any = copy.deepcopy(network.module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2 and "embeddings" not in name:
                limit = parameter.abs().flatten().kthvalue(int(share * parameter.numel())).values
                parameter *= parameter.abs() > limit
    return replace(network, module=module)


def soft_papers(papers: SparsePapers, wanted: Floats, share: float, labels: NDArray[Any]) -> Any:
    """Return papers, each once for each label that it may have, with label and weight of each.

    The sum over them is the cross-entropy against soft targets: ``share`` of the teacher's
    (its first few labels), the rest of the true label. The true label fills as many places as
    the teacher's, so that every share makes for as many steps.
    """
    top = np.argsort(-wanted, axis=1)[:, :SOFT_LABELS]
    p = np.take_along_axis(softmax(wanted, 1.0)[0], top, axis=1)
    true = np.repeat(np.asarray(labels)[:, None], SOFT_LABELS, axis=1)
    parts = [
        (top, share * p / p.sum(axis=1, keepdims=True)),
        (true, np.full(true.shape, (1 - share) / SOFT_LABELS)),
    ]
    targets, weights = (
        np.concatenate([part[i] for part in parts if part[1].any()], axis=1) for i in (0, 1)
    )
    rows = np.repeat(np.arange(len(p)), targets.shape[1])
    lengths = np.diff(papers.starts)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    at = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    at += np.repeat(papers.starts[rows], lengths)
    repeated = SparsePapers(papers.columns[at], papers.values[at], starts)
    chosen = weights.ravel().astype(np.float32)
    return repeated, targets.ravel().astype(np.int16), chosen / chosen.mean()


def fit_fast(lesson: Lesson, labels: NDArray[Any], share: float) -> tuple[LinearArrays, float]:
    """Return a fast model of papers and the CPU-seconds of its fit.

    Args:
        lesson: papers, and what the teacher says of them.
        labels: int16 [n], the true columns.
        share: of the targets that is the teacher's.
    """
    config = compose_config(["dataset.path=.", "model.min_papers=3"]).options(LinearConfig)
    started = time.process_time()
    occurrences = read_occurrences(lesson.papers, SILENT)
    keys, _ = choose_frequent(occurrences, config.min_papers)
    parent = None
    for _ in range(2):  # the parent, then the model that is as it is shipped
        papers, targets, weights = soft_papers(
            to_sparse(occurrences, keys), lesson.wanted, share, labels
        )
        fit = LinearFit(
            papers=papers,
            keys=keys,
            labels=targets,
            weights=weights,
            config=config,
            n_labels=lesson.wanted.shape[1],
            seed=SEED,
            start=parent,
        )
        fitted, _ = fit_linear(fit)
        kept = np.sort(rank_by_importance(fitted, papers)[: config.max_features])
        parent, keys = fitted.select(kept), keys[kept]
    arrays = quantise(fitted.keys, fitted.embedding, fitted.head, fitted.bias)
    return arrays, time.process_time() - started


def bytes_of(arrays: LinearArrays) -> int:
    """Return the size of a fast model."""
    parts: Sequence[NDArray[Any]] = list(arrays.arrays().values())
    return sum(part.nbytes for part in parts)
