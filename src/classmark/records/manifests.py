"""The manifests of a bundle (``bundle.json``) and of a dataset (``manifest.json``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from classmark.errors import BundleIncompatible, InvalidDataset
from classmark.records.fields import WrongField, read_fields

BUNDLE_FORMAT = 3
READ_VERSIONS = (1, 2, 3)
"""In format 1 the digest covers everything, dates too; since format 3 there may be a reference."""
_OPTIONAL = ("columns", "authors")
SET_TERMS = 30
"""Below about so many words, sets of the packaged model hold the right category less often than
promised: see ``sets`` in ``benchmarks/reports/reliability.json``."""
DATASET_FORMAT = 2
"""Written into every manifest; it also names the definition of the digest (``dataset.digest``)."""

BYTES_DIGEST_VERSION = 1
"""The format whose digest is of the bytes of the split files; it is still read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """Digest and size of one file of a bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How raw scores become a published answer; every default of an answer lives here.

    Attributes:
        temperature: softmax(scores / temperature) is the calibrated probability.
        thresholds: k values in label order; below its own, the top label is not accepted.
        cross_list_thresholds: k values; a further label that reaches its own is a cross-list.
        set_threshold: probability from which a label is in the prediction set.
        author_set_threshold: the same for answers that use authors; None: ``set_threshold``.
        set_coverage: coverage that the set was built for, 0..1.
        set_terms: with fewer known terms, a text gets no prediction set; 0 gives every text one.
        scope_weights: (bias, known_share, energy) of the scope score, a logistic regression.
        scope_threshold: below it a text is out of scope.
    """

    temperature: float
    thresholds: tuple[float, ...]
    cross_list_thresholds: tuple[float, ...]
    set_threshold: float
    set_coverage: float = 0.9
    scope_weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scope_threshold: float = -1.0
    set_terms: int = SET_TERMS
    author_set_threshold: float | None = None

    def set_threshold_of(self, *, used_authors: bool) -> float:
        """Return the probability from which a label is in the set of an answer."""
        own = self.author_set_threshold
        return own if used_authors and own is not None else self.set_threshold


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleManifest:
    """Everything that is needed to load a bundle and to trust its answers.

    Attributes:
        name: e.g. ``fast``.
        version: e.g. ``1.0``; the folder is ``NAME-VERSION``.
        kind: ``linear``, ``transformer`` or ``cascade``.
        label_space: ``arxiv`` or ``free``.
        labels: k codes, the columns of the scores.
        text_recipe: version of the normaliser in ``papers``.
        featuriser: version of the featuriser in ``runtime``.
        taxonomy: version of the taxonomy, "" for free labels.
        policy: from scores to answers.
        parameters: what the kernel needs besides the arrays.
        files: every other file of the folder, by relative path.
        metrics: headline numbers, copied from the reports; not part of the digest.
        provenance: dataset digest, run, commit, packages, date, command; not part of the digest.
        columns: field of a paper -> column that the papers of its dataset were read from; fields
            that were read from one of the usual names are left out.
        authors: what the kernel needs for the author table; empty for a bundle without one.
    """

    name: str
    version: str
    kind: str
    label_space: str
    labels: tuple[str, ...]
    text_recipe: str
    featuriser: str
    taxonomy: str
    policy: Policy
    files: dict[str, BundleFile]
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    authors: dict[str, Any] = field(default_factory=dict)
    format_version: int = BUNDLE_FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``bundle.json`` (without digest and seal)."""
        value = asdict(self)
        # Bundles that were written before there were any keep their digest.
        if self.policy.set_terms == SET_TERMS:
            del value["policy"]["set_terms"]
        if self.policy.author_set_threshold is None:
            del value["policy"]["author_set_threshold"]
        for name in _OPTIONAL:
            if not value[name]:
                del value[name]
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> BundleManifest:
        """Read the JSON object of ``bundle.json``.

        Raises:
            BundleIncompatible: another format version, or a key is missing or unknown.
        """
        seen = value.get("format_version")
        if type(seen) is not int or seen not in READ_VERSIONS:
            raise BundleIncompatible(
                f"bundle format version is {seen!r}, this classmark reads "
                f"{', '.join(map(str, READ_VERSIONS))}. Install the matching classmark, or "
                "export the bundle again."
            )
        try:
            fields = {key: item for key, item in value.items() if key not in ("digest", "seal")}
            fields["labels"] = _frozen(fields["labels"])
            fields["policy"] = Policy(**{key: _frozen(v) for key, v in fields["policy"].items()})
            fields["files"] = {name: BundleFile(**f) for name, f in fields["files"].items()}
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleIncompatible(
                f"bundle.json is not of format {seen}: {error}. Install or export the model again."
            ) from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
        lineage: digests of the datasets that it extends, the oldest first; none if it was built.
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
    format_version: int = DATASET_FORMAT
    lineage: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns that ``build`` was asked to read: field of a paper -> name."""
        return dict(self.config.get("columns") or {})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``manifest.json``."""
        value = asdict(self)
        if not self.lineage:  # as an older classmark writes it, which may have to read it
            del value["lineage"]
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DatasetManifest:
        """Read the JSON object of ``manifest.json``.

        Raises:
            InvalidDataset: another format version, or a key is missing or unknown.
        """
        version = value.get("format_version")
        if version not in (BYTES_DIGEST_VERSION, DATASET_FORMAT):
            raise InvalidDataset(
                f"dataset format version is {version!r}, this classmark reads "
                f"{BYTES_DIGEST_VERSION} and {DATASET_FORMAT}. Build the dataset again with "
                "`classmark dataset build`."
            )
        try:
            return read_fields(cls, value)
        except WrongField as error:
            raise InvalidDataset(f"manifest.json is not of format {version}: {error}") from error
