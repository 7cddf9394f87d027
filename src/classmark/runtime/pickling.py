"""Brings back a pickled classifier: its bundle is read again where it is unpickled."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.bundle import Bundle, load_bundle
from classmark.errors import BundleIncompatible

if TYPE_CHECKING:
    from classmark.kernels import Scorer
    from classmark.runtime.classifier import Classifier


def restore(
    kind: type[Classifier],
    path: str,
    digest: str,
    scorer: Scorer | None,
    index: str | None = None,
) -> Classifier:
    """Return a classifier that was pickled.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: the bundle is not there any more, was
            damaged, or is another one now.
        IndexCorrupt, IndexIncompatible, UsageError: its index cannot be used any more.
    """
    if scorer is not None:
        return kind.from_bundle(_load_same(Path(path), digest), scorer=scorer)
    restored = kind.__new__(kind)
    vars(restored).update(vars(_loaded(path, digest, _stamps(Path(path)), os.getpid())))
    return restored if index is None else restored.with_index(index)


@lru_cache(maxsize=1)  # a pool unpickles the classifier for each of its tasks
def _loaded(path: str, digest: str, *_: object) -> Classifier:
    """Return the classifier of a bundle.

    Args:
        path: of the bundle.
        digest: that it must have.
        _: the stamps of its files (when one is replaced, the bundle is read again), and the
            process that asks (a deep model has threads, which no fork survives).
    """
    from classmark.runtime.classifier import Classifier  # which imports this file

    return Classifier.from_bundle(_load_same(Path(path), digest))


def _load_same(path: Path, digest: str) -> Bundle:
    bundle = load_bundle(path)
    if bundle.digest != digest:
        raise BundleIncompatible(
            f"the model at {path} was replaced: it has digest {bundle.digest[:12]}, the pickled "
            f"classifier had {digest[:12]}. Make a new classifier of it, or put the old model back."
        )
    return bundle


def _stamps(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return a stamp of each file of a folder, which changes when the file is replaced."""
    try:
        files = [(str(path), path.stat()) for path in folder.rglob("*")]
    except OSError:  # loading says what is wrong
        return ()
    return tuple(sorted((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in files))
