"""Papers as tokens, the order in which a fit sees them, and batches of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classmark.kernels.tokens import PairTokenizer
from classmark.records import SILENT, Progress
from classmark.tracking import Trackers
from classmark.training.transformer.config import ClassWeights, TransformerConfig
from classmark.training.transformer.encoder import Encoder
from classmark.training.transformer.network import soft_targets
from classmark.training.transformer.processes import ALONE, Processes

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
    progress: Progress,
) -> TokenisedPapers:
    """Return (title, abstract) pairs as tokens.

    Args:
        tokenizer: makes them.
        papers: raw pairs; the tokenizer normalises them.
        progress: of the papers read.
    """
    ids, types, lengths = [], [], [0]
    known: list[np.float32] = []
    for first in range(0, len(papers), _TOKENISE_PAPERS):
        encoded = tokenizer.encode(papers[first : first + _TOKENISE_PAPERS])
        ids.append(np.concatenate([paper.ids for paper in encoded]))
        types.append(np.concatenate([paper.types for paper in encoded]))
        lengths.extend(len(paper) for paper in encoded)
        known.extend(paper.whole_share for paper in encoded)
        progress.advance(len(encoded))
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


class Step(TypedDict):
    """What one process does for a step.

    Attributes:
        papers: of the whole step, those of other processes too.
        batches: its own, with ``number``, the place in the step. A process that has none gets a
            batch without weight, so that all of them calculate as often.
    """

    papers: int
    batches: list[dict[str, Any]]


@dataclass(frozen=True)
class _Share:
    """The batches of a step that are those of one process; None beside one that has no weight."""

    papers: int
    numbers: list[int]
    rows: list[Rows]
    is_filled_up: bool


@dataclass(frozen=True, eq=False)
class _Steps(Dataset[Step]):
    """Makes the tensors of a share; pickled for workers where a process cannot be forked."""

    make_batch: Callable[[Rows], dict[str, Tensor]]

    def __getitem__(self, share: _Share) -> Step:
        batches: list[dict[str, Any]] = [self.make_batch(rows) for rows in share.rows]
        for batch, number in zip(batches, share.numbers, strict=True):
            batch["number"] = number
        if share.is_filled_up:
            batches[-1]["weights"] = torch.zeros_like(batches[-1]["weights"])
        return {"papers": share.papers, "batches": batches}


class StepLoader:
    """Yields the batches of every step of a fit, from a position on; Lightning saves where it is.

    The position counts steps that were yielded, not those that workers have made ahead, and a step
    has the same batches whatever the number of processes that share them.

    Attributes:
        position: steps that were yielded.
    """

    def __init__(
        self,
        order: Order,
        epochs: int,
        make_batch: Callable[[Rows], dict[str, Tensor]],
        *,
        workers: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self._order, self._epochs, self._steps = order, epochs, _Steps(make_batch)
        self._workers, self._processes = workers, processes
        self.position = 0

    def __len__(self) -> int:
        return self._order.steps_an_epoch * self._epochs

    def __iter__(self) -> Iterator[Step]:
        made: DataLoader[Step] = DataLoader(
            self._steps,
            batch_size=None,
            sampler=_From(self._shares, self.position),
            num_workers=self._workers,
            generator=torch.Generator(),  # else it draws from the fit's
        )
        for step in made:
            self.position += 1
            yield step

    def _shares(self, position: int) -> Iterator[_Share]:
        for at in range(position // self._order.steps_an_epoch, self._epochs):
            first = max(0, position - at * self._order.steps_an_epoch)
            for batches in self._order.steps(at)[first:]:
                yield _share_of(batches, self._processes)

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self.position = int(state["position"])


@dataclass(frozen=True)
class _From:
    """Iterates over the steps from a position on, each time again."""

    steps: Callable[[int], Iterator[_Share]]
    position: int

    def __iter__(self) -> Iterator[_Share]:
        return self.steps(self.position)


def _share_of(batches: Sequence[Rows], processes: Processes) -> _Share:
    numbers = list(range(processes.rank, len(batches), processes.count))
    lacks = len(numbers) < -(-len(batches) // processes.count)
    numbers += [0] * lacks
    papers = sum(len(rows) for rows in batches)
    return _Share(papers, numbers, [batches[n] for n in numbers], lacks)


Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Targets:
    """The truth of n papers over k labels.

    Attributes:
        labels: int16 [n], column of the label.
        listed_indptr: int64 [n + 1], as in a dataset split.
        listed_indices: int16 [listed], columns of the listed categories, primary first.
        n_labels: k.
        smoothing: share that is spread over all labels, 0..1.
        cross_list_share: share of the rest that is spread over the listed categories, 0..1.
        weights: float32 [n], of each paper in the loss, 1 in the mean.
    """

    labels: NDArray[np.int16]
    listed_indptr: NDArray[np.int64]
    listed_indices: NDArray[np.int16]
    n_labels: int
    smoothing: float
    cross_list_share: float
    weights: Floats

    def of(self, rows: NDArray[np.int64]) -> Floats:
        """Return the targets of some papers: float32 [len(rows), k], rows sum to 1."""
        counts = np.diff(self.listed_indptr)[rows]
        listed = np.full((len(rows), int(counts.max(initial=1))), -1, dtype=np.int64)
        listed[:, 0] = self.labels[rows]  # of a paper that lists none
        for place, row in enumerate(rows):
            columns = self.listed_indices[self.listed_indptr[row] : self.listed_indptr[row + 1]]
            listed[place, : len(columns)] = columns
        made = soft_targets(
            torch.from_numpy(self.labels[rows].astype(np.int64)),
            torch.from_numpy(listed),
            self.n_labels,
            listed_share=self.cross_list_share,
            smoothing=self.smoothing,
        )
        return np.asarray(made.numpy(), np.float32)


def make_batch(papers: TokenisedPapers, targets: Targets, rows: Rows) -> dict[str, Tensor]:
    """Return some papers with their targets and weights, as tensors."""
    return {
        **papers.pad(rows),
        "targets": torch.from_numpy(targets.of(rows)),
        "weights": torch.from_numpy(targets.weights[rows]),
    }


def paper_weights(labels: NDArray[np.int16], n_labels: int, kind: ClassWeights) -> Floats:
    """Return the weight of each paper by how frequent its label is: float32 [n], mean 1."""
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[kind]
    counts = np.bincount(labels, minlength=n_labels).astype(np.float64)
    weights = counts[labels] ** -power
    return np.asarray(weights / weights.mean(), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Valid:
    """The papers on which an epoch is measured; there may be none.

    Attributes:
        papers: n papers as tokens.
        labels: int16 [n], true columns.
    """

    papers: TokenisedPapers
    labels: NDArray[np.int16]


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformerFit:
    """What a fit needs.

    Attributes:
        config: options.
        seed: of the head, of order and dropout.
        folder: of the unfinished run: log, checkpoints and the best weights.
        encoder: to put a head on; its network is changed.
        papers: the training papers as tokens.
        targets: what they aim at.
        valid: papers on which an epoch is measured.
        start: weights to start from, and the run they are of; None: the encoder's own.
        progress: of stages, papers, loss and speed.
        trackers: keep the numbers of every step and epoch.
        processes: that make the fit together.
        profile: folder for how long each operation took; None: nothing is measured.
    """

    config: TransformerConfig
    seed: int
    folder: Path
    encoder: Encoder
    papers: TokenisedPapers
    targets: Targets
    valid: Valid
    start: tuple[dict[str, Tensor], Path] | None = None
    progress: Progress = SILENT
    trackers: Trackers = field(default_factory=Trackers)
    processes: Processes = ALONE
    profile: Path | None = None
