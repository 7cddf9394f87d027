"""Whether the C kernel and numpy agree about a bundle, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle
from classmark.kernels.authors import AuthorTable
from classmark.kernels.cascade import with_members
from classmark.kernels.featuriser import KERNEL, fold, fold_in_python
from classmark.kernels.joining import load_join
from classmark.kernels.linear import load_scorer
from classmark.records import Paper


def count_differences(bundle: Bundle, papers: Sequence[Paper]) -> int | None:
    """Return how many papers get other scores from numpy than from C.

    Texts are folded, scored, and joined with their authors on both ways. Of a cascade, the fast
    model is asked.

    Args:
        bundle: of any kind.
        papers: at least one.

    Returns:
        None if there is nothing to compare: no C kernel here, or no linear model.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: a model of a cascade cannot be loaded.
    """
    linear = with_members(bundle).members.get("fast", bundle)
    if KERNEL is None or linear.manifest.kind != "linear":
        return None
    return int(np.count_nonzero(_differ(linear, papers)))


def _differ(bundle: Bundle, papers: Sequence[Paper]) -> NDArray[np.bool_]:
    pairs = [(paper.title, paper.abstract) for paper in papers]
    scorer = load_scorer(bundle)
    fast, slow = scorer.score(pairs), scorer.in_numpy().score(pairs)
    join, temperature = load_join(bundle), bundle.manifest.policy.temperature
    if join is not None:
        table = AuthorTable(join.arrays, join.table.first_year, use_kernel=False)
        fast = join.join(fast, papers, temperature)
        slow = replace(join, table=table).join(slow, papers, temperature)
    folded = [fold(*pair) != fold_in_python(*pair) for pair in pairs]
    scores = (fast.scores != slow.scores).any(axis=1) | (fast.known_share != slow.known_share)
    found: NDArray[np.bool_] = scores | np.array(folded)
    return found
