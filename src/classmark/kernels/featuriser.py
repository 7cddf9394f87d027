r"""From a text to the keys of its features: hashed words and word pairs, the title's once more.

A folded text is ``title \n abstract \n``, normalised, lower-cased, UTF-8. A word is a run of
a-z, 0-9 and bytes from 128; its hash is the sum of (byte + 1) * WORD_BASE^(bytes after it) modulo
2^64. Each word gives a key; each two neighbours in one field give a key; both give another
in the title. ``kernel/text.h`` does the same in C; tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classmark.papers import finish, normalise, spell

try:
    KERNEL: Any = import_module("classmark.kernels._kernel")
except ImportError:  # built without a compiler: the numpy path gives the same answers
    KERNEL = None

FEATURISER_VERSION = "1"

WORD_BASE = 0x9E3779B97F4A7C15
PAIR_FACTOR = np.uint64(0xD6E8FEB86659FD93)
TITLE_SALT = np.uint64(0xA0761D6478BD642F)
_MIX_A = np.uint64(0xD6E8FEB86659FD93)
_MIX_B = np.uint64(0x9FB21C651E98DF25)
_BASE_INVERSE = pow(WORD_BASE, -1, 1 << 64)
_POWERS_OF_TWO = 16

_WORD, _FIELD_BREAK = 1, 2
_WORD_BYTES = re.compile(rb"[a-z0-9\x80-\xff]+")


@dataclass(frozen=True, eq=False)
class Folded:
    """Texts in one buffer: text i is ``buffer[offsets[i]:offsets[i + 1]]``; int64 [n + 1]."""

    buffer: bytes
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Keys(NamedTuple):
    """Keys of n texts: uint64 [m], whether each is a plain word: bool [m], and its text: int64 [m].

    In no stated order; from the C kernel, keys of one text stand together.
    """

    key: NDArray[np.uint64]
    is_word: NDArray[np.bool_]
    text: NDArray[np.int64]


def fold(title: str, abstract: str) -> bytes:
    """Return the folded text of one raw title and abstract."""
    if KERNEL is not None:
        title, abstract = spell(title), spell(abstract)
        if title.isascii() and abstract.isascii():
            folded: bytes | None = KERNEL.fold(title, abstract)
            if folded is not None:
                return folded
        return _lowered(finish(title), finish(abstract))
    return fold_in_python(title, abstract)


def fold_in_python(title: str, abstract: str) -> bytes:
    """Return the same without the C kernel: the reference."""
    return _lowered(normalise(title), normalise(abstract))


def _lowered(title: str, abstract: str) -> bytes:
    return f"{title}\n{abstract}\n".lower().encode("utf-8", "ignore")


def fold_all(papers: Sequence[tuple[str, str]]) -> Folded:
    """Return the folded texts of raw (title, abstract) pairs."""
    texts = [fold(title, abstract) for title, abstract in papers]
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return Folded(b"".join(texts), offsets)


def feature_keys(folded: Folded) -> Keys:
    """Return the keys of every text: with the C kernel if it is there, else with numpy."""
    return _keys_in_c(folded) if KERNEL is not None else keys_in_numpy(folded)


def keys_in_numpy(folded: Folded) -> Keys:
    """Return the keys of every text with numpy alone: the reference."""
    text = np.frombuffer(folded.buffer, dtype=np.uint8)
    kind = _byte_classes().take(text)
    starts, ends = _word_bounds(kind)
    owner = np.searchsorted(folded.offsets, starts, side="right") - 1
    hashes = _word_hashes(text, starts, ends)
    breaks = np.flatnonzero(kind == _FIELD_BREAK)
    field = np.searchsorted(breaks, starts)
    first_field = np.searchsorted(breaks, folded.offsets[:-1])
    in_title = field == first_field[owner]
    joined = (field[1:] == field[:-1]) & (owner[1:] == owner[:-1])
    pairs = hashes[:-1][joined] * PAIR_FACTOR + hashes[1:][joined]
    pair_title = in_title[1:][joined]
    one = np.uint64(1)
    raw = (
        hashes,
        pairs + one,
        hashes[in_title] ^ TITLE_SALT,
        (pairs[pair_title] ^ TITLE_SALT) + one,
    )
    owners = (owner, owner[1:][joined], owner[in_title], owner[1:][joined][pair_title])
    is_word = np.zeros(sum(map(len, raw)), dtype=np.bool_)
    is_word[: len(hashes)] = True
    return Keys(_mix(np.concatenate(raw)), is_word, np.concatenate(owners))


def hash_texts(texts: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return a key for each text, uint64 [n]: the hash of its bytes as if they were one word."""
    lengths = np.array([len(text) for text in texts], dtype=np.intp)
    ends: NDArray[np.intp] = np.cumsum(lengths)
    starts = ends - lengths
    buffer = np.frombuffer(b"".join(texts), dtype=np.uint8)
    return _mix(_word_hashes(buffer, starts, ends))


