"""Run folders of transformers, as `classmark train model=transformer` writes them, in seconds.

The encoder stays random (or as packaged); only the head is fitted, by a few steps in numpy.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import load_manifest, read_split
from classmark.kernels.tokens import PairTokenizer
from classmark.pipeline.run_folder import path_from_run

MAX_LENGTH = 64
_STEPS, _RATE = 300, 2.0


def write_deep_run(
    folder: Path,
    dataset: Path,
    encoder: Path,
    *,
    max_length: int = MAX_LENGTH,
    pooling: str = "mean",
    most_papers: int = 400,
) -> Path:
    """Write a run of an encoder with a fitted head, and return its folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel

    manifest = load_manifest(dataset)
    network = AutoModel.from_pretrained(encoder, local_files_only=True).eval()
    split = read_split(dataset, "train", manifest)
    papers = list(zip(split.titles, split.abstracts, strict=True))[:most_papers]
    pooled = _embed(network, encoder, papers, max_length, pooling)
    k = len(manifest.labels)
    weight, bias = _fit_head(pooled, np.asarray(split.labels[: len(papers)]), k)
    (folder / "encoder").mkdir(parents=True)
    (folder / "weights").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(encoder / name, folder / "encoder" / name)
    tensors = {f"encoder.{name}": t.contiguous() for name, t in network.state_dict().items()}
    tensors |= {"head.weight": torch.from_numpy(weight), "head.bias": torch.from_numpy(bias)}
    save_file(tensors, folder / "weights" / "model.safetensors")
    provenance = {
        "kind": "transformer",
        "command": "classmark train model=transformer in-a-test",
        "seed": 7,
        "dataset": path_from_run(dataset, folder),
        "dataset_digest": manifest.digest,
        "labels": list(manifest.labels),
        "label_space": manifest.label_space,
        "generated": manifest.generated,
        "date": "2026-01-01T00:00:00+00:00",
        "commit": None,
        "packages": {},
        "encoder": {"name": encoder.name, "source": "folder", "hidden_size": weight.shape[1]},
        "pooling": pooling,
        "max_length": max_length,
    }
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    return folder


def _embed(
    network: Any, encoder: Path, papers: list[tuple[str, str]], max_length: int, pooling: str
) -> NDArray[np.float32]:
    import torch

    from classmark.training.transformer.network import pool

    rows = []
    # Threads that wait for each other stand still on a busy machine; the encoder is tiny.
    torch.set_num_threads(1)
    with torch.inference_mode():
        for paper in PairTokenizer(encoder / "tokenizer.json", max_length).encode(papers):
            ids = torch.from_numpy(paper.ids.astype(np.int64))[None]
            types = torch.from_numpy(paper.types.astype(np.int64))[None]
            mask = torch.ones_like(ids)
            hidden = network(input_ids=ids, attention_mask=mask, token_type_ids=types)
            chosen: Any = pooling
            rows.append(pool(hidden.last_hidden_state, mask, chosen)[0].numpy())
    return np.stack(rows)


def _fit_head(
    pooled: NDArray[np.float32], labels: NDArray[Any], k: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight [k, h] and bias [k] of a softmax over standardised vectors."""
    centre, spread = pooled.mean(axis=0), pooled.std(axis=0) + 1e-3
    x = (pooled - centre) / spread
    truth = np.eye(k, dtype=np.float32)[labels]
    weight, bias = np.zeros((k, x.shape[1])), np.zeros(k)
    for _ in range(_STEPS):
        logits = x @ weight.T + bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        gap = (p / p.sum(axis=1, keepdims=True) - truth) / len(x)
        weight -= _RATE * (gap.T @ x)
        bias -= _RATE * gap.sum(axis=0)
    scaled = weight / spread
    return scaled.astype(np.float32), (bias - scaled @ centre).astype(np.float32)
