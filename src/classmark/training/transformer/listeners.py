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


@dataclass(frozen=True, kw_only=True)
class FitStanding:
    """How far a fit is.

    Attributes:
        share: of the fit that is done, 0..1.
        epoch, epochs: the current one, from 1, and how many there are.
        loss: of the newest papers, their mean in nats.
        papers_per_second: speed since the fit began.
        seconds_left: at that speed.
    """

    share: float
    epoch: int
    epochs: int
    loss: float
    papers_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        return (
            f"{self.share:.0%}, epoch {self.epoch} of {self.epochs}, loss {self.loss:.3f}, "
            f"{self.papers_per_second:,.{0 if self.papers_per_second >= 100 else 1}f} papers/s, "
            f"{spell_time(self.seconds_left)} left"
        )


def spell_time(seconds: float) -> str:
    """Return a time as its two largest units: ``2 h 5 min``, ``3 min 20 s``, ``9 s``."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
