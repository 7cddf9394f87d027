"""Long arrays of a fit: in memory, or mapped from files without a name, which vanish by themselves.

Either way they hold the same numbers in the same order, so a fit gives the same bits. Pages of a
mapped array that were read belong to the file: ``release_pages`` gives them back to the system.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from classmark.storage import storage_errors


class LongArray:
    """An array of one dimension that grows at its end.

    Args:
        dtype: of its numbers.
        folder: where a file without a name holds it, gone at the latest with this process; None:
            in memory.

    Raises:
        StorageFailed: the disk is full, or there is no writing.
    """

    def __init__(self, dtype: DTypeLike, folder: Path | None) -> None:
        self._dtype = np.dtype(dtype)
        self._parts: list[NDArray[Any]] = []
        self._folder = folder
        self._file: Any = None
        if folder is not None:
            with storage_errors(folder):
                self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__

    def append(self, part: NDArray[Any]) -> None:
        """Add numbers at the end."""
        part = np.ascontiguousarray(part, dtype=self._dtype)
        if self._folder is None:
            self._parts.append(part)
            return
        with storage_errors(self._folder):
            self._file.write(part.data)

    def whole(self) -> NDArray[Any]:
        """Return all numbers; nothing can be added after that."""
        if self._folder is None:
            return np.concatenate([np.zeros(0, self._dtype), *self._parts])
        with storage_errors(self._folder):
            self._file.flush()
        if not self._file.tell():
            return np.zeros(0, self._dtype)
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self._dtype)

    def __enter__(self) -> LongArray:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; an array that is mapped from it stays."""
        if self._folder is not None:
            with storage_errors(self._folder):  # what waits to be written goes out now
                self._file.close()


def release_pages(*arrays: NDArray[Any]) -> None:
    """Give the pages of mapped arrays back to the system; they are read again when wanted."""
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        # numpy holds a buffer by a memoryview, which holds the map
        mapped = base.obj if isinstance(base, memoryview) else base
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
