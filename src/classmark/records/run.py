"""The record of a run of `classmark train`: ``run.json`` at its start, then more at its end.

One type for every kind of model. Everything that is read is checked, field by field, so that a
damaged file is one error here and not another one in each place that uses a field.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from classmark.errors import RunCorrupt, RunNotFound
from classmark.records.fields import WrongField, read_fields, read_value

FORMAT_VERSION = 1
"""Runs of classmark 0.1.0 state no version; otherwise they are the same."""

Kind = Literal["linear", "transformer", "cascade"]
Pooling = Literal["mean", "cls", "max"]

_VERSION = "format_version"
_Part = TypeVar("_Part")


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """How many features the parent had, and how many were kept."""

    parent: int
    kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorFacts:
    """The author table of a run.

    Attributes:
        entries: of the table; 0 if the run has none.
        names: of authors, as fingerprints.
        first_year: of the first period.
        scale: what one step of the profile adds to a logit.
    """

    entries: int = 0
    names: int = 0
    first_year: int = 0
    scale: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearPart:
    """What only the run of a linear model has.

    Attributes:
        features: before and after pruning.
        kernel: that scored the held-out papers; "" if it was not noted.
        authors: of its table.
    """

    features: Features
    kernel: str = ""
    authors: AuthorFacts = AuthorFacts()


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFacts:
    """Which encoder was fitted: its name, where it came from, and its size."""

    name: str
    source: str
    hidden_size: int = 0
    layers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerPart:
    """What only the run of a transformer has.

    Attributes:
        encoder: that was fitted.
        pooling: of its vectors.
        max_length: maximum number of tokens of a paper.
        papers: how many of each split were used.
        steps: updates made.
        best_epoch: the epoch whose weights were kept, from 1; 0 if none was measured.
        stopped: why the fit ended before its last epoch, "" if it did not.
        job: report of ``deploy/gpu/job.py``, None for a fit of `classmark train`.
        authors: of its table.
    """

    encoder: EncoderFacts
    pooling: Pooling
    max_length: int
    papers: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    best_epoch: int = 0
    stopped: str = ""
    job: dict[str, Any] | None = None
    authors: AuthorFacts = AuthorFacts()


@dataclass(frozen=True, kw_only=True, slots=True)
class Speeds:
    """Papers a CPU-second of each model."""

    fast: float
    deep: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadePoint:
    """One point of the curve.

    Attributes:
        threshold: below it the deep model is asked, 0..1.
        deep_share: share of papers it is asked about, 0..1.
        accuracy: top-1, 0..1.
        cpu_ms: CPU time a paper, milliseconds.
        cheaper: how many times less CPU time than the deep model alone.
        loss: accuracy below that of always asking, alone or mixed; negative where it is better.
    """

    threshold: float
    deep_share: float
    accuracy: float
    cpu_ms: float
    cheaper: float
    loss: float

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeModel:
    """One of the two bundles; ``folder`` is the way to it from the run."""

    name: str
    version: str
    digest: str
    kind: str
    folder: str

    @property
    def spec(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadePart:
    """What only a run of a cascade has.

    Attributes:
        fast, deep: the bundles that it joins.
        threshold: probability of the fast model below which the deep one is asked.
        mix: weight of the deep model where it is asked, 0..1; None is 1.
        speeds: as measured.
        chosen: the point of the threshold on each split.
    """

    fast: CascadeModel
    deep: CascadeModel
    threshold: float
    mix: float | None
    speeds: Speeds
    chosen: dict[str, CascadePoint]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStart:
    """What is known of a run before its first step.

    Attributes:
        kind: of the model: ``linear``, ``transformer`` or ``cascade``.
        command: the command line.
        seed: of all that is drawn at random.
        dataset: the way from the run to its dataset.
        dataset_digest: of the dataset's manifest.
        labels: k codes, the columns of the scores.
        label_space: ``arxiv`` or ``free``.
        generated: the papers were invented; the numbers say nothing about real ones.
        commit: of the code, ``+`` at its end if it was changed; None outside a checkout.
        packages: version by name.
        python: version of Python.
        platform: system and processor architecture.
    """

    FILE: ClassVar[str] = "run.json"

    kind: Kind = "linear"
    command: str
    seed: int
    dataset: str
    dataset_digest: str
    labels: tuple[str, ...]
    label_space: str
    generated: bool
    commit: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    python: str = ""
    platform: str = ""

    def finished(self, *, date: str, fit_seconds: float | None, part: Part) -> RunRecord:
        """Return the record of the run when it is done."""
        start = {f.name: getattr(self, f.name) for f in fields(RunStart)}
        return RunRecord(**start, date=date, fit_seconds=fit_seconds, part=part)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the file; the part of its kind lies flat in it."""
        value = asdict(self)
        part = value.pop("part", {})
        return {_VERSION: FORMAT_VERSION, **value, **part}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record of a run folder.

        Raises:
            RunNotFound: the folder holds no such record.
            RunCorrupt: the record is damaged, or of a newer format; names file and field.
        """
        try:
            value = json.loads((folder / cls.FILE).read_bytes())
            return cls._parse(value, is_versioned=_check_version(value))
        except (FileNotFoundError, NotADirectoryError) as error:
            problem = f"it has no {cls.FILE}" if folder.is_dir() else "no such folder"
            raise RunNotFound(
                f"{folder} is not a finished run: {problem}. "
                "Give the folder that `classmark train` printed last."
            ) from error
        except OSError as error:
            raise damaged_run(folder, cls.FILE, error.strerror or str(error)) from error
        except WrongField as error:
            raise damaged_run(folder, cls.FILE, str(error)) from error
        except (ValueError, RecursionError) as error:
            raise damaged_run(folder, cls.FILE, f"it is not JSON ({error})") from error

    @classmethod
    def _parse(cls, value: dict[str, Any], *, is_versioned: bool) -> Self:
        value.pop(_VERSION, None)
        return read_fields(cls, value, is_strict=is_versioned)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord(RunStart):
    """A finished run: what was known at its start, and its result.

    Attributes:
        date: ISO date and time (UTC) of its end.
        fit_seconds: that the fit took; None where it was not measured (cascades of 0.1.0).
        part: what only its kind has.
    """

    FILE: ClassVar[str] = "provenance.json"

    date: str
    fit_seconds: float | None = None
    part: Part

    def __post_init__(self) -> None:
        if PARTS.get(self.kind) is not type(self.part):
            raise ValueError(f"a run of kind {self.kind!r} has no {type(self.part).__name__}")

    def part_as(self, wanted: type[_Part]) -> _Part:
        """Return what only a run of this kind has.

        Raises:
            RunNotFound: it is a run of another kind.
        """
        if not isinstance(self.part, wanted):
            kind = next(kind for kind, part in PARTS.items() if part is wanted)
            raise RunNotFound(
                f"this run is of kind {self.kind!r}, not {kind!r}. Give the folder of a run that "
                f"`classmark train model={kind}` printed last."
            )
        return self.part

    @classmethod
    def _parse(cls, value: dict[str, Any], *, is_versioned: bool) -> Self:
        value.pop(_VERSION, None)
        kind = read_value(Kind, value.get("kind", "linear"), "kind")
        names = {f.name for f in fields(PARTS[kind])}
        part = {key: item for key, item in value.items() if key in names}
        rest = {key: item for key, item in value.items() if key not in names}
        return read_fields(cls, rest, is_strict=is_versioned, part=read_fields(PARTS[kind], part))


Part = LinearPart | TransformerPart | CascadePart
PARTS: dict[Kind, type[Part]] = {
    "linear": LinearPart,
    "transformer": TransformerPart,
    "cascade": CascadePart,
}


def damaged_run(folder: Path, file: str, problem: str) -> RunCorrupt:
    """Return the error of a file of a run."""
    return RunCorrupt(
        f"the run {folder} cannot be read: {file}: {problem}. Restore the file, or delete the "
        "folder and train again."
    )


def _check_version(value: object) -> bool:
    """Return whether a record states its format version; classmark 0.1.0 wrote none."""
    if not isinstance(value, dict):
        raise WrongField("", value, "an object")
    version = value.get(_VERSION)
    if _VERSION in value and (type(version) is not int or version < 1):
        raise WrongField(_VERSION, version, "a whole number from 1")
    if version is not None and version > FORMAT_VERSION:
        raise WrongField(
            problem=f"{_VERSION!r} is {version}, this classmark reads up to {FORMAT_VERSION}; "
            "install a newer one"
        )
    return _VERSION in value
