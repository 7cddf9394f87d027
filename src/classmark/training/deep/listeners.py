"""Who hears of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

OnMetrics = Callable[[Mapping[str, float], int, int], None]


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """Who hears of a fit.

    Attributes:
        on_step: of each stage, as a line.
        on_progress: of papers done.
        on_note: of loss, speed and time left, after every step.
        on_resume: of the step that a fit goes on after, and of the epochs that are measured; of
            0 and 0 if it begins.
        on_metrics: of numbers by name (``train/loss``), with step and epoch.
    """

    on_step: Callable[[str], None] = lambda _: None
    on_progress: Callable[[int], None] = lambda _: None
    on_note: Callable[[str], None] = lambda _: None
    on_resume: Callable[[int, int], None] = lambda _step, _epochs: None
    on_metrics: OnMetrics = lambda _values, _step, _epoch: None
