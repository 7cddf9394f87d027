"""The Lightning module: one step is one update, of as many batches as are accumulated."""

from __future__ import annotations

import math
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from classmark.errors import TrainingFailed
from classmark.training.transformer.checkpoint import undivided
from classmark.training.transformer.config import TransformerConfig
from classmark.training.transformer.data import Step
from classmark.training.transformer.network import EncoderClassifier, cross_entropy
from classmark.training.transformer.processes import ALONE, Processes


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """What is known of one update.

    Attributes:
        loss: weighted mean over its papers, nats.
        gradient_norm: of the gradient as one vector, before it is clipped.
        rate: of the encoder's top layer in this step.
        head_rate: of the head.
        layers: layers that were fitted.
        papers: papers of the step.
    """

    loss: float
    gradient_norm: float
    rate: float
    head_rate: float
    layers: int
    papers: int


class TransformerModule(LightningModule):
    """Fits an ``EncoderClassifier`` by AdamW.

    Lightning's own optimisation is off (``automatic_optimization``), so that a step weighs every
    paper alike whatever the batches, and ends before an update that is not finite.

    What a batch draws (dropout) depends on the seed, the step and its place in the step alone: a
    resumed fit needs no random state, and it does not matter which process has the batch.
    """

    def __init__(
        self,
        model: EncoderClassifier,
        config: TransformerConfig,
        *,
        n_steps: int,
        n_epochs: int,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        """Take a model to fit.

        Args:
            model: with its head.
            config: rates, freezing, clipping.
            n_steps: of the whole fit.
            n_epochs: of the whole fit.
            seed: of what is drawn in a step.
            processes: that make each step together.
        """
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self._config, self._n_steps = config, n_steps
        self._steps_an_epoch = n_steps // n_epochs
        self._layers: int | None = None
        self._gradient_norm = 0.0
        self._step = 0
        self._seed, self._processes = seed, processes
        self.facts: StepFacts | None = None

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and its schedule."""
        optimiser = AdamW(parameter_groups(self.model, self._config))
        schedule = LambdaLR(optimiser, lambda n: rate_share(n, self._n_steps, self._config))
        return {"optimizer": optimiser, "lr_scheduler": schedule}

    def configure_model(self) -> None:
        """Divide the model among the processes, layer by layer, where the strategy is to."""
        if self._config.strategy != "fsdp":
            return
        from torch.distributed.fsdp import FSDPModule, fully_shard

        if self.device_mesh is None or isinstance(self.model, FSDPModule):
            return
        mesh = self.device_mesh["data_parallel"]
        for name in self.model.layers:
            fully_shard(self.model.encoder.get_submodule(name), mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def training_step(self, step: Step, batch_idx: int) -> None:
        """Make one update.

        Args:
            step: its batches have ``ids``, ``mask``, ``types`` (int64 [n, t]), ``targets``
                (float32 [n, k], rows sum to 1) and ``weights`` (float32 [n]).
            batch_idx: steps done before.

        Raises:
            TrainingFailed: loss or gradient is not finite; the weights are those before the step.
        """
        optimiser: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        self._begin(batch_idx)
        batches, papers = step["batches"], step["papers"]
        loss = 0.0
        optimiser.zero_grad()
        for left, batch in zip(reversed(range(len(batches))), batches, strict=True):
            with self._kept_here() if left else nullcontext():
                # Gradients become their mean over the processes; a step is of their sum.
                part = self._loss(batch) / (papers / self._processes.count)
                loss += float(part.detach()) / self._processes.count
                self.manual_backward(part)
        loss = self._processes.sum(loss)
        self._check_number("loss", loss)
        rates = schedule.get_last_lr()
        optimiser.step()
        schedule.step()
        self.facts = StepFacts(
            loss=loss,
            gradient_norm=self._gradient_norm,
            rate=rates[-3],
            head_rate=rates[-1],
            layers=self._layers or 0,
            papers=papers,
        )

    def on_before_optimizer_step(self, optimizer: Any) -> None:  # noqa: ARG002 - Lightning's
        """Clip the gradient, which is not scaled any more here."""
        with_gradient = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(with_gradient, self._config.clip or math.inf)
        self._gradient_norm = float(undivided(norm))
        if self._config.precision != "fp16":  # there the scaler leaves such a step out
            self._check_number("gradient", self._gradient_norm)

    def thaw(self) -> None:
        """Let the next step set the modes of the layers: somebody else has used the model."""
        self._layers = None

    def _begin(self, step: int) -> None:
        self._step = step
        layers = trained_layers(step / self._steps_an_epoch, self.model.n_layers, self._config)
        if layers != self._layers:
            self.model.train_top(layers)
            self._layers = layers

    def _kept_here(self) -> AbstractContextManager[None]:
        """Return a context in which gradients are added up but not yet exchanged."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ParallelStrategy):
            context: AbstractContextManager[None] = strategy.block_backward_sync()
            return context
        return nullcontext()

    def _loss(self, batch: dict[str, Any]) -> Tensor:
        """Return the summed weighted cross-entropy of a batch against its soft targets."""
        torch.manual_seed(seed_of(self._seed, self._step, batch["number"]))
        with self.trainer.precision_plugin.forward_context():
            logits = self.model(batch["ids"], batch["mask"], batch["types"])
        return cross_entropy(logits, batch["targets"], batch["weights"])

    def _check_number(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingFailed(
                f"the {what} is {value} in step {self._step + 1}. Lower model.rate (now "
                f"{self._config.rate}) or model.head_rate (now {self._config.head_rate}), or clip "
                f"the gradient with model.clip (now {self._config.clip})."
            )


def seed_of(*place: int) -> int:
    """Return a seed that whole numbers from 0, such as a seed and a step, give together."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def parameter_groups(model: EncoderClassifier, config: TransformerConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups: each depth of the encoder with its rate, then the head.

    Biases and norms (one dimension) have groups of their own, without weight decay.
    """
    groups: dict[tuple[int, bool], list[Any]] = {}
    for name, parameter in model.encoder.named_parameters():
        groups.setdefault((model.depth_of(name), parameter.ndim > 1), []).append(parameter)
    of_encoder = [
        {
            "params": parameters,
            "lr": config.rate * config.layer_decay ** (model.n_layers - depth),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
    head = [
        {
            "params": [model.head.weight],
            "lr": config.head_rate,
            "weight_decay": config.weight_decay,
        },
        {"params": [model.head.bias], "lr": config.head_rate, "weight_decay": 0.0},
    ]
    return of_encoder + head


def rate_share(step: int, n_steps: int, config: TransformerConfig) -> float:
    """Return the share of its highest rate that each group has in a step, 0..1.

    Args:
        step: from 0.
        n_steps: steps of the whole fit.
        config: ``warmup`` and ``decay``.
    """
    n_warm = math.ceil(config.warmup * n_steps)
    if step < n_warm:
        return (step + 1) / (n_warm + 1)
    done = min(1.0, (step - n_warm) / max(1, n_steps - n_warm))
    if config.decay == "linear":
        return 1 - done
    if config.decay == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0


def trained_layers(epochs_done: float, n_layers: int, config: TransformerConfig) -> int:
    """Return how many of the top layers are fitted now; ``n_layers + 1`` is the whole encoder.

    Args:
        epochs_done: passes over the training papers so far.
        n_layers: layers of the encoder, embeddings not counted.
        config: ``trained_layers`` and ``unfreeze_epochs``.
    """
    most = n_layers + 1
    if config.trained_layers is not None:
        most = min(most, config.trained_layers)
    if config.unfreeze_epochs == 0:
        return most
    return min(most, int(epochs_done / config.unfreeze_epochs + 1e-9))
