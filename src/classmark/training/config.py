"""Options of the linear model and the cascade; the defaults are in ``conf/model``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from classmark.cluster import Engine, check_engine
from classmark.errors import InvalidConfig

_MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Who makes the fit of a transformer; it decides nothing about the model.

    Attributes:
        engine: ``local``, this machine, or the machines that torchrun joins; ``ray``, a cluster,
            whose nodes all see the dataset and the folder of the runs.
        address: of the cluster, HOST:PORT or auto; null: one of this machine.
        workers: processes of the fit on the cluster, each with one CPU.
    """

    engine: Engine = "local"
    address: str | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        check_engine(self.engine, self.address)
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise InvalidConfig(
                f"trainer.workers is {self.workers}, it must be from 1 to {_MOST_WORKERS}."
            )


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Options of fitting a linear model.

    Attributes:
        start: a run of a linear model whose weights the parent's fit starts from, as far as it has
            the same features and labels; None: from nothing.
        max_features: maximum number of features in the bundle; the least important are pruned.
        min_papers: a feature must occur in this many training papers.
        epochs: passes of the parent's fit over the training papers.
        warm_epochs: passes of a parent's fit that starts from another run.
        refine_epochs: passes after pruning, with the remaining features, in two bits.
        batch_size: papers in a step.
        rate: initial step of the rows; it falls linearly to 0 (row-wise AdaGrad).
        warm_rate: the same for a fit that starts from another run.
        refine_rate: the same for the passes after pruning.
        head_rate: the same for head and bias.
        weight_decay: a row shrinks by this share of its step each time a paper has it.
        hidden_dropout: share of the hidden vector that is dropped in a step, 0..1.
        label_smoothing: share of the target that is spread over all labels, 0..1; it keeps
            the model from claiming too much (docs/log.md).
        parts_share: share of the papers of which a part (the title, or two sentences) is fitted
            too, 0..1; it makes answers to short texts better.
        parts_weight: weight of such a part in the loss; a paper has that of its period.
        period_weights: weight of a paper by the name of its period; others weigh 1.
        threads: threads of the sparse sums; the result does not depend on it.
        max_author_entries: maximum size of the author table: an entry is how many papers of a
            label, listing and period of two years an author has; 0 fits no table.
    """

    start: str | None
    max_features: int
    min_papers: int
    epochs: int
    warm_epochs: int
    refine_epochs: int
    batch_size: int
    rate: float
    warm_rate: float
    refine_rate: float
    head_rate: float
    weight_decay: float
    hidden_dropout: float
    label_smoothing: float
    parts_share: float
    parts_weight: float
    period_weights: Mapping[str, float]
    threads: int
    max_author_entries: int

    def __post_init__(self) -> None:
        limits = {
            "max_features": (1, 50_000_000),
            "min_papers": (1, 1_000_000),
            "epochs": (1, 1000),
            "warm_epochs": (1, 1000),
            "refine_epochs": (1, 1000),
            "batch_size": (1, 65_536),
            "rate": (1e-6, 10.0),
            "warm_rate": (1e-6, 10.0),
            "refine_rate": (1e-6, 10.0),
            "head_rate": (1e-6, 10.0),
            "weight_decay": (0.0, 1.0),
            "hidden_dropout": (0.0, 0.95),
            "label_smoothing": (0.0, 0.9),
            "parts_share": (0.0, 1.0),
            "parts_weight": (0.0, 1.0),
            "threads": (1, 256),
            "max_author_entries": (0, 50_000_000),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise InvalidConfig(
                    f"model.{key} is {getattr(self, key)}, it must be from {low} to {high}."
                )
        for period, weight in self.period_weights.items():
            if not 0 <= weight <= 1000:
                raise InvalidConfig(
                    f"model.period_weights.{period} is {weight}, it must be from 0 to 1000."
                )


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """Options of joining a fast and a deep model.

    Attributes:
        fast: name or folder of the bundle that is asked first.
        deep: name or folder of the bundle that is asked where the fast one is unsure.
        max_loss: accuracy on valid that may be lost against always asking the deep model, 0..1.
        threshold: below this probability of the fast model the deep one is asked; None chooses
            the cheapest threshold within ``max_loss``.
        mix: try mixing both scores where the deep model is asked.
        max_held_out: maximum number of papers of valid and of test; None: all.
    """

    fast: str
    deep: str
    max_loss: float
    threshold: float | None
    mix: bool
    max_held_out: int | None

    def __post_init__(self) -> None:
        for name in ("max_loss", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidConfig(f"model.{name} is {value}, it must be from 0 to 1.")
        if self.max_held_out is not None and self.max_held_out < 1:
            raise InvalidConfig(f"model.max_held_out is {self.max_held_out}, it must be 1 or more.")
