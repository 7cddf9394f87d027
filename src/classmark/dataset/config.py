"""The options of `dataset build`, `sample` and `download`, checked before any work is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from classmark.errors import InvalidConfig, UsageError

LabelSpace = Literal["arxiv", "free"]
SplitMethod = Literal["stratified", "time", "ids"]
SmallCategories = Literal["drop", "merge", "keep"]

DEFAULT_DATASET = "sumitm004/arxiv-scientific-research-papers-dataset"
DEFAULT_API = "https://www.kaggle.com/api/v1"
MIN_SAMPLE_CATEGORIES = 24
MAX_SAMPLE_CATEGORIES = 28
MAX_SEED = 2**63 - 1
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """How papers become a dataset. Dates are ISO dates of the first version.

    Attributes:
        labels: ``arxiv`` (codes of the taxonomy) or ``free`` (the label as it stands).
        split: ``stratified`` (shares of every category and period), ``time`` or ``ids``.
        test_share: share of every stratum for testing, 0..1 (stratified only).
        valid_share: share of every stratum for validation, 0..1 (stratified only).
        train_until: last day of the training papers (time only).
        valid_until: last day of the validation papers (time only).
        test_ids: file with the ids of the test papers, one a line (ids only).
        valid_ids: file with the ids of the validation papers (ids only).
        min_papers: a category with fewer papers is small.
        small: what happens to the papers of small categories: ``drop``; ``merge``, they move to
            the first of their own cross-lists that is not small, and are dropped if there is
            none; ``keep``.
        periods: last days of the periods, in order; a last, open period follows.
        seed: chooses which papers are held out (stratified only).
        columns: column of the source by column of a paper, e.g. ``{"abstract": "Text"}``.
        format: format of the sources; ``auto`` finds it from their content.
        strict: the first record that cannot be used ends the build.
    """

    labels: LabelSpace = "arxiv"
    split: SplitMethod = "stratified"
    test_share: float = 0.1
    valid_share: float = 0.1
    train_until: str | None = None
    valid_until: str | None = None
    test_ids: Path | None = None
    valid_ids: Path | None = None
    min_papers: int = 20
    small: SmallCategories = "drop"
    periods: tuple[str, ...] = ()
    seed: int = 7
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        _check_choice("labels", self.labels, get_args(LabelSpace))
        _check_choice("split", self.split, get_args(SplitMethod))
        _check_choice("small", self.small, get_args(SmallCategories))
        _check_range("min_papers", self.min_papers, 1, None)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_increasing("periods", self.periods)
        self._check_shares()
        self._check_times()
        self._check_id_lists()

    @property
    def needs_dates(self) -> bool:
        """Whether a paper without a date has no place in the dataset."""
        return self.split == "time" or bool(self.periods)

    @property
    def period_names(self) -> tuple[str, ...]:
        """Names of the periods in order of time; see ``name_periods``."""
        return name_periods(self.periods)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON values; of a file only its name, since paths are private."""
        values = dict(self.__dict__)
        values["columns"] = dict(self.columns)
        values["periods"] = list(self.periods)
        for name in ("test_ids", "valid_ids"):
            values[name] = values[name].name if values[name] else None
        return values

    def _check_shares(self) -> None:
        for name, share in (("test_share", self.test_share), ("valid_share", self.valid_share)):
            _check_range(name, share, 0.0, 1.0)
        if self.test_share + self.valid_share >= 1:
            raise InvalidConfig(
                f"test_share {self.test_share} and valid_share {self.valid_share} leave no paper "
                "for training. Choose shares whose sum is below 1."
            )

    def _check_times(self) -> None:
        if self.split != "time":
            _check_absent(self, ("train_until", "valid_until"), "time")
            return
        if self.train_until is None or self.valid_until is None:
            raise InvalidConfig(
                "split=time needs two dates. Give --train-until and --valid-until as YYYY-MM-DD."
            )
        _check_increasing("train_until and valid_until", (self.train_until, self.valid_until))

    def _check_id_lists(self) -> None:
        if self.split != "ids":
            _check_absent(self, ("test_ids", "valid_ids"), "ids")
        elif self.test_ids is None:
            raise InvalidConfig("split=ids needs a list of test papers. Give --test-ids FILE.")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What the sample generator invents.

    Attributes:
        papers: number of papers.
        seed: the same seed gives the same bytes.
        noise: share of papers whose label is swapped for a neighbouring category, 0..1.
        drift: how far later years move to new terms and another mix of categories, 0..1.
        categories: number of categories.
    """

    papers: int = 10_000
    seed: int = 7
    noise: float = 0.05
    drift: float = 0.2
    categories: int = MAX_SAMPLE_CATEGORIES

    def __post_init__(self) -> None:
        _check_range("papers", self.papers, 1, 10_000_000)
        _check_range("seed", self.seed, 0, MAX_SEED)
        _check_range("noise", self.noise, 0.0, 1.0)
        _check_range("drift", self.drift, 0.0, 1.0)
        _check_range("categories", self.categories, MIN_SAMPLE_CATEGORIES, MAX_SAMPLE_CATEGORIES)


def name_periods(ends: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the periods that end on these days, and of the open one after them.

    Years name them if every period ends with a year (``until-2017``, ``2018-2019``,
    ``from-2020``), else days do. No ends, no periods.
    """
    if not ends:
        return ()
    by_year = all(end.endswith("-12-31") for end in ends)
    starts = [_next_day(end) for end in ends]
    if by_year:
        starts, ends = [day[:4] for day in starts], tuple(day[:4] for day in ends)
    joint = "-" if by_year else "-to-"
    inner = [
        start if start == end else f"{start}{joint}{end}"
        for start, end in zip(starts[:-1], ends[1:], strict=True)
    ]
    return (f"until-{ends[0]}", *inner, f"from-{starts[-1]}")


