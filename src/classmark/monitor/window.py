"""Whether the papers of a window are like those of a reference: one p-value, and what is behind it.

Window and reference are pooled and exchanged at random. A statistic is compared with its own values
under these exchanges, so its p-value is right at any size (Pitman 1937; Phipson and Smyth 2010 for
the 1 in (1 + b) / (1 + n)). Several statistics are joined by the distribution of the smallest of
their p-values under the same exchanges. What carries the difference is named by Westfall and
Young's step-down (1993), which keeps the chance of a wrong name at alpha however many are looked
at. Parts of a window, the papers of an API key or of a category, are compared in the same way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidWindow
from classmark.monitor.sizes import size_of
from classmark.records.drift import PartTest, Shift, Size, WindowTest
from classmark.runtime.features import DIMS, FLAGS, NUMBERS, FeatureTable

LEAST_PAPERS = 50
"""Of a window, and of a reference."""
MOST_PAPERS = 20_000
"""Of a window; a larger one is a sample of it."""
EXCHANGES = 999
MOST_PARTS = 10
"""Keys, and categories, that are compared: those with the most papers."""
_EXCHANGES_OF_PARTS = 1_999
"""So that a p-value can be below alpha after the correction for ten parts."""
_SEED = 0
_TIE = 1e-6
_LEAST_SD = 0.01
"""Floor of a standard deviation in what is compared, so that one paper of a rare category does not
outweigh a hundred of a common one."""
_BLOCK_NUMBERS = 20_000_000
"""Numbers of the matrix of exchanges that are in memory at a time."""

Floats = NDArray[np.float32]
GROUPS = ("input", "predicted", "numbers")
_NAMES_OF_NUMBERS = ("confidence", *NUMBERS, *(f for f in FLAGS if f != "used_authors"))


@dataclass(frozen=True, eq=False)
class Columns:
    """What is compared of n papers.

    Attributes:
        values: float32 [n, d].
        names: d names, such as ``predicted cs.LG``, ``input 3`` or ``energy``.
        groups: int [d], index into ``GROUPS``.
    """

    values: Floats
    names: tuple[str, ...]
    groups: NDArray[np.intp]


def columns_of(table: FeatureTable) -> Columns:
    """Return what is compared of papers: components of the scores, categories, numbers.

    Categories are compared by the root of their probability, in which a rare one weighs as much as
    a common one. Whether authors were used is left out: it says who asks, not what is asked.
    """
    n, k = len(table), len(table.labels)
    roots = np.zeros((n, k), dtype=np.float32)
    np.put_along_axis(roots, table.top_labels, np.sqrt(table.top_probs), axis=1)
    flags = [table.flags[:, FLAGS.index(name)] for name in FLAGS if name != "used_authors"]
    numbers = [table.confidence, *table.numbers.T, *flags]
    names = (
        *(f"input {i + 1}" for i in range(DIMS)),
        *(f"predicted {label}" for label in table.labels),
        *_NAMES_OF_NUMBERS,
    )
    groups = np.repeat(np.arange(3), (DIMS, k, len(numbers)))
    values = np.concatenate([table.projection, roots, np.stack(numbers, axis=1)], axis=1)
    return Columns(values.astype(np.float32), names, groups)


def compare(
    window: FeatureTable,
    reference: FeatureTable,
    *,
    exchanges: int = EXCHANGES,
    seed: int = _SEED,
) -> WindowTest:
    """Return how a window differs from a reference.

    The same papers and seed give the same p-values.

    Args:
        window: 50 to 20,000 papers; of more, 20,000 are drawn.
        reference: 50 papers or more.
        exchanges: no p-value is below 1 / (1 + exchanges).
        seed: of the exchanges.

    Raises:
        InvalidWindow: there are too few papers, or their features are not finite numbers.
    """
    for name, table in (("window", window), ("reference", reference)):
        _check(name, table)
    rng = np.random.default_rng(seed)
    if len(window) > MOST_PAPERS:
        window = window.select(np.sort(rng.permutation(len(window))[:MOST_PAPERS]))
    columns, other = columns_of(window), columns_of(reference)
    pooled = np.concatenate([columns.values, other.values])
    n, m = len(window), len(reference)
    means = pooled.mean(axis=0, dtype=np.float64)
    sd = np.maximum(pooled.std(axis=0, dtype=np.float64), _LEAST_SD)
    # Sums are of the smaller side; the other one's follow from the total.
    size = min(n, m)
    scale = np.sqrt(n * m / (n + m)) * (1 / n + 1 / m)
    standard = ((pooled - means) / sd).astype(np.float32)
    seen = standard[:n].sum(axis=0, dtype=np.float64) * scale
    exchanged = _sums(standard, size, exchanges, rng) * scale
    together = np.concatenate([seen[None], exchanged]).astype(np.float32)
    p_value, statistics = _joint(together, columns.groups)
    return WindowTest(
        n_window=n,
        n_reference=m,
        p_value=p_value,
        statistics=statistics,
        shifts=_shifts(columns, other, together),
    )


def _check(name: str, table: FeatureTable) -> None:
    if len(table) < LEAST_PAPERS:
        raise InvalidWindow(
            f"the {name} has {len(table)} papers, a comparison needs {LEAST_PAPERS} or more. Take "
            "a longer span, or wait for more predictions."
        )
    if not (np.isfinite(table.numbers).all() and np.isfinite(table.projection).all()):
        raise InvalidWindow(
            f"the {name} has features that are not finite numbers. Look at the model's scores."
        )


def _sums(
    standard: Floats, size: int, exchanges: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the sums of random papers: float64 [exchanges, d].

    Args:
        standard: float32 [n + m, d].
        size: how many papers each sum is of.
        exchanges: how many sums.
        rng: draws them.
    """
    total = len(standard)
    at_once = max(1, _BLOCK_NUMBERS // total)
    parts = []
    for start in range(0, exchanges, at_once):
        n_rows = min(at_once, exchanges - start)
        drawn = np.zeros((n_rows, total), dtype=np.float32)
        for row in drawn:
            row[rng.choice(total, size, replace=False, shuffle=False)] = 1
        parts.append((drawn @ standard).astype(np.float64))
    return np.concatenate(parts)


def _joint(z: Floats, groups: NDArray[np.intp]) -> tuple[float, dict[str, float]]:
    """Return the p-value of all statistics together, and of each.

    Args:
        z: float32 [1 + exchanges, d], standardised differences, what was seen first.
        groups: int [d].
    """
    squares = z * z
    statistics = {"maximum": squares.max(axis=1), "sum": squares.sum(axis=1)}
    for index, name in enumerate(GROUPS):
        statistics[f"sum of {name}"] = squares[:, groups == index].sum(axis=1)
    p = np.stack([_p_values(values) for values in statistics.values()])
    # Many exchanges are the largest in one statistic; the mean says which is so in the others too.
    smallest = p.min(axis=0) + _TIE * p.mean(axis=0)
    whole = float(np.mean(smallest <= smallest[0]))
    return whole, dict(zip(statistics, p[:, 0].tolist(), strict=True))


def _p_values(values: Floats) -> NDArray[np.float64]:
    """Return the share of values that are as large as each: float64 of the same shape."""
    rising = np.sort(values)
    smaller: NDArray[np.float64] = np.searchsorted(rising, values, side="left") / len(values)
    return 1 - smaller


def _shifts(columns: Columns, other: Columns, z: Floats) -> tuple[Shift, ...]:
    """Return the columns with step-down p-values, the smallest first."""
    size = np.abs(z)
    order = np.argsort(-size[0], kind="stable")
    # Of each column the largest among it and all that differ less, under the same exchange.
    successive = np.maximum.accumulate(size[:, order[::-1]], axis=1)[:, ::-1]
    p = (successive >= size[0, order]).mean(axis=0)
    p = np.maximum.accumulate(p)
    here, there = columns.values.mean(axis=0), other.values.mean(axis=0)
    return tuple(
        Shift(
            name=columns.names[j],
            window=float(here[j]),
            reference=float(there[j]),
            standardised=float(z[0, j]),
            p_value=float(value),
        )
        for j, value in zip(order.tolist(), p.tolist(), strict=True)
    )


def compare_parts(
    table: FeatureTable,
    against: FeatureTable,
    masks: dict[str, NDArray[np.bool_]],
    own: dict[str, NDArray[np.bool_]] | None,
    fields: FeatureTable,
) -> tuple[PartTest, ...]:
    """Return the comparison of parts of the papers, with p-values corrected by Holm.

    Args:
        table: the window.
        against: the reference.
        masks: bool [n] of each part.
        own: bool [m] of each part in the reference; None compares with all of it.
        fields: see ``size_of``.
    """
    large = [part for part, mask in masks.items() if mask.sum() >= LEAST_PAPERS]
    chosen = [p for p in large if own is None or own[p].sum() >= LEAST_PAPERS][:MOST_PARTS]
    found: list[tuple[str, int, float, Size]] = []
    for part in chosen:
        papers = table.select(masks[part])
        others = against if own is None else against.select(own[part])
        p_value = compare(papers, others, exchanges=_EXCHANGES_OF_PARTS).p_value
        found.append((part, len(papers), p_value, size_of(papers, others, fields=fields)))
    found.sort(key=lambda one: one[2])
    results, highest = [], 0.0
    for rank, (part, n, p_value, size) in enumerate(found):
        highest = max(highest, min(1.0, p_value * (len(found) - rank)))
        results.append(PartTest(part=part, n=n, p_value=highest, size=size))
    return tuple(results)


def compare_categories(
    table: FeatureTable, against: FeatureTable, fields: FeatureTable
) -> tuple[PartTest, ...]:
    """Return the comparison of the papers of each of the largest categories with their like."""
    first = Counter(table.top_labels[:, 0].tolist())
    columns = [column for column, _ in first.most_common()]
    here = {table.labels[c]: table.top_labels[:, 0] == c for c in columns}
    there = {table.labels[c]: against.top_labels[:, 0] == c for c in columns}
    return compare_parts(table, against, here, there, fields)
