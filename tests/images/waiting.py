"""Waiting for what a container does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what a function returns once that is true; it may fail to connect before."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := holds():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
