"""Options of fitting a transformer; the defaults are in ``conf/model/transformer.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from classmark.errors import InvalidConfig
from classmark.records.run import Pooling

Decay = Literal["linear", "cosine", "constant"]
ClassWeights = Literal["none", "sqrt", "balanced"]
Precision = Literal["fp32", "bf16", "fp16"]
Monitor = Literal["top_1", "top_5", "macro_f1", "loss"]
Device = Literal["auto", "cpu", "gpu"]
Strategy = Literal["ddp", "fsdp"]

_CHOICES = {
    "pooling": Pooling,
    "decay": Decay,
    "class_weights": ClassWeights,
    "precision": Precision,
    "monitor": Monitor,
    "device": Device,
    "strategy": Strategy,
}
_MOST = 1_000_000_000
_LIMITS: dict[str, tuple[float, float]] = {
    "max_length": (8, 8192),
    "dropout": (0.0, 0.95),
    "encoder_dropout": (0.0, 0.95),
    "trained_layers": (0, 1000),
    "unfreeze_epochs": (0.0, 1000.0),
    "epochs": (1, 1000),
    "batch_size": (1, 65_536),
    "accumulation": (1, 65_536),
    "rate": (1e-9, 10.0),
    "head_rate": (1e-9, 10.0),
    "layer_decay": (0.01, 1.0),
    "weight_decay": (0.0, 1.0),
    "warmup": (0.0, 1.0),
    "clip": (0.0, 1e6),
    "label_smoothing": (0.0, 0.9),
    "cross_list_share": (0.0, 1.0),
    "patience": (0, 1000),
    "time_limit_minutes": (1e-6, 1e6),
    "max_samples": (2, _MOST),
    "max_held_out": (1, _MOST),
    "checkpoint_minutes": (0.0, 1e6),
    "devices": (1, 1024),
    "workers": (0, 256),
    "threads": (1, 256),
    "max_author_entries": (0, 50_000_000),
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Options of fitting a transformer.

    Attributes:
        encoder: ``packaged`` (MiniLM-L6 of the extra), a folder, or a Hugging Face name.
        start: a run of a transformer whose weights the fit starts from; None: the encoder's own
            and a new head.
        pooling: how a paper's token vectors become one: their mean, the first, or the largest.
        max_length: maximum number of tokens of a paper.
        dropout: share of the pooled vector that is dropped in a step, 0..1.
        encoder_dropout: the same inside the encoder; None: the encoder's own.
        trained_layers: the top layers that are fitted; 0 freezes the encoder, None fits all of
            it. Frozen layers run without dropout.
        unfreeze_epochs: epochs until one more layer is fitted, from the top, beginning with the
            head alone; 0: all from the start.
        epochs: passes over the training papers.
        batch_size: papers that are in memory at once.
        accumulation: batches whose gradients make one step; processes share them equally.
        bucketed: put papers of similar length into a batch, so that less is padding.
        rate: peak step size of the encoder's top layer (AdamW).
        head_rate: the same for the head.
        layer_decay: a layer's rate is that of the layer above it times this.
        weight_decay: of weights, not of biases and norms (decoupled, per unit of rate).
        warmup: share of the steps in which the rates rise from 0.
        decay: how they fall after it: ``linear`` or ``cosine`` to 0, or ``constant``.
        clip: maximum norm of the gradient; longer ones are scaled down. 0: never.
        label_smoothing: share of the target that is spread over all labels, 0..1.
        cross_list_share: share of the rest that is spread over all listed categories, the
            primary among them, 0..1.
        class_weights: weight of a paper in the loss by its label: ``none``; ``balanced``, as
            1 / papers of the label; ``sqrt``, as the root of that.
        precision: precision of the sums in a step; weights and checkpoints are always float32.
        monitor: metric on the valid split that decides which epoch is the best.
        patience: epochs without a better one after which the fit stops; 0: never.
        time_limit_minutes: minutes of fitting after which it stops; None: no limit.
        max_samples: maximum number of training papers, drawn by the seed; None: all.
        max_held_out: maximum number of papers of valid and of test that are scored; None: all.
        deterministic: refuse operations whose result may differ between runs.
        checkpoint_minutes: minutes between two checkpoints; one also ends every epoch. 0: after
            every step.
        device: ``cpu``, ``gpu``, or ``auto``, the best available.
        devices: processes of the fit on this machine, each with a GPU or its share of the
            processors. They make the steps that one would make; torchrun joins machines.
        strategy: of several processes: ``ddp``, where each holds the whole model, or ``fsdp``,
            which divides weights, gradients and optimiser among them.
        workers: processes that make batches beside each process of the fit; 0: it makes them
            itself.
        threads: torch's CPU threads in each process; None: its share of the processors.
        max_author_entries: maximum size of the author table, counted from all training papers, as
            for a linear model; 0 fits no table.
    """

    encoder: str
    start: str | None
    pooling: Pooling
    max_length: int
    dropout: float
    encoder_dropout: float | None
    trained_layers: int | None
    unfreeze_epochs: float
    epochs: int
    batch_size: int
    accumulation: int
    bucketed: bool
    rate: float
    head_rate: float
    layer_decay: float
    weight_decay: float
    warmup: float
    decay: Decay
    clip: float
    label_smoothing: float
    cross_list_share: float
    class_weights: ClassWeights
    precision: Precision
    monitor: Monitor
    patience: int
    time_limit_minutes: float | None
    max_samples: int | None
    max_held_out: int | None
    deterministic: bool
    checkpoint_minutes: float
    device: Device
    devices: int
    strategy: Strategy
    workers: int
    threads: int | None
    max_author_entries: int

    def __post_init__(self) -> None:
        for key, (low, high) in _LIMITS.items():
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                raise InvalidConfig(f"model.{key} is {value}, it must be from {low} to {high}.")
        for key, choice in _CHOICES.items():
            if getattr(self, key) not in get_args(choice):
                raise InvalidConfig(
                    f"model.{key} is {getattr(self, key)!r}, choose one of: "
                    f"{', '.join(get_args(choice))}."
                )
        if not self.encoder.strip():
            raise InvalidConfig("model.encoder is empty. Name 'packaged', a folder or a hub name.")
        if self.strategy == "fsdp" and (self.unfreeze_epochs or self.precision == "fp16"):
            raise InvalidConfig(
                "model.strategy=fsdp fits the same layers from the start, in fp32 or bf16: give "
                f"model.unfreeze_epochs=0 (now {self.unfreeze_epochs}) and another precision than "
                f"fp16 (now {self.precision}), or model.strategy=ddp."
            )

    @property
    def papers_a_step(self) -> int:
        """Return the papers whose gradients make one step."""
        return self.batch_size * self.accumulation
