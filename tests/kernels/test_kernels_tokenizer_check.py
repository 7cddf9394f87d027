"""A tokenizer.json is data: nothing in it runs for long, grows a text, or is random."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from classmark.errors import InvalidScores, UnreadableSource
from classmark.kernels.tokens import PairTokenizer, tokenizer_problem

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "graph", "theory"]


def sound() -> dict[str, Any]:
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(WORDS)},
        },
    }


def with_part(part: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda tokenizer: tokenizer.update({part: value})


def with_model(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda tokenizer: tokenizer["model"].update(changes)


def replacing(kind: str, pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def chain(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def charsmap(*replacements: bytes) -> dict[str, str]:
    table = struct.pack("<I", 8) + b"\0" * 8 + b"".join(r + b"\0" for r in replacements)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def test_a_sound_tokenizer_passes() -> None:
    assert tokenizer_problem(json.dumps(sound()).encode()) is None
    assert len(PairTokenizer(json.dumps(sound()).encode(), 8).encode([("graph", "theory")])[0]) == 5


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        charsmap(b"a", "\ufdfa".encode() * 3),
        chain({"type": "NFKC"}, replacing("String", "``", '"'), replacing("Regex", " {2,}", " ")),
        chain({"type": "Prepend", "prepend": "▁"}, replacing("String", " ", "▁")),
    ],
)
def test_what_known_encoders_use_passes(normalizer: Any) -> None:
    assert tokenizer_problem(json.dumps({**sound(), "normalizer": normalizer}).encode()) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (with_part("normalizer", replacing("Regex", "(a|a)*b", "")), "whose time is not bounded"),
        (with_part("normalizer", replacing("String", "a", "a" * 9)), "which is longer"),
        (with_part("normalizer", replacing("String", "", "a")), "whose time is not bounded"),
        (with_part("normalizer", replacing("Regex", " {2,}", "ab")), "which is longer"),
        (
            with_part("normalizer", {"type": "Replace", "pattern": "a", "content": ""}),
            "the pattern",
        ),
        (with_part("normalizer", {"type": "Prepend", "prepend": "ab"}), "prepends 'ab'"),
        (with_part("normalizer", charsmap(b"x" * 65)), "more than 64 bytes of a character"),
        (with_part("normalizer", {"type": "Precompiled", "precompiled_charsmap": "?"}), "64 bytes"),
        (with_part("normalizer", {"type": "Unheard"}), "of the type 'Unheard'"),
        (with_part("normalizer", {"lowercase": True}), "of the type None"),
        (with_part("normalizer", chain({"type": "NFKD"}, {"type": "NFKD"})), "more than once"),
        (with_part("normalizer", chain(*[{"type": "Strip"}] * 40)), "more than 32 parts"),
        (with_part("normalizer", {"type": "Sequence", "normalizers": 7}), "of the type None"),
        (
            with_part("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}}),
            "whose time is not bounded",
        ),
        (with_part("post_processor", [1]), "of the type None"),
        (with_part("model", None), "has no model"),
        (with_model(dropout=0.1), "leaves out merges at random"),
        (with_model(max_input_chars_per_word=10**9), "max_input_chars_per_word is 1000000000"),
        (with_part("added_tokens", [{"content": "x" * 201}]), "of 1 to 200 characters"),
        (with_part("added_tokens", [{"content": ""}]), "of 1 to 200 characters"),
        (with_part("added_tokens", [1] * 10_001), "more than 10,000 added tokens"),
        (with_part("decoder", json.loads("[" * 40 + "]" * 40)), "at most 32 levels"),
    ],
)
def test_what_could_cost_a_worker_is_refused(
    change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    tokenizer = sound()
    change(tokenizer)
    with pytest.raises(UnreadableSource, match=problem):
        PairTokenizer(json.dumps(tokenizer).encode(), 8)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "recursion"),
        (b'{"model": {}, "model": {}}', "it has a key more than once"),
        (b"\xff", "codec"),
        (b"[]", "it is not an object"),
        (b" " * ((64 << 20) + 1), "more than 67,108,864"),
    ],
)
def test_what_is_no_plain_json_object_is_refused(content: bytes, problem: str) -> None:
    seen = tokenizer_problem(content)
    assert seen is not None
    assert problem in seen


def test_a_vocabulary_that_reaches_too_far_is_refused_before_memory_is_taken_for_it() -> None:
    tokenizer = sound()
    tokenizer["model"]["vocab"]["far"] = 4_000_000_000
    with pytest.raises(UnreadableSource, match="a token of number 4,000,000,000, at most 999,999"):
        PairTokenizer(json.dumps(tokenizer).encode(), 8)


def test_a_template_with_more_special_tokens_than_a_paper_has_room_for_is_refused() -> None:
    tokenizer = sound()
    special = {"id": "[SEP]", "ids": [3] * 9, "tokens": ["[SEP]"] * 9}
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": pair[:1],
        "pair": [*pair, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
        "special_tokens": {"[SEP]": special},
    }
    with pytest.raises(UnreadableSource, match="adds 9 tokens to a paper, more than 4"):
        PairTokenizer(json.dumps(tokenizer).encode(), 16)


def test_a_text_that_the_tokenizer_cannot_read_is_an_error_of_ours() -> None:
    tokenizer = sound()
    del tokenizer["model"]["vocab"]["[UNK]"]
    with pytest.raises(InvalidScores, match="the tokenizer cannot read a text"):
        PairTokenizer(json.dumps(tokenizer).encode(), 8).encode([("unheard", "of")])
