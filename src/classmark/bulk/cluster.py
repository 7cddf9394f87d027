"""Parts made by a cluster: nodes divide and classify, this process puts every part in its place.

No node but this one needs to see the work folder, and none keeps anything that is not sent here.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from classmark.bulk.config import BulkConfig
from classmark.bulk.worker import Division, Done, Task, WorkPlan, fill_part, open_model
from classmark.bundle import load_bundle
from classmark.cluster import Flow, connect, run_flow
from classmark.errors import ClassmarkError, WorkerFailed
from classmark.kernels.cascade import with_members
from classmark.runtime import Classifier
from classmark.storage import is_remote


@dataclass(frozen=True)
class _Divided:
    """The end of a file, which has been cut into so many chunks."""

    source: int
    n_chunks: int


@dataclass(frozen=True)
class _Made:
    """A part, not yet in its place."""

    done: Done
    content: bytes


def run_on_cluster(plan: WorkPlan, division: Division, config: BulkConfig) -> Generator[Done]:
    """Work on the tasks of a division and yield each when its part is written, in any order.

    Raises:
        MissingExtra, UsageError, ClusterFailed: as ``connect``.
        UnreadableSource: an input cannot be read.
        WorkerFailed: a worker met an error, or died too often over the same task.
    """
    inputs = plan.job.inputs
    with connect(config.address, n_cpus=config.workers) as cluster:
        workers = config.workers or cluster.n_cpus
        here = not all(map(is_remote, inputs))
        flow = Flow(
            n_sources=len(inputs),
            divide=_Divide(division),
            make_work=_MakeWork(plan, _model_files(Path(plan.job.model or ""))),
            workers=workers,
            readers=1 if here else min(len(inputs), max(1, workers // _WORKERS_A_READER)),
            here=here,
        )
        with closing(run_flow(flow)) as results:
            for result in results:
                if isinstance(result, _Divided):
                    division.n_chunks[result.source] = result.n_chunks
                    continue
                with plan.parts.writing(result.done.index) as part:
                    part.write(result.content)
                yield result.done


_WORKERS_A_READER = 4
"""A process that unpacks and divides lines feeds at least as many that classify them."""


@dataclass(frozen=True)
class _Divide:
    division: Division

    def __call__(self, source: int) -> Iterator[Task | _Divided]:
        yield from self.division.tasks_of(source)
        yield _Divided(source, self.division.n_chunks[source])


@dataclass(frozen=True)
class _MakeWork:
    """Opens the model on a node, from what was sent of it.

    Attributes:
        plan: of the run.
        files: content by path; the folders lie beside each other, the model's own is the first.
    """

    plan: WorkPlan
    files: dict[str, bytes]

    def __call__(self) -> _Work:
        with tempfile.TemporaryDirectory(prefix="classmark-") as place:
            for name, content in self.files.items():
                path = Path(place, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            first = next(iter(self.files))
            classifier = open_model(Path(place, first).parent, self.plan)
        return _Work(classifier, self.plan)


class _Work:
    def __init__(self, classifier: Classifier, plan: WorkPlan) -> None:
        self._classifier = classifier
        self._plan = plan

    def __call__(self, item: Task | _Divided) -> _Made | _Divided:
        if isinstance(item, _Divided):
            return item
        part = io.BytesIO()
        try:
            summary = fill_part(part, item, self._classifier, self._plan.job)
        except ClassmarkError as error:
            raise WorkerFailed(str(error)) from error
        done = Done(item.index, summary.records, item.input_bytes)
        return _Made(done, part.getvalue())


def _model_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle, and after them those of the models that a cascade names."""
    members = with_members(load_bundle(folder)).members
    folders = [folder, *(bundle.path for bundle in members.values())]
    return {
        f"{place.name}/{path.relative_to(place).as_posix()}": path.read_bytes()
        for place in folders
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }
