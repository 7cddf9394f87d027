"""The options of `dataset build`, `extend`, `sample`, `download` and `harvest`, checked first."""

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
DEFAULT_ENDPOINT = "https://oaipmh.arxiv.org/oai"
MIN_SAMPLE_CATEGORIES = 24
MAX_SAMPLE_CATEGORIES = 28
MAX_SEED = 2**63 - 1
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_OAI_NAME = re.compile(r"[A-Za-z0-9_.!~*'():-]{1,200}")
_MOST_TRUST = 1e6
_LONGEST_WAIT_S, _MOST_DOUBLINGS = 30.0, 20


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
        test_ids: file with the ids of the test papers, one per line (ids only).
        valid_ids: file with the ids of the validation papers (ids only).
        min_papers: a category with fewer papers is small.
        small: what happens to the papers of small categories: ``drop``; ``merge``, they move to
            the first of their own cross-lists that is not small, and are dropped if there is
            none; ``keep``.
        periods: last days of the periods, in order; a last, open period follows.
        seed: chooses which papers are held out (stratified only).
        columns: column of the source by column of a paper, e.g. ``{"abstract": "Text"}``.
        format: format of the sources; ``auto`` finds it from their content.
        strict: stop at the first record that cannot be used.
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
        _check_held_out(self.test_share, self.valid_share)
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
class FeedbackPolicy:
    """When feedback is a label, and how much of a dataset may rest on one client.

    A client is an API key; without keys all feedback is of one client, "". Of the words of a
    client on a paper the last one counts. A paper rests on every client that named its label.

    Attributes:
        agree: clients that must name the label, each counted by its trust.
        agreement: share of all trust on a paper that must be with the label, 0.5..1.
        trust: how many clients one counts for, by the id of its key; 1 where it is not named, and
            0 means that it is not heard.
        checks: a client whose words on so many papers can be compared with known categories is
            not heard if fewer than ``least_right`` of them name one.
        least_right: share of the compared words, 0..1.
        client_share: of all new papers, the most that may rest on one client, 0..1.
        category_share: of the papers of one category, old and new, the most that may rest on one
            client, 0..1.
    """

    agree: float = 2.0
    agreement: float = 0.75
    trust: Mapping[str, float] = field(default_factory=dict)
    checks: int = 5
    least_right: float = 0.5
    client_share: float = 0.25
    category_share: float = 0.1

    def __post_init__(self) -> None:
        if not self.agree > 0:
            raise InvalidConfig(f"agree is {self.agree}. Choose more than 0, for example 2.")
        _check_range("agreement", self.agreement, 0.5, 1.0)
        for client, trust in self.trust.items():
            _check_range(f"the trust of {client!r}", trust, 0.0, _MOST_TRUST)
        _check_range("checks", self.checks, 1, None)
        for name in ("least_right", "client_share", "category_share"):
            _check_range(name, getattr(self, name), 0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON values."""
        return {**self.__dict__, "trust": dict(sorted(self.trust.items()))}


@dataclass(frozen=True, kw_only=True)
class ExtendConfig:
    """How new papers join a dataset; everything else is as the dataset was built.

    Attributes:
        test_share: of the papers that are newer than the dataset, the last ones are for testing.
        valid_share: those before them are for validation.
        feedback: when feedback is a label.
        columns, format, strict: of the sources, as in ``DatasetConfig``.
    """

    test_share: float = 0.1
    valid_share: float = 0.1
    feedback: FeedbackPolicy = field(default_factory=FeedbackPolicy)
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        _check_held_out(self.test_share, self.valid_share)


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


def close_periods(names: tuple[str, ...], end: str) -> tuple[str, ...]:
    """Return the names of periods whose last, open one ends on a day, and of the new one after it.

    A dataset without periods has one until that day. If the open period begins after that day, it
    is the new one.
    """
    last = names[-1].removeprefix("from-") if names else ""
    if last > end:
        return names
    after = _next_day(end)
    if len(last) in (0, len("2020")) and end.endswith("-12-31"):
        closed = end[:4] if last in ("", end[:4]) else f"{last}-{end[:4]}"
        after = after[:4]
    else:
        closed = end if last in ("", end) else f"{last}-to-{end}"
    return (*names[:-1], closed if last else f"until-{closed}", f"from-{after}")


def _next_day(day: str) -> str:
    return date.fromordinal(date.fromisoformat(day).toordinal() + 1).isoformat()


def _check_held_out(test_share: float, valid_share: float) -> None:
    for name, share in (("test_share", test_share), ("valid_share", valid_share)):
        _check_range(name, share, 0.0, 1.0)
    if test_share + valid_share >= 1:
        raise InvalidConfig(
            f"test_share {test_share} and valid_share {valid_share} leave no paper for training. "
            "Choose shares whose sum is below 1."
        )


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

    def wait_after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(_LONGEST_WAIT_S, self.wait_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))


@dataclass(frozen=True, kw_only=True)
class HarvestConfig:
    """What to harvest over OAI-PMH, and where to.

    Attributes:
        output: folder of the papers and of what the next harvest goes on from.
        since: first day of the records, by the day of their last change; None: where the last
            harvest ended, or the beginning.
        until: last day of the records; None: today.
        set: name of a set of the archive; None: everything.
        metadata: format of the metadata, ``arXiv``, ``arXivRaw`` or ``oai_dc``.
        endpoint: base address of the archive's OAI-PMH.
        pause_s: seconds between two requests; archives block who asks faster.
        overlap_days: days before the end of the last harvest that are asked for again.
    """

    output: Path
    since: str | None = None
    until: str | None = None
    set: str | None = None
    metadata: str = "arXiv"
    endpoint: str = DEFAULT_ENDPOINT
    pause_s: float = 3.0
    overlap_days: int = 1

    def __post_init__(self) -> None:
        days = tuple(day for day in (self.since, self.until) if day is not None)
        for day in days:
            _check_increasing("--from or --until", (day,))
        if len(days) == 2 and days[0] > days[1]:
            raise InvalidConfig(f"--from {days[0]} is after --until {days[1]}. Exchange them.")
        for option, value in (("--metadata", self.metadata), ("--set", self.set)):
            if value is not None and not _OAI_NAME.fullmatch(value):
                raise InvalidConfig(
                    f"{option} {value[:60]!r} is not a name of OAI-PMH. Use letters, digits and "
                    "-_.!~*'(), in sets also colons: cs or physics:hep-th."
                )
        _check_range("--pause", self.pause_s, 0.0, None)
