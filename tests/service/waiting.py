"""Waiting for what a service does, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

PATIENCE_S = 200


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Return the first true value of a condition; fail if there is none for a long time.

    A request that finds no service counts as not yet.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if value := condition():
                return value
        time.sleep(0.01)
    pytest.fail("what was waited for did not happen")
