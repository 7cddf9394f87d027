"""What a ``tokenizer.json`` may ask for: nothing that runs for long, grows a text, or is random.

The package tokenizers runs whatever the file says: any regular expression, without a limit of time;
replacements that turn a letter into a megabyte; merges that are left out at random. A paper would
then cost a worker, or have another answer each time. Every component is one of a known list, with
bounds; texts can only grow by a factor that is known.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from typing import Any

from classmark.bundle.check import is_deeper, shown

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
