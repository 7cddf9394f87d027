"""The description of a dataset folder: the content of its ``manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from classmark.errors import InvalidDataset
from classmark.records.fields import WrongField, read_fields

FORMAT_VERSION = 2
"""Written into every manifest; it also names the definition of the digest (``dataset.digest``)."""

BYTES_DIGEST_VERSION = 1
"""The format whose digest is of the bytes of the split files; it is still read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFile:
    """One split.

    Attributes:
        file: name of its Parquet file.
        sha256: of the bytes of the file as it was written; a quick check.
        papers: number of papers.
        rows_sha256: of its rows, whatever file holds them; "" in format 1.
    """

    file: str
    sha256: str
    papers: int
    rows_sha256: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetManifest:
    """Digests, counts and origin of a dataset folder.

    The Parquet files hold the Kaggle columns, plus ``categories`` (blank-separated, primary
    first) and ``period`` (name of the period the paper falls in, "" if there are none).

    Attributes:
        label_space: ``arxiv`` or ``free``.
        labels: every label that occurs, sorted.
        splits: ``train``, ``valid``, ``test``.
        periods: names in order of time; empty if the dataset is not cut into periods.
        sources: name, sha256 and rows read of every source.
        read: rows read; equals kept + the sum of ``dropped``.
        kept: papers in the splits.
        dropped: rows dropped, by reason.
        counts: papers by split and label.
        generated: invented by the sample generator; every report must say so.
        text_recipe: version of the normaliser that duplicates were found with.
        taxonomy: version of the taxonomy, "" for free labels.
        config: the options of the build.
        command: the command line that wrote it.
        digest: SHA-256 of the rows of the splits and the labels; in format 1, of the split files'
            bytes and the labels.
        format_version: 1 or 2, see ``digest``.
    """

    label_space: str
    labels: tuple[str, ...]
    splits: dict[str, SplitFile]
    periods: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]
    read: int
    kept: int
    dropped: dict[str, int]
    counts: dict[str, dict[str, int]]
    generated: bool
    text_recipe: str
    taxonomy: str
    config: dict[str, Any]
    command: str
    digest: str
    format_version: int = FORMAT_VERSION

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns that ``build`` was asked to read: field of a paper -> name."""
        return dict(self.config.get("columns") or {})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``manifest.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DatasetManifest:
        """Read the JSON object of ``manifest.json``.

        Raises:
            InvalidDataset: another format version, or a key is missing or unknown.
        """
        version = value.get("format_version")
        if version not in (BYTES_DIGEST_VERSION, FORMAT_VERSION):
            raise InvalidDataset(
                f"dataset format version is {version!r}, this classmark reads "
                f"{BYTES_DIGEST_VERSION} and {FORMAT_VERSION}. Build the dataset again with "
                "`classmark dataset build`."
            )
        try:
            return read_fields(cls, value)
        except WrongField as error:
            raise InvalidDataset(f"manifest.json is not of format {version}: {error}") from error
