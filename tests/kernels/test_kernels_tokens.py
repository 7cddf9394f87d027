"""Papers to tokens: a pair of fields, cut where it is said, each paper for itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import InvalidConfig, UnreadableSource

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from classmark.kernels.tokens import MAX_CHARS_PER_TOKEN, PairTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "graph", "theory", "of", "##s", "sparse", "random"]
CLS, SEP = 2, 3


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=64)
    return tokenizer


CONTENT = make_tokenizer().to_str().encode()


def words_of(ids: np.ndarray) -> str:
    return " ".join(WORDS[i] for i in ids)


def test_encode_makes_a_pair_with_a_type_for_each_field() -> None:
    [encoded] = PairTokenizer(CONTENT, 16).encode([("Graphs", "Theory of graphs")])
    assert words_of(encoded.ids) == "[CLS] graph ##s [SEP] theory of graph ##s [SEP]"
    assert encoded.types.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert encoded.ids.dtype == np.int32
    assert encoded.types.dtype == np.int8
    assert len(encoded) == 9


def test_encode_reads_both_fields_by_the_text_recipe() -> None:
    tokenizer = PairTokenizer(CONTENT, 16)
    plain, marked = tokenizer.encode([("graph", "theory of"), (r"\emph{graph}", "{theory}~of")])
    assert plain.ids.tolist() == marked.ids.tolist()


def test_encode_cuts_the_abstract_at_its_end() -> None:
    [encoded] = PairTokenizer(CONTENT, 8).encode([("graph", "theory of sparse random graph")])
    assert words_of(encoded.ids) == "[CLS] graph [SEP] theory of sparse random [SEP]"


def test_encode_lets_a_title_fill_half_of_the_length_at_most() -> None:
    [encoded] = PairTokenizer(CONTENT, 10).encode([("graph " * 30, "theory " * 30)])
    assert words_of(encoded.ids) == "[CLS]" + " graph" * 4 + " [SEP] theory theory theory [SEP]"


def test_encode_keeps_a_paper_without_abstract_or_title() -> None:
    tokenizer = PairTokenizer(CONTENT, 10)
    title, abstract, nothing = tokenizer.encode([("graph", ""), ("", "graph"), ("", " ")])
    assert words_of(title.ids) == "[CLS] graph [SEP] [SEP]"
    assert words_of(abstract.ids) == "[CLS] [SEP] graph [SEP]"
    assert words_of(nothing.ids) == "[CLS] [SEP] [SEP]"
    assert nothing.whole_share == 0


def test_whole_share_leaves_out_unknown_words_and_continuations() -> None:
    [encoded] = PairTokenizer(CONTENT, 16).encode([("graphs", "zyx theory")])
    assert encoded.whole_share == pytest.approx(2 / 4)


def test_encode_looks_at_the_beginning_of_an_endless_text_only() -> None:
    tokenizer = PairTokenizer(CONTENT, 8)
    far = " ".join(["of"] * 8 * MAX_CHARS_PER_TOKEN)
    [long], [longer] = tokenizer.encode([("", far)]), tokenizer.encode([("", far + " graph")])
    assert long.ids.tolist() == longer.ids.tolist()


def test_pad_id_is_the_tokenizers_own() -> None:
    assert PairTokenizer(CONTENT, 8).pad_id == WORDS.index("[PAD]")


def test_a_tokenizer_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(CONTENT)
    assert len(PairTokenizer(path, 8).encode([("graph", "")])[0]) == 4


def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": 1}))
    with pytest.raises(UnreadableSource, match=r"tokenizer\.json cannot be read as a tokenizer"):
        PairTokenizer(path, 8)
    with pytest.raises(UnreadableSource, match="cannot be read as a tokenizer"):
        PairTokenizer(tmp_path / "none.json", 8)


def test_a_length_without_room_for_a_text_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="max_length is 7, it must be 8 or more"):
        PairTokenizer(CONTENT, 7)


FIELDS = st.lists(st.sampled_from(["graph", "graphs", "of", "xyz", "theory"]), max_size=30).map(
    " ".join
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=6), st.integers(8, 40))
def test_tokens_of_a_paper_do_not_depend_on_the_others(
    papers: list[tuple[str, str]], max_length: int
) -> None:
    tokenizer = PairTokenizer(CONTENT, max_length)
    for paper, encoded in zip(papers, tokenizer.encode(papers), strict=True):
        [alone] = tokenizer.encode([paper])
        assert alone.ids.tolist() == encoded.ids.tolist()
        assert len(encoded) == len(encoded.types) <= max_length
        assert 0 <= encoded.whole_share <= 1
