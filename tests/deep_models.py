"""A tiny random encoder, in the files of a real one: it trains in seconds and needs no download."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HIDDEN, LAYERS = 32, 2
_WORD = re.compile(r"[a-z]+")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with config.json, model.safetensors, tokenizer.json of a BERT of 2 layers."""
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    write_tiny_encoder(folder)
    return folder


def write_tiny_encoder(folder: Path, seed: int = 1, **changes: Any) -> None:
    """Write the encoder; changes go to its BertConfig."""
    import torch
    from transformers import BertConfig, BertModel

    words = sample_words()
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "vocab_size": len(words),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 256,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(BertConfig(**values)).save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json", words)
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")


def write_tokenizer(path: Path, words: list[str]) -> None:
    """Write a lower-casing WordPiece tokenizer whose ids are the places of the words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing

    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(
        ("[SEP]", words.index("[SEP]")), ("[CLS]", words.index("[CLS]"))
    )
    tokenizer.save(str(path))


def sample_words() -> list[str]:
    """Return special tokens, letters, pieces, and the words that the sample generator writes."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    marks = list("0123456789.,;:()-'")
    text = " ".join(
        files("classmark.dataset.sample").joinpath(name).read_text("utf-8").lower()
        for name in ("vocabulary.json", "phrasing.json")
    )
    words = sorted(set(_WORD.findall(text)) - set(letters))
    return [*SPECIAL, *letters, *marks, *(f"##{letter}" for letter in letters), *words]
