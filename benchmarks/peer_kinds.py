"""What a peer is: fitted into a folder, loaded from it, timed while it fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.papers.authors import author_keys
from peer_papers import Papers, Row

Rows = Sequence[Row]
Scores = NDArray[np.float32]
Scorer = Callable[[Rows], Scores]
SEED = 7


@dataclass
class Stopwatch:
    """CPU-seconds and wall of a fit; pause it for work outside the fit."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    _since: tuple[float, float] | None = None

    def run(self) -> None:
        """Go on counting."""
        if self._since is None:
            self._since = (time.process_time(), time.monotonic())

    def pause(self) -> None:
        """Stop counting."""
        if self._since is not None:
            self.add(time.process_time() - self._since[0], time.monotonic() - self._since[1])
            self._since = None

    def add(self, cpu_s: float, wall_s: float) -> None:
        """Count work that was done before."""
        self.cpu_s += cpu_s
        self.wall_s += wall_s


@dataclass(frozen=True)
class Job:
    """What a fit is given: papers, the folder of its model, a clock, and cached embeddings."""

    papers: Papers
    model: Path
    embeddings: Path
    watch: Stopwatch = field(default_factory=Stopwatch)


@dataclass(frozen=True)
class Peer:
    """One way to classify papers.

    Attributes:
        title: as the tables name it.
        needs: modules that must be there.
        fit: fits and saves; returns the settings to report.
        load: returns what scores raw papers: float32 [n, k] in the order of the labels.
        parts: folders of installed packages that the model needs besides what it saved.
        speed_papers: so many papers are scored to measure the speed.
        probabilities: the scores are logits of probabilities; else only their order counts.
    """

    title: str
    needs: tuple[str, ...]
    fit: Callable[[Job], dict[str, Any]]
    load: Callable[[Path], Scorer]
    parts: tuple[str, ...] = ()
    speed_papers: int = 2_000
    probabilities: bool = True

    def missing(self) -> list[str]:
        """Return the modules that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]

    def files(self, model: Path) -> list[Path]:
        """Return the files that make up the model, of the packages it needs too."""
        found = [p for p in model.rglob("*") if "runs" not in p.relative_to(model).parts]
        for part in self.parts:
            module, _, folder = part.partition("/")
            spec = find_spec(module)
            if spec and spec.origin:
                found += (Path(spec.origin).parent / folder).rglob("*")
        return [p for p in found if p.is_file() and p.suffix not in {".py", ".pyc"}]


def as_text(rows: Rows) -> list[str]:
    """Return title and abstract of each paper as one text."""
    return [f"{row.title}\n{row.abstract}" for row in rows]


def with_authors(rows: Rows) -> list[str]:
    """Return the same with a word for each author, and one for surname and first initial."""
    return [f"{text} {_author_words(row)}" for text, row in zip(as_text(rows), rows, strict=True)]


def _author_words(row: Row) -> str:
    keys = [found for name in row.authors if (found := author_keys(name)) is not None]
    words = dict.fromkeys(word for key in keys for word in (key.full, key.initial))
    return " ".join(f"au_{word.replace(' ', '_')}" for word in words)
