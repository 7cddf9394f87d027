"""Identifiers of predictions: time-ordered, and the same for a request that is sent again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import blake2b

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_RANDOM_BYTES = 10
# A repeated request finds its identifier by the hour of its first one, whichever worker answers.
REPEAT_WINDOW_MS = 3_600_000

IdOf = Callable[[int], str]


def new_prediction_id() -> str:
    """Return 26 characters of Crockford's base 32: 48 bits of time, 80 random ones."""
    return _encode(time.time_ns() // 1_000_000, os.urandom(_RANDOM_BYTES))


def id_source(idempotency_key: bytes | None, body: bytes) -> IdOf:
    """Return what names the predictions of a request by their place in it.

    Args:
        idempotency_key: of the client; the same key and body give the same identifiers within an
            hour. None makes new ones.
        body: as it was received.
    """
    if idempotency_key is None:
        return lambda _: new_prediction_id()
    request = blake2b(idempotency_key + b"\0" + body, digest_size=32).digest()
    now_ms = time.time_ns() // 1_000_000
    window_ms = now_ms - now_ms % REPEAT_WINDOW_MS

    def derived(index: int) -> str:
        tail = blake2b(b"%d" % index, key=request, digest_size=_RANDOM_BYTES).digest()
        return _encode(window_ms, tail)

    return derived


def _encode(time_ms: int, tail: bytes) -> str:
    value = (time_ms << 80) | int.from_bytes(tail, "big")
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])
