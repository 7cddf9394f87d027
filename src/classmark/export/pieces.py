"""A smaller vocabulary: the pieces of words that papers hardly use leave tokenizer and embedding.

A WordPiece tokenizer takes the longest piece that fits, so that a text of which no piece leaves has
the same tokens as before. Another word is cut into shorter pieces: all single characters stay.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig
from classmark.export.onnx import Network, Papers
from classmark.kernels.tokens import PairTokenizer

_CHUNK_PAPERS = 1000
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""These stay even where no other part of the tokenizer names them: Transformers asks for them."""


def count_pieces(tokenizer: PairTokenizer, papers: Papers) -> NDArray[np.int64]:
    """Return how often papers use each piece: int64 [vocabulary]."""
    counts = np.zeros(tokenizer.last_id + 1, dtype=np.int64)
    for first in range(0, len(papers), _CHUNK_PAPERS):
        for paper in tokenizer.encode(papers[first : first + _CHUNK_PAPERS]):
            counts += np.bincount(paper.ids, minlength=len(counts))
    return counts


def choose_pieces(content: bytes, counts: NDArray[np.int64], share: float) -> NDArray[np.intp]:
    """Return the ids that stay when a share of the vocabulary leaves, the rarest first.

    Args:
        content: a ``tokenizer.json``.
        counts: int64 [vocabulary], of each id.
        share: that leaves, 0..1.

    Raises:
        InvalidConfig: the tokenizer is of another kind than WordPiece, or that many cannot leave.
    """
    value = _read_wordpiece(content)
    vocabulary: dict[str, int] = value["model"]["vocab"]
    prefix = value["model"].get("continuing_subword_prefix", "##")
    needed = {
        *_named_elsewhere(value),
        *(i for t, i in vocabulary.items() if _must_stay(t, prefix)),
    }
    spare = np.array(sorted(set(vocabulary.values()) - needed), dtype=np.intp)
    n = int(share * len(vocabulary))
    if n > len(spare):
        raise InvalidConfig(
            f"--prune vocabulary={share:g}: of {len(vocabulary):,} pieces {n:,} should leave, but "
            f"only {len(spare):,} are neither special nor single characters. Give "
            f"vocabulary={np.floor(100 * len(spare) / len(vocabulary)) / 100:g} or less."
        )
    leaving = spare[np.argsort(counts[spare], kind="stable")[:n]]
    everything = {*vocabulary.values(), *needed}
    return np.array(sorted(everything - set(leaving.tolist())), dtype=np.intp)


def keep_pieces(content: bytes, kept: NDArray[np.intp]) -> bytes:
    """Return a ``tokenizer.json`` with only some pieces, numbered from 0 in the order of their ids.

    Args:
        content: of a WordPiece tokenizer.
        kept: int [n], ids in ascending order, as ``choose_pieces`` returns them.
    """
    value = _read_wordpiece(content)
    number = {int(old): new for new, old in enumerate(kept)}
    model = value["model"]
    model["vocab"] = {t: number[i] for t, i in model["vocab"].items() if i in number}
    for holder, key in _ids_elsewhere(value):
        found = holder[key]
        holder[key] = [number[i] for i in found] if isinstance(found, list) else number[found]
    return json.dumps(value, ensure_ascii=False).encode()


def prune_vocabulary(network: Network, kept: NDArray[np.intp]) -> Network:
    """Return a network with only some pieces: its tokenizer, and the rows of its embedding."""
    import torch

    module: Any = copy.deepcopy(network.module)
    before = module.encoder.get_input_embeddings()
    number = {int(old): new for new, old in enumerate(kept)}
    after = torch.nn.Embedding.from_pretrained(
        before.weight.detach()[torch.from_numpy(kept)].clone(),
        freeze=False,
        padding_idx=None if before.padding_idx is None else number.get(before.padding_idx),
    )
    module.encoder.set_input_embeddings(after)
    config = module.encoder.config
    config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, number.get(getattr(config, name)))
    content = keep_pieces(network.tokenizer_json, kept)
    tokenizer = PairTokenizer(content, network.tokenizer.max_length)
    return replace(network, module=module, tokenizer=tokenizer, tokenizer_json=content)


def _read_wordpiece(content: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(content)
    kind = value["model"].get("type")
    if kind != "WordPiece":
        raise InvalidConfig(
            f"--prune vocabulary: the tokenizer is of the type {kind}, whose pieces depend on each "
            "other. Only a WordPiece vocabulary can be pruned; prune layers or heads instead."
        )
    return value


def _must_stay(token: str, prefix: str) -> bool:
    return token in _SPECIAL or len(token.removeprefix(prefix)) <= 1


def _named_elsewhere(value: dict[str, Any]) -> Iterator[int]:
    """Yield the ids that other parts of a tokenizer name, and that of the unknown piece."""
    for holder, key in _ids_elsewhere(value):
        found = holder[key]
        yield from found if isinstance(found, list) else [found]
    unknown = value["model"]["vocab"].get(value["model"].get("unk_token"))
    if unknown is not None:
        yield unknown


def _ids_elsewhere(value: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield where a tokenizer has an id outside its vocabulary: the holder, and the key in it."""
    for token in value.get("added_tokens") or ():
        yield token, "id"
    if value.get("padding"):
        yield value["padding"], "pad_id"
    waiting = [value["post_processor"]] if value.get("post_processor") else []
    while waiting:
        processor = waiting.pop()
        waiting += processor.get("processors", [])
        for name in ("sep", "cls"):
            if isinstance(processor.get(name), list):  # ["[SEP]", 102]
                yield processor[name], 1
        special = processor.get("special_tokens")
        for token in special.values() if isinstance(special, dict) else ():
            yield token, "ids"
