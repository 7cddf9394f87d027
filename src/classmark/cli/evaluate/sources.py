"""What ``classmark evaluate`` measures: stored scores, or a model that scores a dataset first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.cli.places import address_of
from classmark.errors import ClassmarkError

if TYPE_CHECKING:
    from classmark.records import PaperFacts, ScoreTable

DEFAULT_SPLIT = "test"


@dataclass(frozen=True)
class StoredScores:
    """A score table that was written before."""

    file: Path

    def options(self) -> list[str]:
        """Return the options that name this source on a command line."""
        return ["--scores", address_of(self.file)]

    def inputs(self) -> list[Path | None]:
        """Return what is read."""
        return [self.file]

    def read(self) -> ScoreTable:
        """Return the table."""
        from classmark.records import ScoreTable
        from classmark.storage import local_copy

        return ScoreTable.read(local_copy(self.file))

    def facts(self) -> PaperFacts | None:
        """Return None: a score table knows neither titles nor texts."""
        return None


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """A model, and the split of a dataset to score.

    Attributes:
        model: as for ``Classifier``.
        dataset: its folder.
        split: its name.
        keep_at: where the scores are kept; None: not beyond the command.
        authors: use those that the dataset names.
    """

    model: str
    dataset: Path
    split: str
    keep_at: Path | None
    authors: bool = True

    def options(self) -> list[str]:
        """Return the options that name this source on a command line."""
        options = [
            "--model",
            self.model,
            "--dataset",
            address_of(self.dataset),
            "--split",
            self.split,
        ]
        if not self.authors:
            options.append("--no-authors")
        return options + (["--write-scores", str(self.keep_at)] if self.keep_at else [])

    def inputs(self) -> list[Path | None]:
        """Return what is read."""
        return [model_folder(self.model), self.dataset]

    def read(self) -> ScoreTable:
        """Return the table as it was stored: what is measured can be measured again."""
        if self.keep_at is not None:
            return self._store(self.keep_at).read()
        from classmark.storage import scratch_folder

        with scratch_folder() as folder:
            return self._store(folder / "scores.npz").read()

    def facts(self) -> PaperFacts | None:
        """Return what the dataset says of the papers that are scored, in the table's order."""
        from classmark.pipeline import read_facts

        return read_facts(self.dataset, self.split)

    def _store(self, file: Path) -> StoredScores:
        from classmark.cli.progress import progress_bar
        from classmark.pipeline import score_dataset
        from classmark.storage import atomic_file

        with progress_bar(f"scoring {self.split}") as progress:
            table = score_dataset(
                self.model, self.dataset, self.split, progress, authors=self.authors
            )
        with atomic_file(file) as stream:
            stream.write(table.to_bytes())
        return StoredScores(file)


def model_folder(model: str) -> Path | None:
    """Return the folder of a model; None if there is none, which is said when it is loaded."""
    from classmark.bundle import find_bundle

    try:
        return find_bundle(model)
    except ClassmarkError:
        return None
