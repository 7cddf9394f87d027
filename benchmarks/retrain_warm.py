"""Full fits beside fits that continue from the champion's weights: accuracy afterwards, and cost.

At the end of a year both are fitted on the same papers: on the newest ones, or on all that are
known, with the passes of `classmark train`. The champion was fitted a year or a quarter earlier; in
a chain every champion was itself a continued fit, as it would be in a service.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.training import LinearWeights
from retrain_fits import Papers, Timeline, fit_weights, options
from retrain_looks import Monitor

AFTER, MOST_ENDS, EVERY = 12, 8, 12
ALL_PAPERS, MOST_ENDS_OF_ALL = 1_000_000, 2
_Z = 1.96
SETTINGS = {
    "1 pass at 0.05": ("model.warm_epochs=1", "model.warm_rate=0.05"),
    "3 passes at 0.05": ("model.warm_epochs=3", "model.warm_rate=0.05"),
    "3 passes at 0.1": ("model.warm_epochs=3", "model.warm_rate=0.1"),
}


@dataclass(frozen=True)
class WarmTimeline(Timeline):
    """The same papers, with fits that continue from an earlier one.

    Attributes:
        base: the full fits.
        first: month of the first champion, which is a full fit.
        gap: months between a champion and the fit that continues from it.
        chained: champions are continued fits too, but the first.
        setting: name of the options.
    """

    base: Timeline
    first: str
    gap: int
    chained: bool
    setting: str

    @property
    def kept(self) -> Path:
        """Return the folder of these fits."""
        words = f"warm {self.setting} {self.gap}{' chained' if self.chained else ''}"
        return self.base.kept / words.replace(" ", "-")

    def start_of(self, until: str) -> LinearWeights | None:
        """Return the weights of the champion, None before there is one."""
        place, first = self.months.index(until) - self.gap, self.months.index(self.first)
        if place < first:
            return None
        champion = self if self.chained and place > first else self.base
        return champion.model(self.months[place]).weights

    def weights_of(self, train: Papers, start: LinearWeights | None) -> LinearWeights:
        """Return the weights of a continued fit, of a full one without a champion."""
        if start is None:
            return self.base.weights_of(train, None)
        return fit_weights(
            train, len(self.labels), start, options(*self.overrides, *SETTINGS[self.setting])
        )


def measure_warm(monitor: Monitor, months: Sequence[str]) -> dict[str, Any] | None:
    """Return accuracy and cost of full and of continued fits; None in too short a replay.

    Args:
        monitor: of the full fits.
        months: of the replay.
    """
    timeline = monitor.timeline
    names, first = timeline.months, timeline.months.index(months[0]) - 1
    last = names.index(months[-1])
    ends = [names[i] for i in range(first + EVERY, last - AFTER + 1, EVERY)][:MOST_ENDS]
    if not ends:
        return None
    on_all = replace(timeline, n_train=ALL_PAPERS, overrides=())
    variants = [(EVERY, False), (EVERY, True), (EVERY // 4, False)]
    return {
        "months_after": AFTER,
        "newest": measure_continued(monitor, ends, variants),
        "all": measure_continued(
            Monitor(on_all, on_all.kept, monitor.most),
            ends[1::2][:MOST_ENDS_OF_ALL],
            variants[:1],
        ),
    }


def measure_continued(
    monitor: Monitor, ends: Sequence[str], variants: Sequence[tuple[int, bool]]
) -> dict[str, Any]:
    """Return cost of the full fits, and what each setting does.

    Args:
        monitor: of the full fits.
        ends: months at whose ends both kinds are fitted.
        variants: months between champion and fit, and whether champions are continued fits.
    """
    base, rows = monitor.timeline, []
    full = _hits(monitor, ends)
    for gap, chained in variants:
        stale = _hits(monitor, ends, gap)
        for setting in SETTINGS:
            first = base.months[base.months.index(ends[0]) - gap]
            warm = WarmTimeline(**vars(base), base=base, first=first, gap=gap, chained=chained,
                                setting=setting)  # fmt: skip
            print(f"continuing: {warm.kept.name}", file=sys.stderr, flush=True)
            own = _hits(Monitor(warm, warm.kept, monitor.most), ends)
            rows.append({"gap": gap, "setting": setting, "chained": chained,
                         **_compare(own, full, stale), **_cost(warm, ends)})  # fmt: skip
    return {"ends": list(ends), "full": _cost(base, ends), "warm": rows}


def _hits(monitor: Monitor, ends: Sequence[str], earlier: int = 0) -> list[NDArray[np.bool_]]:
    """Return the hits by month after each end, of the fit of that end or of an earlier one."""
    names, found = monitor.timeline.months, []
    for end in ends:
        place = names.index(end)
        after = names[place + 1 : place + 1 + AFTER]
        found += [monitor.hits(names[place - earlier], month) for month in after]
    return found


def _cost(timeline: Timeline, ends: Sequence[str]) -> dict[str, float]:
    return {"cpu_s": round(float(np.mean([timeline.cpu_s(end) for end in ends])), 2)}


def _compare(
    own: list[NDArray[np.bool_]], full: list[NDArray[np.bool_]], stale: list[NDArray[np.bool_]]
) -> dict[str, Any]:
    """Return the accuracies, months alike, and what the continued fit has over the full one."""
    accuracy, of_full, of_stale = (
        float(np.mean([m.mean() for m in hits])) for hits in (own, full, stale)
    )
    errors = [np.subtract(o, f, dtype=np.float64) for o, f in zip(own, full, strict=True)]
    spread = _Z * float(np.sqrt(sum(e.var() / len(e) for e in errors))) / len(errors)
    value = accuracy - of_full
    bounds = {"value": value, "low": value - spread, "high": value + spread}
    return {
        "accuracy": round(accuracy, 4),
        "full": round(of_full, 4),
        "champion": round(of_stale, 4),
        "over_full": {name: round(number, 4) for name, number in bounds.items()},
    }
