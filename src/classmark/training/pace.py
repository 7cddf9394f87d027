"""How far a fit is, in words: share, epoch, loss, speed and time left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FitPace:
    """How far a fit is.

    Attributes:
        share: of the fit that is done, 0..1.
        epoch, epochs: the current one, from 1, and how many there are.
        loss: mean over the newest papers, in nats.
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
