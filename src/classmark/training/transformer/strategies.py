"""How Lightning makes a step with several processes, which are connected already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import distribute_tensor
from torch.optim import Optimizer

from classmark.training.transformer.config import TransformerConfig
from classmark.training.transformer.processes import Processes


def trainer_options(config: TransformerConfig, processes: Processes) -> dict[str, Any]:
    """Return the arguments of Lightning's trainer that say who makes the fit."""
    if processes.count == 1:
        return {"devices": 1, "plugins": []}
    strategy: Any
    if config.strategy == "fsdp":
        strategy = ShardedStrategy(processes.count)
    else:
        # Layers may be frozen, and an encoder may have parts that no paper reaches.
        strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    return {
        "strategy": strategy,
        "devices": processes.local_count,
        "num_nodes": processes.machines,
        "plugins": [TorchElasticEnvironment()],
        "use_distributed_sampler": False,
    }


class ShardedStrategy(ModelParallelStrategy):
    """Divides model and optimiser, but writes and reads the checkpoints of one process.

    Lightning's own would be a file, or a folder of pickles; so a run can be resumed by another
    number of processes, and with another strategy.
    """

    def __init__(self, count: int) -> None:
        """Divide by as many processes."""
        super().__init__(
            data_parallel_size=count, tensor_parallel_size=1, save_distributed_checkpoint=False
        )

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None
    ) -> None:
        """Write what the first process has gathered."""
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(
        self,
        checkpoint_path: str | Path,
        weights_only: bool | None = None,  # noqa: ARG002 - Lightning's signature
    ) -> dict[str, Any]:
        """Read a checkpoint, and give each process its part of weights and optimiser."""
        content: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        model: Any = self.model
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, content["state_dict"], options=options)
        for optimiser, state in zip(self.optimizers, content["optimizer_states"], strict=True):
            optimiser.load_state_dict(_divided_state(optimiser, state))
        return content


def _divided_state(optimiser: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an optimiser with its tensors divided as the parameters are.

    Numbers of parameters differ between strategies, their order in the groups does not.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    divided = {}
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in state["state"]:
            divided[number] = {
                name: distribute_tensor(value, parameter.device_mesh, parameter.placements)
                if value.shape == parameter.shape
                else value
                for name, value in state["state"][number].items()
            }
    return {**state, "state": divided}
