"""From a paper to the tokens of an encoder: title and abstract as a pair.

``[CLS] title [SEP] abstract [SEP]``, both fields by the one text recipe. What is too long is cut
from the abstract's end; a title may fill half of the length at most. Training and serving make
their tokens here. Needs ``[onnx]`` (tokenizers).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import (
    ClassmarkError,
    InvalidConfig,
    InvalidScores,
    MissingExtra,
    UnreadableSource,
)
from classmark.kernels.tokenizer_check import MOST_TOKENS, tokenizer_problem
from classmark.papers import normalise

TOKENS_VERSION = "wordpiece-pair-1"
LEAST_LENGTH = 8
MOST_SPECIAL = 4
MAX_CHARS_PER_TOKEN = 32
"""Text beyond this many characters a token is not looked at: seven times what English needs."""

_PAD_TOKENS = ("[PAD]", "<pad>")
_UNKNOWN_TOKENS = ("[UNK]", "<unk>")
_CONTINUATION = "##"


@dataclass(frozen=True, eq=False, slots=True)
class Encoded:
    """The tokens of one paper, special ones among them.

    Attributes:
        ids: int32 [t].
        types: int8 [t], 0 for the title and 1 for the abstract, as the tokenizer has it.
        whole_share: share of the text's tokens that begin a word and are known, 0..1; 0 of none.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int8]
    whole_share: np.float32

    def __len__(self) -> int:
        return len(self.ids)


class PairTokenizer:
    """Makes the tokens of papers; may be shared by threads.

    Attributes:
        max_length: tokens of a paper at most, special ones among them.
        pad_id: the id that fills up the shorter papers of a batch.
        last_id: the largest id of its vocabulary.
    """

    def __init__(self, tokenizer_json: Path | bytes, max_length: int) -> None:
        """Read a tokenizer.

        Args:
            tokenizer_json: a ``tokenizer.json`` or its content; how it pads and cuts is ignored.
            max_length: at least 8.

        Raises:
            MissingExtra: the package tokenizers is not installed.
            InvalidConfig: the length is too small.
            UnreadableSource: it is no tokenizer, or one that could run for long or at random.
        """
        if max_length < LEAST_LENGTH:
            raise InvalidConfig(f"max_length is {max_length}, it must be {LEAST_LENGTH} or more.")
        self.max_length = max_length
        self._tokenizer = _read(tokenizer_json)
        self._n_special = self._tokenizer.num_special_tokens_to_add(True)
        if self._n_special > MOST_SPECIAL:
            raise UnreadableSource(
                f"the tokenizer adds {self._n_special} tokens to a paper, more than "
                f"{MOST_SPECIAL}. Install or export the model again."
            )
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self.last_id = max(vocabulary.values(), default=0)
        if self.last_id >= MOST_TOKENS:
            raise UnreadableSource(
                f"the tokenizer has a token of number {self.last_id:,}, at most "
                f"{MOST_TOKENS - 1:,} is read. Install or export the model again."
            )
        self.pad_id = next((vocabulary[t] for t in _PAD_TOKENS if t in vocabulary), 0)
        self._is_whole = _whole_tokens(vocabulary)

    def encode(self, papers: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Return the tokens of raw (title, abstract) pairs; each only depends on its own paper."""
        titles = self._encode_field([title for title, _ in papers])
        abstracts = self._encode_field([abstract for _, abstract in papers])
        return [self._pair(*fields) for fields in zip(titles, abstracts, strict=True)]

    def _encode_field(self, texts: list[str]) -> list[Any]:
        longest = self.max_length * MAX_CHARS_PER_TOKEN
        cut = [normalise(text)[:longest] for text in texts]
        with _errors("the tokenizer cannot read a text", InvalidScores):
            encodings: list[Any] = self._tokenizer.encode_batch(cut, add_special_tokens=False)
        return encodings

    def _pair(self, title: Any, abstract: Any) -> Encoded:
        title.truncate(self.max_length // 2 - 1)
        abstract.truncate(self.max_length - self._n_special - len(title))
        n_text = len(title) + len(abstract)
        n_whole = self._is_whole[title.ids].sum() + self._is_whole[abstract.ids].sum()
        pair = self._tokenizer.post_process(title, abstract, add_special_tokens=True)
        return Encoded(
            np.array(pair.ids, dtype=np.int32),
            np.array(pair.type_ids, dtype=np.int8),
            np.float32(n_whole / max(n_text, 1)),
        )


def _read(source: Path | bytes) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("a model with an encoder", "onnx") from error
    name = "the tokenizer" if isinstance(source, bytes) else source
    with _errors(f"{name} cannot be read as a tokenizer.json", UnreadableSource):
        content = source if isinstance(source, bytes) else source.read_bytes()
        problem = tokenizer_problem(content)
        if problem is not None:
            raise ValueError(problem)
        tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@contextmanager
def _errors(problem: str, kind: type[ClassmarkError]) -> Iterator[None]:
    """Turn what tokenizers raises into an error of ours."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # Exception itself; a panic in Rust is not even one
        raise kind(f"{problem} ({error}). Install or export the model again.") from error


def _whole_tokens(vocabulary: dict[str, int]) -> NDArray[np.bool_]:
    is_whole = np.ones(max(vocabulary.values(), default=0) + 1, dtype=np.bool_)
    for token, number in vocabulary.items():
        if token.startswith(_CONTINUATION) or token in _UNKNOWN_TOKENS:
            is_whole[number] = False
    return is_whole
