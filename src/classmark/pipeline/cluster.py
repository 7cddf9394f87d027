"""The fit of a transformer by processes on the nodes of a cluster, which Ray Train starts."""

from __future__ import annotations

import os
import socket
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from classmark.cluster import connect
from classmark.errors import ClassmarkError, InvalidConfig, WorkerFailed
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.kinds import KINDS, kinds_that
from classmark.records import Progress
from classmark.training import TrainerConfig

_TRIES = 2
"""So often the processes are started again after one was lost, from the last checkpoint."""
_STATE = "unfinished"


@dataclass(frozen=True)
class _Part:
    """What each process does: the fit of this machine, in the place that Ray Train gives it.

    Attributes:
        config: of the fit.
        folder: in which its relative paths begin, on every node.
        command: for the record of the run.
        known: unfinished runs that are not of this fit.
    """

    config: TrainConfig
    folder: Path
    command: str
    known: frozenset[str]

    def __call__(self) -> str:
        from ray.train import get_context
        from ray.train.collective import broadcast_from_rank_zero

        from classmark.pipeline.path import train

        if not self.folder.is_dir():
            raise WorkerFailed(
                f"a node of the cluster does not see the folder {self.folder}. Run the command in "
                "a folder that all nodes share, and keep the dataset and the runs there."
            )
        os.chdir(self.folder)  # Ray Train begins in a folder of its own
        place = get_context()
        first = place.get_world_rank() == 0
        chosen = broadcast_from_rank_zero((*_free_address(), self._begun()) if first else None)
        host, port, begun = chosen
        os.environ.update(
            {
                "RANK": str(place.get_world_rank()),
                "WORLD_SIZE": str(place.get_world_size()),
                "LOCAL_RANK": str(place.get_local_rank()),
                "LOCAL_WORLD_SIZE": str(place.get_local_world_size()),
                "MASTER_ADDR": host,
                "MASTER_PORT": str(port),
            }
        )
        resume = self.config.resume if begun is None else Path(begun)
        return str(train(replace(self.config, resume=resume), command=self.command))

    def _begun(self) -> str | None:
        """Return the run that processes before these have begun, if they wrote a checkpoint."""
        for folder in sorted(self.config.runs_dir.glob(f"*.{_STATE}"), reverse=True):
            if folder.name not in self.known and any((folder / "checkpoints").glob("*")):
                return str(folder)
        return None


def train_on_cluster(config: TrainConfig, command: str, progress: Progress) -> Path:
    """Return the run folder of a fit whose processes run on a cluster; see ``train``.

    Raises:
        InvalidConfig: the model is not a transformer, or the cluster has too few CPUs.
        MissingExtra, UsageError, ClusterFailed: as ``connect``.
        WorkerFailed: processes were lost more often than they are started again.
        ClassmarkError: what the fit raises.
    """
    if not KINDS[config.kind].can_share:
        raise InvalidConfig(
            f"trainer.engine=ray is for {kinds_that(lambda kind: kind.can_share)}; a {config.kind} "
            "model is fitted by this machine in minutes."
        )
    trainer = config.trainer
    config = replace(config, trainer=TrainerConfig())
    config.runs_dir.mkdir(parents=True, exist_ok=True)
    known = frozenset(folder.name for folder in config.runs_dir.glob(f"*.{_STATE}"))
    n_cpus = trainer.workers + 1 if trainer.address is None else None  # one for Ray's controller
    with connect(trainer.address, n_cpus=n_cpus) as cluster:
        if cluster.n_cpus < trainer.workers:
            raise InvalidConfig(
                f"trainer.workers is {trainer.workers}, the cluster has {cluster.n_cpus} CPUs. "
                "Give fewer, or add nodes."
            )
        progress.step(f"fitting with {trainer.workers} processes on {cluster.n_nodes} nodes")
        return Path(_fit(_Part(config, Path.cwd(), command, known), trainer.workers))


def _fit(part: _Part, workers: int) -> str:
    import ray.exceptions
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    with TemporaryDirectory(prefix="classmark-") as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of settings that only Ray touches
        trainer = DataParallelTrainer(
            part.__call__,
            scaling_config=ScalingConfig(num_workers=workers),
            run_config=RunConfig(
                storage_path=place, failure_config=FailureConfig(max_failures=_TRIES)
            ),
        )
        try:
            return str(trainer.fit().return_value)
        except (TrainingFailedError, ray.exceptions.RayError) as error:
            raise _cause(error) from error


def _cause(error: Any) -> ClassmarkError:
    """Return what a process raised, the causes before those that only lost another one."""
    failures = getattr(error, "worker_failures", {}).values()
    found = [getattr(failure, "cause", failure) for failure in failures]
    own = [failure for failure in found if isinstance(failure, ClassmarkError)]
    own.sort(key=lambda failure: isinstance(failure, WorkerFailed))
    if own:
        return own[0]
    last = str(next(iter(found), error)).strip().rpartition("\n")[2]
    return WorkerFailed(f"the fit on the cluster failed: {last}")


def _free_address() -> tuple[str, int]:
    """Return where the first process can be reached by the others."""
    import ray

    host = ray.util.get_node_ip_address()
    with socket.socket() as free:
        free.bind((host, 0))
        return host, free.getsockname()[1]
