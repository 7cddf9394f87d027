"""What the service publishes beside answers: models, categories, state, journal."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from classmark.wire.answer import ModelRef, Published

LabelSpace = Literal["arxiv", "free"]
Role = Literal["champion", "challenger", "shadow", "previous"]


class Category(Published, frozen=True):
    """One category; a label of your own is its own name, and has archive and group "".

    Attributes:
        code: today's code, e.g. ``cs.LG``.
        name: arXiv's name; not unique (``cs.LG`` and ``stat.ML`` are both Machine Learning).
        archive: code of its archive, e.g. ``cs``.
        group: code of the group of its archive, e.g. ``grp_cs``.
        active: whether new papers can be filed in it; false for a retired one.
    """

    code: str
    name: str
    archive: str
    group: str
    active: bool


class Categories(Published, frozen=True):
    """The categories that feedback can name.

    Attributes:
        categories: those of arXiv, or the model's own labels.
        version: of the arXiv taxonomy; "" with labels of your own.
        label_space: ``arxiv``, or ``free`` for labels of your own.
    """

    categories: tuple[Category, ...]
    version: str
    label_space: LabelSpace


class ModelDetails(Published, frozen=True, kw_only=True):
    """A loaded model, its card and its measured metrics.

    Attributes:
        name: of the model.
        version: of the model.
        digest: of its bundle.
        labels: how many it has.
        label_space: ``arxiv``, or ``free`` for labels of your own.
        card: as Markdown.
        metrics: as measured when the model was exported.
        set_coverage: coverage that prediction sets were built for, 0..1.
        rarely_right: categories that were measured, and never right when they came first.
        authors: whether it has a table of authors, and so answers better where they are known.
        similar: most papers that ``similar`` may ask for; 0 if the service has no index.
        default: whether commands use it when none is named.
        role: what a service that follows a registry has it for; ``previous`` answered before.
    """

    name: str
    version: str
    digest: str
    labels: int
    label_space: LabelSpace = "arxiv"
    card: str
    metrics: dict[str, Any]
    set_coverage: float = 0.0
    rarely_right: tuple[str, ...] = ()
    authors: bool = False
    similar: int = 0
    default: bool
    role: Role = "champion"


class Models(Published, frozen=True):
    """The models that are loaded, the champion first."""

    models: tuple[ModelDetails, ...]


class FeedbackReceipt(Published, frozen=True):
    """Feedback that was accepted; it is joined to its prediction later."""

    prediction_id: str
    category: str
    accepted: bool = True


class Feedback(Published, frozen=True, kw_only=True):
    """What somebody said the right category is."""

    category: str
    at_utc: str
    comment: str | None = None


class Prediction(Published, frozen=True, kw_only=True):
    """A prediction as the journal has it, with its feedback.

    Attributes:
        prediction_id: of the answer.
        at_utc: when it was answered.
        model: the model that answered.
        primary: the accepted category; None when the model abstained.
        reason: why the category was accepted or not.
        feedback: what was said about it, oldest first.
    """

    prediction_id: str
    at_utc: str
    model: ModelRef
    primary: str | None
    reason: str
    feedback: tuple[Feedback, ...] = ()


class Requests(Published, frozen=True):
    """Requests of all workers since the start, by HTTP status."""

    total: int
    by_status: dict[str, int]


class Latency(Published, frozen=True):
    """Percentiles of the time to answer, in ms; None before the first request."""

    p50: float | None
    p95: float | None
    p99: float | None


class RegisteredBundle(Published, frozen=True):
    """A bundle that a registry names.

    Attributes:
        role: champion, challenger or shadow.
        digest: of the bundle.
        model: ``NAME@VERSION``.
        percent: of the clients that a challenger answers, or of the papers that a shadow scores
            too, 0..100; None for a champion.
    """

    role: str
    digest: str
    model: str
    percent: float | None = None


class RegistryEvent(Published, frozen=True, kw_only=True):
    """A change of a registry.

    Attributes:
        sequence: number of the change.
        at_utc: when it was made.
        who: made it.
        action: what was done.
        why: the reason that was given, or the rule that decided.
        bundle: ``NAME@VERSION`` of the bundle that it is about; None if it is about none.
        digest: of that bundle.
        outcome: how a canary ended: ``promoted``, ``rolled_back`` or ``stopped``.
    """

    sequence: int
    at_utc: str
    who: str
    action: str
    why: str
    bundle: str | None
    digest: str | None
    outcome: str | None


class RegistryState(Published, frozen=True, kw_only=True):
    """What the registry of a service names.

    Attributes:
        sequence: number of the last change; ``classmark_registry_sequence`` of the metrics reaches
            it when every worker has followed.
        bundles: by role, the champion first.
        rules: that end the canary; empty for none.
        canary_started_utc: when the canary began; None without one.
        events: the last changes, the latest first.
    """

    sequence: int
    bundles: tuple[RegisteredBundle, ...]
    rules: dict[str, Any]
    canary_started_utc: str | None
    events: tuple[RegistryEvent, ...]


class Status(Published, frozen=True, kw_only=True):
    """How the service is doing.

    Attributes:
        model: the model that answers.
        uptime_s: since the start, in seconds.
        workers: processes that answer.
        requests: of all workers together.
        latency_ms: of all workers together.
        papers: how many, by outcome.
        journal: its state; None without a journal.
        registry: what it names; None without a registry, or while that cannot be read.
    """

    model: ModelRef
    uptime_s: float
    workers: int
    requests: Requests
    latency_ms: Latency
    papers: dict[str, int]
    journal: dict[str, Any] | None = None
    registry: RegistryState | None = None


class RefusedBundle(Published, frozen=True):
    """A bundle that a registry names, but that cannot be used.

    Attributes:
        digest: of the bundle; "" if the registry itself cannot be read, or a channel is empty.
        kind: of the error; the log has the rest.
    """

    digest: str
    kind: str


class Health(Published, frozen=True, omit_defaults=True):
    """State of the process.

    Attributes:
        status: in a word.
        serving: digests of the bundles that answer, by role; only with a registry.
        refused: what the registry names but cannot be used, by role; only with a registry.
    """

    status: str
    serving: dict[str, str] = msgspec.field(default_factory=dict)
    refused: dict[str, RefusedBundle] = msgspec.field(default_factory=dict)