def terms(title: str, abstract: str) -> list[tuple[str, int]]:
    """Return (term, key) of every feature occurrence of one paper; a pair reads ``word word``."""
    spelled: list[str] = []
    raw: list[int] = []
    for is_title, part in zip((True, False), fold(title, abstract).split(b"\n")[:2], strict=True):
        words = _WORD_BYTES.findall(part)
        hashes = [_word_hash(word) for word in words]
        pairs = [(int(PAIR_FACTOR) * a + b) % (1 << 64) for a, b in pairwise(hashes)]
        texts = [w.decode() for w in words] + [
            f"{a.decode()} {b.decode()}" for a, b in pairwise(words)
        ]
        for salt in (0, int(TITLE_SALT)) if is_title else (0,):
            spelled += texts
            raw += [h ^ salt for h in hashes] + [((p ^ salt) + 1) % (1 << 64) for p in pairs]
    keys = _mix(np.array(raw, dtype=np.uint64))
    return list(zip(spelled, keys.tolist(), strict=True))


def _keys_in_c(folded: Folded) -> Keys:
    n = len(folded)
    most = 2 * (len(folded.buffer) + 1) + 2 * n
    keys = np.empty(most, dtype=np.uint64)
    is_word = np.empty(most, dtype=np.uint8)
    starts = np.empty(n + 1, dtype=np.int64)
    KERNEL.feature_keys(folded.buffer, folded.offsets, keys, is_word, starts)
    m = int(starts[-1])
    return Keys(
        keys[:m],
        is_word[:m].view(np.bool_),
        np.repeat(np.arange(n, dtype=np.int64), np.diff(starts)),
    )


def _word_bounds(kind: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    # A text ends with a field break, so two words of different texts are always apart.
    inside = np.zeros(len(kind) + 2, dtype=np.int8)
    np.equal(kind, _WORD, out=inside[1:-1], casting="unsafe")
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return edges[::2], edges[1::2]


def _word_hashes(
    text: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> NDArray[np.uint64]:
    # sum of byte * B^(end-1-i) = B^(end-1) * sum of byte * B^-i, all modulo 2^64
    powers, inverses = _powers(1 << max(_POWERS_OF_TWO, len(text).bit_length()))
    sums = np.zeros(len(text) + 1, dtype=np.uint64)
    terms_ = (text.astype(np.uint64) + np.uint64(1)) * inverses[: len(text)]
    np.cumsum(terms_, out=sums[1:])
    return (sums[ends] - sums[starts]) * powers[ends - 1]


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(32))) * _MIX_A
    x = (x ^ (x >> np.uint64(29))) * _MIX_B
    return x ^ (x >> np.uint64(32))


def _word_hash(word: bytes) -> int:
    value = 0
    for byte in word:
        value = (value * WORD_BASE + byte + 1) % (1 << 64)
    return value


@cache
def _powers(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    def up(base: int) -> NDArray[np.uint64]:
        factors = np.full(n, base, dtype=np.uint64)
        factors[0] = 1
        return np.multiply.accumulate(factors)

    return up(WORD_BASE), up(_BASE_INVERSE)


@cache
def _byte_classes() -> NDArray[np.uint8]:
    classes = np.zeros(256, dtype=np.uint8)
    for first, last in (("0", "9"), ("a", "z")):
        classes[ord(first) : ord(last) + 1] = _WORD
    classes[128:] = _WORD
    classes[ord("\n")] = _FIELD_BREAK
    return classes
