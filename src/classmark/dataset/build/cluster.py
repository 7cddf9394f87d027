"""Sources read by a cluster: nodes divide them, parse the records and judge the texts, in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from classmark.cluster import Flow, connect, run_flow
from classmark.dataset.build.intake import (
    CHUNK_PAPERS,
    Batch,
    id_prefix,
    make_batch,
    read_options,
)
from classmark.dataset.config import DatasetConfig
from classmark.papers import Chunk, ChunkSize, papers_of, read_chunks
from classmark.records import Progress
from classmark.storage import is_remote

_CHUNK_SIZE = ChunkSize(bytes=16 << 20, records=CHUNK_PAPERS)


@dataclass(frozen=True)
class ReadOnCluster:
    """Reads sources on a cluster; called with them.

    Attributes:
        address: as for ``connect``.
        size: of what a worker reads at a time; it decides nothing about the dataset.
    """

    address: str | None = None
    size: ChunkSize = _CHUNK_SIZE

    def __call__(
        self, sources: Sequence[Path], config: DatasetConfig, progress: Progress
    ) -> Generator[Batch | None]:
        """Yield the batches of all sources in order, and None after the last of each.

        Raises:
            MissingExtra, UsageError, ClusterFailed: as ``connect``.
            UnreadableSource: a source cannot be read.
            WorkerFailed: a worker failed, or died too often over the same records.
        """
        # Workers have no folder of this process.
        places = tuple(path if is_remote(path) else path.absolute() for path in sources)
        with connect(self.address) as cluster:
            flow = Flow(
                n_sources=len(places),
                divide=_Divide(places, config, self.size),
                make_work=_MakeWork(places, config),
                workers=cluster.n_cpus,
                here=not all(map(is_remote, places)),
                in_order=True,
            )
            with closing(run_flow(flow)) as batches:
                for batch in batches:
                    if batch is not None:
                        progress.advance(batch.read)
                    yield batch


@dataclass(frozen=True)
class _Divide:
    sources: tuple[Path, ...]
    config: DatasetConfig
    size: ChunkSize

    def __call__(self, number: int) -> Iterator[tuple[int, Chunk] | None]:
        options = read_options(self.config)
        path = self.sources[number]
        for chunk in read_chunks(path, self.size, format=self.config.format, options=options):
            yield number, chunk
        yield None


@dataclass(frozen=True)
class _MakeWork:
    sources: tuple[Path, ...]
    config: DatasetConfig

    def __call__(self) -> Callable[[tuple[int, Chunk] | None], Batch | None]:
        return self._work

    def _work(self, item: tuple[int, Chunk] | None) -> Batch | None:
        if item is None:
            return None
        number, chunk = item
        records = papers_of(chunk, read_options(self.config))
        prefix = id_prefix(number, len(self.sources))
        return make_batch(records, self.sources[number].name, prefix)
