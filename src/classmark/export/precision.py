"""Which precision of an encoder is kept: int8 where it is faster and surely loses little."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation import EvaluationConfig, compare_shares
from classmark.records import Difference

LEAST_PAPERS = 100
"""Fewer papers tell nothing, whatever loss is tolerated."""
RULE_OF_THREE = 3.0
"""Of n papers that all come out the same, up to 3/n may still be lost (with 95 % confidence).

Source: Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?".
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """What one precision did on the sample.

    Attributes:
        bytes: size of the network.
        papers_per_cpu_s: papers a second of CPU time, best of three rounds.
        right: bool [n], for each labelled paper whether its first label is the right one.
    """

    bytes: int
    papers_per_cpu_s: float
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float | None:
        """Return top-1 on the labelled sample, 0..1; None without labels."""
        return float(self.right.mean()) if len(self.right) else None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The precision that is kept, and why.

    Attributes:
        kept: ``fp32``, ``fp16`` or ``int8``.
        reason: in one sentence.
        papers: labelled papers that both were compared on; 0 where none was asked for.
        most_loss: accuracy that int8 may lose, 0..1.
        accuracy: of fp32 (a) and int8 (b), with the paired interval; None where not compared.
    """

    kept: str
    reason: str
    papers: int = 0
    most_loss: float | None = None
    accuracy: Difference | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that bundle and report keep."""
        facts: dict[str, Any] = {"kept": self.kept, "reason": self.reason}
        if self.most_loss is not None:
            facts |= {"papers": self.papers, "most_loss": self.most_loss}
        if self.accuracy is not None:
            lost = self.accuracy
            facts["accuracy"] = {"fp32": lost.a, "int8": lost.b, "low": lost.low, "high": lost.high}
        return facts


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a smaller network loses of the accuracy of a larger one.

    Attributes:
        words: the rest of a sentence about the smaller one.
        papers: labelled papers that both were compared on.
        most_loss: that may be lost, 0..1.
        change: accuracy of the larger (a) and the smaller (b), with the paired interval; None if
            the papers are too few to tell.
    """

    words: str
    papers: int
    most_loss: float
    change: Difference | None = None

    @property
    def is_small(self) -> bool:
        """Tell whether the whole interval of the loss lies within what may be lost."""
        return self.change is not None and _turned(self.change.low) <= self.most_loss


def measure_loss(before: NDArray[np.bool_], after: NDArray[np.bool_], most_loss: float) -> Loss:
    """Return what is lost between two networks.

    Args:
        before: bool [n], for each labelled paper whether the larger network is right.
        after: bool [n], the same papers with the smaller one.
        most_loss: accuracy that may be lost, 0..1.
    """
    n = len(before)
    if reason := too_few(n, most_loss):
        return Loss(words=reason, papers=n, most_loss=most_loss)
    config = EvaluationConfig()
    change = compare_shares(before, after, config)
    # What is lost is the change turned round, and so are the ends of its interval.
    loss, low, high = (_turned(v) for v in (change.difference, change.high, change.low))
    words = (
        f"loses {loss:.4f} of accuracy ({config.level:.0%} interval {low:.4f} to {high:.4f}, "
        f"{n:,} papers)"
    )
    return Loss(words=words, papers=n, most_loss=most_loss, change=change)


def choose_precision(trials: dict[str, Trial], precision: str, most_loss: float) -> Choice:
    """Return the precision to keep, and why.

    Args:
        trials: of ``fp32`` and ``int8`` on the same papers; with another precision than ``auto``
            they are not looked at.
        precision: ``auto`` keeps int8 only if it is faster and the interval of what it loses lies
            within ``most_loss``; others are kept as asked.
        most_loss: accuracy that int8 may lose, 0..1.
    """
    if precision != "auto":
        return Choice(kept=precision, reason=f"{precision} was asked for")
    fp32, int8 = trials["fp32"], trials["int8"]
    gain = int8.papers_per_cpu_s / max(fp32.papers_per_cpu_s, 1e-9)
    loss = measure_loss(fp32.right, int8.right, most_loss)
    kept, reason = "fp32", f"int8 is {gain:.2f} times as fast"
    if loss.change is None:
        reason += f", but {loss.words}"
    elif gain <= 1:
        reason += f" and {loss.words}: it is not faster"
    elif not loss.is_small:
        reason += f" and {loss.words}: it may be more than {most_loss:g}"
    else:
        kept, reason = "int8", f"{reason} and {loss.words}"
    return Choice(
        kept=kept, reason=reason, papers=loss.papers, most_loss=most_loss, accuracy=loss.change
    )


def least_papers(most_loss: float) -> float:
    """Return how many papers it takes to tell a loss: even none lost of fewer would not tell."""
    return max(LEAST_PAPERS, ceil(RULE_OF_THREE / most_loss)) if most_loss else float("inf")


def _turned(value: float | None) -> float:
    return 0.0 - round(value or 0.0, 6)


def too_few(n: int, most_loss: float) -> str:
    """Return why n labelled papers cannot tell a loss, "" if they can."""
    if n >= least_papers(most_loss):
        return ""
    if not most_loss:
        return "no number of papers shows that nothing is lost"
    return (
        f"{n:,} labelled validation papers are too few to tell a loss of {most_loss:g} "
        f"(at least {least_papers(most_loss):,})"
    )
