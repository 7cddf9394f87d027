"""From a paper to the tokens of an encoder: title and abstract as a pair.

``[CLS] title [SEP] abstract [SEP]``, both fields by the one text recipe. What is too long is cut
from the abstract's end; a title may fill at most half of the length. Training and serving make
their tokens here. Needs ``[onnx]`` (tokenizers).

The package tokenizers runs whatever ``tokenizer.json`` says: any regular expression, without a time
limit; replacements that turn a letter into a megabyte; merges left out at random. A paper could
then cost a worker, or get another answer each time. So every component must be on a known list,
with bounds, and a text can only grow by a known factor.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle.check import is_deeper, shown
from classmark.errors import (
    ClassmarkError,
    InvalidConfig,
    InvalidScores,
    MissingExtra,
    UnreadableSource,
)
from classmark.papers import normalise

TOKENS_VERSION = "wordpiece-pair-1"
LEAST_LENGTH = 8
MOST_SPECIAL = 4
MAX_CHARS_PER_TOKEN = 32
"""Text beyond this many characters a token is not looked at: seven times what English needs."""

_PAD_TOKENS = ("[PAD]", "<pad>")
_UNKNOWN_TOKENS = ("[UNK]", "<unk>")
_CONTINUATION = "##"
MOST_BYTES = 64 << 20
MOST_DEPTH = 32
MOST_TOKENS = 1_000_000
MOST_ADDED_TOKENS = 10_000
MOST_COMPONENTS = 32
MOST_TOKEN_CHARS = 200
MOST_WORD_CHARS = 200
"""WordPiece tries every part of a word, so the time grows with the square."""
MOST_REPLACED_BYTES = 64
"""What one character may become: the longest of Unicode's own is 33 bytes."""
SAFE_REGEXES = (" {2,}", r"\s+", r"\s")
_PARTS = {
    "normalizer": (
        *("BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"),
        *("Prepend", "Replace", "Sequence", "Strip", "StripAccents"),
    ),
    "pre_tokenizer": (
        *("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace"),
        *("Punctuation", "Sequence", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"),
    ),
    "post_processor": (
        *("BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"),
    ),
}
_CHAINS = ("normalizers", "pretokenizers", "processors")
_REPEATABLE = ("Replace", "Split", "Strip", "Sequence")


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
        max_length: maximum number of tokens of a paper, special ones included.
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
            UnreadableSource: it is not a tokenizer, or one that could run for long or at random.
        """
        if max_length < LEAST_LENGTH:
            raise InvalidConfig(f"max_length is {max_length}, it must be {LEAST_LENGTH} or more.")
        self.max_length = max_length
        self._tokenizer = _read_tokenizer(tokenizer_json)
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


def _read_tokenizer(source: Path | bytes) -> Any:
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


def tokenizer_problem(content: bytes) -> str | None:
    """Return why a ``tokenizer.json`` cannot be used, None if it can."""
    if len(content) > MOST_BYTES:
        return f"it has {len(content):,} bytes, more than {MOST_BYTES:,}"
    try:
        value = json.loads(content, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        return str(error)
    if not isinstance(value, dict) or is_deeper(value, MOST_DEPTH):
        return f"it is not an object of at most {MOST_DEPTH} levels"
    return next(_problems(value), None)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("it has a key more than once")
    return value


def _problems(value: dict[str, Any]) -> Iterator[str]:
    for part, allowed in _PARTS.items():
        yield from _of_part(part, value.get(part), allowed)
    yield from _of_model(value.get("model"))
    added = value.get("added_tokens", [])
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS:
        yield f"it has more than {MOST_ADDED_TOKENS:,} added tokens"
    for token in added:
        text = token.get("content") if isinstance(token, dict) else None
        if not isinstance(text, str) or not 0 < len(text) <= MOST_TOKEN_CHARS:
            yield f"the added token {shown(text)} must be of 1 to {MOST_TOKEN_CHARS} characters"


def _of_part(part: str, value: object, allowed: tuple[str, ...]) -> Iterator[str]:
    waiting, kinds = [] if value is None else [value], []
    while waiting:
        component = waiting.pop()
        kind = component.get("type") if isinstance(component, dict) else None
        if not isinstance(component, dict) or not isinstance(kind, str) or kind not in allowed:
            yield f"its {part} is of the type {shown(kind)}, which is not used here"
            return
        kinds.append(kind)
        if (kind in kinds[:-1] and kind not in _REPEATABLE) or len(kinds) > MOST_COMPONENTS:
            yield f"its {part} has {kind} more than once, or more than {MOST_COMPONENTS} parts"
        yield from _of_component(kind, component)
        for name in _CHAINS:
            chained = component.get(name, [])
            waiting += chained if isinstance(chained, list) else [chained]


def _of_component(kind: str, component: dict[str, Any]) -> Iterator[str]:
    if kind in ("Replace", "Split"):
        yield from _of_pattern(component)
    if kind == "Prepend" and not _is_short(component.get("prepend")):
        yield f"it prepends {shown(component.get('prepend'))}, more than one character"
    if kind == "Precompiled" and not _is_mild(component.get("precompiled_charsmap")):
        yield f"its normalizer makes more than {MOST_REPLACED_BYTES} bytes of a character"


def _of_pattern(component: dict[str, Any]) -> Iterator[str]:
    pattern, content = component.get("pattern"), component.get("content", "")
    if not isinstance(pattern, dict) or len(pattern) != 1:
        yield f"it has the pattern {shown(pattern)}"
        return
    ((kind, text),) = pattern.items()
    is_safe = text in SAFE_REGEXES if kind == "Regex" else isinstance(text, str) and bool(text)
    if not is_safe:
        yield f"it has the pattern {shown(pattern)}, whose time is not bounded"
    elif not isinstance(content, str) or len(content) > (1 if kind == "Regex" else len(text)):
        yield f"it replaces {shown(text)} with {shown(content)}, which is longer"


def _of_model(model: object) -> Iterator[str]:
    if not isinstance(model, dict):
        yield "it has no model"
        return
    if model.get("dropout"):
        yield f"it leaves out merges at random (dropout {shown(model['dropout'])})"
    word = model.get("max_input_chars_per_word", MOST_WORD_CHARS)
    if type(word) is not int or word > MOST_WORD_CHARS:
        yield f"max_input_chars_per_word is {shown(word)}, more than {MOST_WORD_CHARS}"


def _is_short(text: object) -> bool:
    return isinstance(text, str) and len(text) <= 1


def _is_mild(charsmap: object) -> bool:
    """Tell whether no entry of a sentencepiece table is long.

    It is the size of a trie in bytes, the trie, and the replacements, each with a zero byte at its
    end.
    """
    if not isinstance(charsmap, str):
        return False
    try:
        table = base64.b64decode(charsmap, validate=True)
        (n_trie,) = struct.unpack_from("<I", table)
    except (TypeError, ValueError, binascii.Error, struct.error):
        return False
    return max(map(len, table[4 + n_trie :].split(b"\0"))) <= MOST_REPLACED_BYTES
