"""Papers as tokens, the order in which a fit sees them, and batches of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classmark.kernels.tokens import PairTokenizer

_POOL_BATCHES = 50
_TOKENISE_PAPERS = 500

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenisedPapers:
    """n papers as tokens, one after another.

    Attributes:
        ids: int32 [tokens].
        types: int8 [tokens].
        starts: int64 [n + 1]; the tokens of paper i are ``ids[starts[i]:starts[i + 1]]``.
        known_share: float32 [n], share of whole, known words.
        pad_id: the id of padding.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int8]
    starts: NDArray[np.int64]
    known_share: NDArray[np.float32]
    pad_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each paper: int64 [n]."""
        return np.diff(self.starts)

    def pad(self, rows: Rows) -> dict[str, Tensor]:
        """Return some papers as ``ids``, ``mask`` and ``types``: int64 [len(rows), longest]."""
        lengths = self.lengths[rows]
        ids = np.full((len(rows), int(lengths.max(initial=1))), self.pad_id, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            tokens = slice(self.starts[row], self.starts[row] + length)
            ids[place, :length] = self.ids[tokens]
            types[place, :length] = self.types[tokens]
            mask[place, :length] = 1
        return {k: torch.from_numpy(v) for k, v in (("ids", ids), ("mask", mask), ("types", types))}


def tokenise(
    tokenizer: PairTokenizer,
    papers: Sequence[tuple[str, str]],
    on_progress: Callable[[int], None],
) -> TokenisedPapers:
    """Return (title, abstract) pairs as tokens.

    Args:
        tokenizer: makes them.
        papers: raw pairs; the tokenizer normalises them.
        on_progress: called with the number of papers done.
    """
    ids, types, lengths = [], [], [0]
    known: list[np.float32] = []
    for first in range(0, len(papers), _TOKENISE_PAPERS):
        encoded = tokenizer.encode(papers[first : first + _TOKENISE_PAPERS])
        ids.append(np.concatenate([paper.ids for paper in encoded]))
        types.append(np.concatenate([paper.types for paper in encoded]))
        lengths.extend(len(paper) for paper in encoded)
        known.extend(paper.whole_share for paper in encoded)
        on_progress(len(encoded))
    return TokenisedPapers(
        np.concatenate([np.zeros(0, np.int32), *ids]),
        np.concatenate([np.zeros(0, np.int8), *types]),
        np.cumsum(lengths).astype(np.int64),
        np.array(known, dtype=np.float32),
        tokenizer.pad_id,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Order:
    """In which order a fit sees its papers: a function of the seed and the epoch alone.

    Attributes:
        lengths: int64 [n], tokens of each paper.
        batch_size: papers of a batch.
        accumulation: batches of a step.
        bucketed: put papers of similar length together: the shuffled papers are cut into pools of
            50 batches, and a pool is sorted before it is cut into batches.
        seed: of the order.
    """

    lengths: NDArray[np.int64]
    batch_size: int
    accumulation: int
    bucketed: bool
    seed: int

    @property
    def steps_an_epoch(self) -> int:
        """Return how many steps an epoch has."""
        n_batches = -(-len(self.lengths) // self.batch_size)
        return -(-n_batches // self.accumulation)

    def batches(self, epoch: int) -> list[Rows]:
        """Return the papers of each batch of an epoch (from 0)."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.lengths)).astype(np.int64)
        if not self.bucketed:
            return self._cut(order)
        pool = self.batch_size * _POOL_BATCHES
        batches = []
        for first in range(0, len(order), pool):
            papers = order[first : first + pool]
            batches += self._cut(papers[np.argsort(self.lengths[papers], kind="stable")])
        return [batches[i] for i in random.permutation(len(batches))]

    def steps(self, epoch: int) -> list[list[Rows]]:
        """Return the batches of each step of an epoch (from 0)."""
        batches = self.batches(epoch)
        return [
            batches[first : first + self.accumulation]
            for first in range(0, len(batches), self.accumulation)
        ]

    def _cut(self, papers: Rows) -> list[Rows]:
        return [
            papers[first : first + self.batch_size]
            for first in range(0, len(papers), self.batch_size)
        ]


class StepLoader:
    """Yields the batches of every step of a fit, from a position on; Lightning saves where it is.

    Attributes:
        position: steps that were yielded.
    """

    def __init__(
        self, order: Order, epochs: int, make_batch: Callable[[Rows], dict[str, Tensor]]
    ) -> None:
        self._order, self._epochs, self._make_batch = order, epochs, make_batch
        self.position = 0

    def __len__(self) -> int:
        return self._order.steps_an_epoch * self._epochs

    def __iter__(self) -> Iterator[list[dict[str, Tensor]]]:
        while self.position < len(self):
            epoch, first = divmod(self.position, self._order.steps_an_epoch)
            for batches in self._order.steps(epoch)[first:]:
                self.position += 1
                yield [self._make_batch(rows) for rows in batches]

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self.position = int(state["position"])
