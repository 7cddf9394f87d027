"""What the service answers, as frozen dataclasses; keys that are not known here are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model answered: name, version, and digest of its bundle."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a category fared on the test papers of the model.

    Attributes:
        precision: share of ``papers`` that belong to the category, 0..1; None if there are none.
        papers: test papers for which the model ranked the category first.
    """

    precision: float | None
    papers: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """One category with its calibrated probability, 0..1.

    ``reliability`` is None where nobody measured the category.
    """

    code: str
    name: str
    probability: float
    reliability: Reliability | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """An archive or a group with the sum of its categories' probabilities, 0..1."""

    code: str
    probability: float


@dataclass(frozen=True, slots=True)
class Levels:
    """Sums by archive and by group, most probable first."""

    archive: tuple[Level, ...]
    group: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One term and what it adds to (top - runner-up), in logits."""

    term: str
    weight: float


@dataclass(frozen=True, slots=True)
class AuthorCategory:
    """What the model makes of the author's category.

    Attributes:
        code: canonical; of a category, or of the archive that was given.
        verdict: ``confirmed``, ``plausible`` or ``challenged``.
        rank: place among all categories, of an archive among all archives; 1 is first, None if the
            model does not have it.
        probability: 0..1, of an archive the sum of its categories.
    """

    code: str
    verdict: str
    rank: int | None
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The categories of one paper.

    Attributes:
        id: as it was given; in a file else its line number, else None.
        primary: the accepted category, None when the model abstains.
        reason: ``accepted``, ``below_threshold`` or ``out_of_scope``.
        probability: of the top category, also when the model abstains.
        ranked: the top categories, most probable first.
        cross_lists: further categories that the paper probably belongs to.
        set: the prediction set; None where it would promise too much.
        levels: sums by archive and by group.
        prediction_id: name it in ``feedback``.
        model: who answered.
        author_category: what the model makes of it, if one was given.
        explanation: terms for and against the top category, if asked for.
        explanation_method: how they were found.
        set_reason: why ``set`` is None: ``out_of_scope`` or ``few_known_terms``.
        title: of the paper, on one line, if it was read from a file.
    """

    id: str | None
    primary: str | None
    reason: str
    probability: float
    ranked: tuple[Ranked, ...]
    cross_lists: tuple[str, ...]
    set: tuple[str, ...] | None
    levels: Levels
    prediction_id: str
    model: ModelRef
    author_category: AuthorCategory | None = None
    explanation: tuple[Evidence, ...] | None = None
    explanation_method: str | None = None
    set_reason: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class RecordError:
    """Why a record got no answer.

    Attributes:
        kind: stable machine-readable name.
        message: what was wrong.
        columns_seen: keys of a record that has none of those of a paper.
    """

    kind: str
    message: str
    columns_seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record of a batch or file that cannot be classified."""

    id: str | None
    error: RecordError


@dataclass(frozen=True, slots=True)
class FileAnswers:
    """The format that a file was read as, one answer a record, and who answered."""

    format: str
    answers: tuple[Answer | BadRecord, ...]
    model: ModelRef


@dataclass(frozen=True, slots=True)
class Category:
    """One category; a retired one is not active.

    With labels of one's own ``name`` is the label, and ``archive`` and ``group`` are "".
    """

    code: str
    name: str
    archive: str
    group: str
    active: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDetails:
    """A loaded model: how many labels it has, its card as Markdown, its measured metrics.

    ``label_space`` is ``arxiv``, or ``free`` for labels of one's own; ``rarely_right`` are the
    categories that were never right when they came first on test papers.
    """

    name: str
    version: str
    digest: str
    labels: int
    card: str
    metrics: dict[str, Any]
    default: bool
    rarely_right: tuple[str, ...] = ()
    label_space: str = "arxiv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """What somebody said the right category is."""

    category: str
    at_utc: str
    comment: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A prediction as the journal has it.

    Attributes:
        prediction_id: of the answer.
        at_utc: when it was answered.
        model: who answered.
        primary: the accepted category, None when the model abstained.
        reason: why it was accepted or not.
        feedback: what was said of it, oldest first.
        document: everything that the service told of it.
    """

    prediction_id: str
    at_utc: str
    model: ModelRef
    primary: str | None
    reason: str
    feedback: tuple[Feedback, ...] = ()
    document: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of all workers since the start, by HTTP status."""

    total: int
    by_status: dict[str, int]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time to answer, in ms; None before the first request."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """How the service does: requests, latency, papers by outcome, journal (None if it is off)."""

    model: ModelRef
    uptime_s: float
    workers: int
    requests: Requests
    latency_ms: Latency
    papers: dict[str, int]
    journal: dict[str, Any] | None = None


def answer_of(value: Json) -> Answer:
    """Read the answer to one paper."""
    evidence, members = value.get("explanation"), value["set"]
    author_category = value.get("author_category")
    return _read(
        Answer,
        value,
        ranked=tuple(map(_ranked, value["ranked"])),
        cross_lists=tuple(value["cross_lists"]),
        set=None if members is None else tuple(members),
        levels=Levels(
            _all(Level, value["levels"]["archive"]), _all(Level, value["levels"]["group"])
        ),
        model=_read(ModelRef, value["model"]),
        author_category=_read(AuthorCategory, author_category) if author_category else None,
        explanation=None if evidence is None else _all(Evidence, evidence),
    )


def answers_of(value: Json) -> tuple[Answer | BadRecord, ...]:
    """Read the answers to a batch or a file, in order."""
    return tuple(
        BadRecord(item["id"], _record_error(item["error"])) if "error" in item else answer_of(item)
        for item in value["answers"]
    )


def _record_error(value: Json) -> RecordError:
    return _read(RecordError, value, columns_seen=tuple(value.get("columns_seen", ())))


def file_answers_of(value: Json) -> FileAnswers:
    """Read the answers to a file."""
    return FileAnswers(value["format"], answers_of(value), _read(ModelRef, value["model"]))


def categories_of(value: Json) -> tuple[Category, ...]:
    """Read the categories that feedback can name."""
    return _all(Category, value["categories"])


def models_of(value: Json) -> tuple[ModelDetails, ...]:
    """Read the models that answer."""
    return tuple(
        _read(ModelDetails, model, rarely_right=tuple(model.get("rarely_right", ())))
        for model in value["models"]
    )


def prediction_of(value: Json) -> Prediction:
    """Read an entry of the journal."""
    return _read(
        Prediction,
        value,
        model=_read(ModelRef, value["model"]),
        feedback=_all(Feedback, value["feedback"]),
        document=dict(value),
    )


def status_of(value: Json) -> Status:
    """Read the state of the service."""
    return _read(
        Status,
        value,
        model=_read(ModelRef, value["model"]),
        requests=_read(Requests, value["requests"]),
        latency_ms=_read(Latency, value["latency_ms"]),
    )


def _ranked(value: Json) -> Ranked:
    measured = value.get("reliability")
    return _read(Ranked, value, reliability=_read(Reliability, measured) if measured else None)


def _all(cls: Callable[..., T], values: list[Json]) -> tuple[T, ...]:
    return tuple(_read(cls, value) for value in values)


def _read(cls: Callable[..., T], value: Json, **converted: Any) -> T:
    """Return a dataclass of the keys that it has fields for; what it needs must be there."""
    arguments = dict(converted)
    for known in fields(cls):  # type: ignore[arg-type]
        needed = known.default is MISSING and known.default_factory is MISSING
        if known.name not in converted and (needed or known.name in value):
            arguments[known.name] = value[known.name]
    return cls(**arguments)