def _next_day(day: str) -> str:
    return date.fromordinal(date.fromisoformat(day).toordinal() + 1).isoformat()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidConfig(f"{name} is {value!r}. Choose one of: {', '.join(choices)}.")


def _check_range(name: str, value: float, low: float, high: float | None) -> None:
    if not (low <= value and (high is None or value <= high)):
        wanted = f"at least {low}" if high is None else f"{low} to {high}"
        raise InvalidConfig(f"{name} is {value}. Choose {wanted}.")


def _check_increasing(name: str, days: tuple[str, ...]) -> None:
    for day in days:
        try:
            parsed = date.fromisoformat(day)
        except ValueError as error:
            raise InvalidConfig(f"{name}: {day!r} is not a date. Write YYYY-MM-DD.") from error
        if parsed.isoformat() != day:
            raise InvalidConfig(f"{name}: {day!r} is not written as {parsed}. Write YYYY-MM-DD.")
    for earlier, later in pairwise(days):
        if earlier >= later:
            raise InvalidConfig(f"{name}: {earlier} must precede {later}. Put the dates in order.")


def _check_absent(config: DatasetConfig, names: tuple[str, ...], method: SplitMethod) -> None:
    for name in names:
        if getattr(config, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise InvalidConfig(
                f"{option} means nothing with split={config.split}. "
                f"Leave it out, or choose --split {method}."
            )


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """What to download, and where to.

    Attributes:
        source: OWNER/NAME of a Kaggle dataset, an http(s) address, or a path.
        output: file to write, or an existing folder; None: named after the source, here.
        unpack: folder to unpack a zip into; None: keep it as it is, ``build`` reads a zip of one
            file.
        sha256: what the file must have, 64 hexadecimal digits; "": any.
        kaggle_api: base address of Kaggle's API.
        overwrite: replace existing files.
    """

    source: str = DEFAULT_DATASET
    output: Path | None = None
    unpack: Path | None = None
    sha256: str = ""
    kaggle_api: str = DEFAULT_API
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise UsageError(f"--sha256 {self.sha256!r} is not 64 hexadecimal digits.")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, and how often to try.

    Attributes:
        timeout_s: seconds of silence after which a connection counts as lost.
        attempts: maximum consecutive attempts without a byte before giving up.
        wait_s: seconds before the second attempt; doubled for each further one, up to 30.
    """

    timeout_s: float = 60.0
    attempts: int = 5
    wait_s: float = 1.0
