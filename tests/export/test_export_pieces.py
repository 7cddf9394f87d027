"""A pruned vocabulary: what only uses the pieces that stay has the same tokens as before."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("tokenizers", reason="vocabularies are those of tokenizers")

from tokenizers import Tokenizer

from classmark.errors import InvalidConfig
from classmark.export.pieces import choose_pieces, count_pieces, keep_pieces
from classmark.kernels.tokens import PairTokenizer
from deep_models import sample_words, write_tokenizer

WORDS = sample_words()
PAPERS = [("sparse graphs", "we prove a bound on sparse graphs."), ("deep networks", "we train.")]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a WordPiece tokenizer as people publish them: with ids in all the places there are."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path, WORDS)
    value = json.loads(path.read_bytes())
    value["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    value["added_tokens"] = [
        {"id": WORDS.index(token), "content": token, "special": True, **dict.fromkeys(flags, False)}
        for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    ]
    return json.dumps(value).encode()


def counts_of(content: bytes, papers: list[tuple[str, str]]) -> NDArray[np.int64]:
    return count_pieces(PairTokenizer(content, 64), papers)


@pytest.fixture(scope="module")
def pruned(content: bytes) -> bytes:
    return keep_pieces(content, choose_pieces(content, counts_of(content, PAPERS), 0.6))


def pieces(content: bytes, text: str) -> list[str]:
    tokens: list[str] = Tokenizer.from_buffer(content).encode(text).tokens
    return tokens


def vocabulary(content: bytes) -> dict[str, int]:
    found: dict[str, int] = json.loads(content)["model"]["vocab"]
    return found


@given(st.lists(st.sampled_from(WORDS[5:]), max_size=12).map(" ".join))
def test_a_text_of_pieces_that_stay_has_the_same_tokens(
    content: bytes, pruned: bytes, text: str
) -> None:
    before, after = pieces(content, text), pieces(pruned, text)
    if set(before) <= vocabulary(pruned).keys():
        assert after == before
    assert set(after) <= vocabulary(pruned).keys()


@given(st.text(max_size=40))
def test_a_pruned_vocabulary_knows_every_text_that_the_whole_one_knows(
    content: bytes, pruned: bytes, text: str
) -> None:
    before, after = pieces(content, text), pieces(pruned, text)
    assert after.count("[UNK]") == before.count("[UNK]")

    def letters(tokens: list[str]) -> str:
        return "".join(t.removeprefix("##") for t in tokens)

    assert letters(after) == letters(before)


def test_the_rarest_pieces_leave_and_ids_are_numbered_in_their_order(content: bytes) -> None:
    counts = counts_of(content, PAPERS)
    kept = choose_pieces(content, counts, 0.6)
    before, after = vocabulary(content), vocabulary(keep_pieces(content, kept))
    assert len(after) == len(before) - int(0.6 * len(before))
    assert sorted(after.values()) == list(range(len(after)))
    assert list(after) == [token for token in before if token in after]
    gone = [counts[number] for token, number in before.items() if token not in after]
    assert max(gone) == 0
    assert {"sparse", "graphs", "bound", "[PAD]", "[MASK]"} <= after.keys()
    assert {"a", "z", "##q", "."} <= after.keys()


def test_special_tokens_have_their_new_ids_everywhere(content: bytes, pruned: bytes) -> None:
    number = vocabulary(pruned)
    value = json.loads(pruned)
    assert {t["content"]: t["id"] for t in value["added_tokens"]} == {
        token: number[token] for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    }
    assert value["post_processor"]["sep"] == ["[SEP]", number["[SEP]"]]
    encoded = PairTokenizer(pruned, 64).encode([("Sparse", "graphs")])[0]
    tokens = ("[CLS]", "sparse", "[SEP]", "graphs", "[SEP]")
    assert encoded.ids.tolist() == [number[token] for token in tokens]


def test_the_ids_of_a_template_are_changed_too(content: bytes) -> None:
    value: dict[str, Any] = json.loads(content)
    parts = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    cls = WORDS.index("[CLS]")
    template = {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": [*parts, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [cls], "tokens": ["[CLS]"]}},
    }
    value["post_processor"] = {"type": "Sequence", "processors": [template]}
    # An id that comes after pieces that leave.
    vocab = value["model"]["vocab"]
    vocab["[CLS]"], vocab["we"] = vocab["we"], vocab["[CLS]"]
    template["special_tokens"]["[CLS]"]["ids"] = [vocab["[CLS]"]]  # type: ignore[index]
    value["added_tokens"] = []
    changed = json.dumps(value).encode()
    smaller = keep_pieces(changed, choose_pieces(changed, counts_of(changed, PAPERS), 0.6))
    encoded = PairTokenizer(smaller, 64).encode([("sparse", "graphs")])[0]
    number = vocabulary(smaller)
    assert number["[CLS]"] != vocab["[CLS]"]
    assert encoded.ids.tolist() == [number[t] for t in ("[CLS]", "sparse", "graphs")]


def test_more_pieces_than_can_be_spared_are_refused_with_the_most_that_can(content: bytes) -> None:
    counts = counts_of(content, PAPERS)
    with pytest.raises(
        InvalidConfig, match=r"vocabulary=0\.99: .* pieces .* should leave, but only"
    ):
        choose_pieces(content, counts, 0.99)
    with pytest.raises(InvalidConfig) as refused:
        choose_pieces(content, counts, 0.99)
    most = float(str(refused.value).rpartition("vocabulary=")[2].partition(" ")[0])
    assert len(choose_pieces(content, counts, most)) < len(WORDS)


def test_a_vocabulary_whose_pieces_depend_on_each_other_is_refused() -> None:
    content = json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}).encode()
    with pytest.raises(InvalidConfig, match="tokenizer is of the type BPE"):
        choose_pieces(content, np.zeros(1, np.int64), 0.5)
