"""The dataset that new papers join."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from classmark import taxonomy
from classmark.dataset.build.writing import identities
from classmark.dataset.folder import MANIFEST_FILE, SPLITS, load_manifest, read_frame
from classmark.errors import InvalidDataset
from classmark.records import DatasetManifest


@dataclass(frozen=True)
class Parent:
    """A dataset that is extended.

    Attributes:
        manifest: of it.
        files: by split.
        papers: ``id``, ``fingerprint`` and ``categories`` of each paper, as text.
        newest: day of its newest paper, "" without any date.
    """

    manifest: DatasetManifest
    files: dict[str, Path]
    papers: pl.DataFrame
    newest: str

    @classmethod
    def of(cls, folder: Path) -> Parent:
        """Read a dataset, whose files are verified.

        Raises:
            InvalidDataset: it is incomplete, has changed, or is of another taxonomy.
        """
        manifest = load_manifest(folder)
        if manifest.label_space == "arxiv" and manifest.taxonomy != taxonomy.VERSION:
            raise InvalidDataset(
                f"{folder} is of version {manifest.taxonomy!r} of the taxonomy, this classmark has "
                f"{taxonomy.VERSION!r}. Build it again from its sources."
            )
        if len(manifest.periods) != len(ends_of(manifest)) + bool(ends_of(manifest)):
            raise InvalidDataset(
                f"{folder / MANIFEST_FILE} names {len(manifest.periods)} periods for "
                f"{len(ends_of(manifest))} last days. Build the dataset again."
            )
        files = {name: folder / manifest.splits[name].file for name in SPLITS}
        frames = [
            identities(name, path)
            .select(id="canonical", fingerprint="fingerprint")
            .hstack(read_frame(path, texts=False).select("published_date", "categories"))
            for name, path in files.items()
        ]
        papers = pl.concat(frames)
        newest = papers["published_date"].max() or ""
        return cls(manifest, files, papers.drop("published_date"), str(newest))

    @property
    def sizes(self) -> dict[str, int]:
        """Papers of each category."""
        counts = self.manifest.counts.values()
        return {code: sum(c.get(code, 0) for c in counts) for code in self.manifest.labels}


def ends_of(manifest: DatasetManifest) -> list[str]:
    """Return the last days of the closed periods of a dataset."""
    return list(manifest.config.get("periods") or [])
