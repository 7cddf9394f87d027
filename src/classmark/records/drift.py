"""What the monitor found about a span of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from classmark.errors import InvalidReport
from classmark.records.evaluation import AccuracyEstimate, MetricValue
from classmark.records.fields import WrongField, read_fields, read_report
from classmark.wire import ModelRef, to_builtins

DRIFT_FORMAT_VERSION = 1

Action = Literal["none", "report", "retrain", "page"]
ACTIONS: tuple[Action, ...] = ("none", "report", "retrain", "page")
"""What an alarm asks for, the least first."""
AlarmKind = Literal["window", "stream", "client", "accuracy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """A share of papers, 0..1, with its interval.

    Attributes:
        share: papers from another field that would move the scores this far.
        low, high: of the interval.
        confidence: that it covers, 0..1.
    """

    share: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Shift:
    """How one feature differs between window and reference.

    Attributes:
        name: of the feature: ``predicted cs.LG``, ``input 3``, ``energy``.
        window, reference: its mean.
        standardised: difference of the means over its standard deviation under exchanges.
        p_value: corrected for all features that were looked at.
    """

    name: str
    window: float
    reference: float
    standardised: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowTest:
    """Comparison of the papers of a window with those of a reference.

    Attributes:
        n_window, n_reference: papers compared.
        p_value: for the whole.
        statistics: p-value of each statistic alone, by its name.
        shifts: of the features, the smallest p-value first.
    """

    n_window: int
    n_reference: int
    p_value: float
    statistics: dict[str, float]
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartTest:
    """Comparison of a part of the papers.

    Attributes:
        part: a client, or a category that was ranked first.
        n: its papers in the window.
        p_value: corrected for all parts that were looked at.
        size: of the shift.
    """

    part: str
    n: int
    p_value: float
    size: Size


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What became of the predictions of a span; they add up.

    Attributes:
        read: predictions of the model in the span.
        compared: of these, papers that were compared.
        repeated: papers that were asked before in the span, which count once.
        without_features: of an older classmark, or of a model with too many labels.
        left_out: beyond the largest window; a random share.
    """

    read: int
    compared: int
    repeated: int
    without_features: int
    left_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamState:
    """How far the continuous watch has come.

    Attributes:
        n: predictions watched since it began.
        begun_at_utc: when that was.
        martingale: wealth of a bet against "no drift", 1 at the beginning.
        p_value: 1 / its highest value so far: at most this chance of a false alarm, ever.
        leading: features that the wealth comes from, with the logarithm of their own.
    """

    n: int
    begun_at_utc: str
    martingale: float
    p_value: float
    leading: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """Something that is beyond chance, and what the policy makes of its size.

    Attributes:
        kind: which test.
        action: what it asks for.
        p_value: of the test.
        text: what was seen, in a sentence.
    """

    kind: AlarmKind
    action: Action
    p_value: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelState:
    """How far the watch of labels has come: whether the accuracy of the text alone was lost.

    Attributes:
        n: labels counted since it began, one a paper.
        begun_at_utc: when that was.
        right: of these, papers whose first category by the text alone is right.
        low, high: of the accuracy; while that stays the same, with 95 % at all looks together.
        tolerated: accuracy that the policy allows, 0..1: less is an alarm.
        p_value: at most this chance of such evidence, ever, while what is tolerated is reached.
    """

    n: int
    begun_at_utc: str
    right: int
    low: float
    high: float
    tolerated: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledAccuracy:
    """What labels of papers drawn at random say of the answers.

    Attributes:
        sources: where the labels come from, in words.
        labels: papers of the window with one.
        estimate: of all answers of the window, authors included; None with too few labels.
        watch: of all labels since it began; None if it is off.
    """

    sources: str
    labels: int
    estimate: AccuracyEstimate | None = None
    watch: LabelState | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """What a look at the journal found.

    Attributes:
        model: whose predictions.
        reference: what they were compared with, in words.
        created_at_utc: when.
        since_utc, until_utc: times of the oldest and newest prediction; "" without any.
        counts: of the predictions.
        alpha: stated chance of a false alarm.
        window: comparison of all papers; None if there were too few.
        size: of the shift; None without a window.
        confidence: mean calibrated probability of the first category, in window and reference.
        abstained: share of papers without an accepted category, in window and reference.
        used_authors: share of papers whose authors counted.
        categories: papers ranked first, by code, window and reference: those that differ.
        parts: comparison of parts: clients and categories.
        accuracy: estimated share of right first categories, by the text alone; None without window.
        labelled: the accuracy by labels; None without a source of labels of papers drawn at random.
        live: how right the answers were, by feedback; None without any, or by an older classmark.
        stream: the continuous watch; None if it is off.
        alarms: what is beyond chance.
        notes: what a reader should know.
    """

    model: ModelRef
    reference: str
    created_at_utc: str
    since_utc: str
    until_utc: str
    counts: Counts
    alpha: float
    window: WindowTest | None
    size: Size | None
    confidence: tuple[float, ...] = ()
    abstained: tuple[float, ...] = ()
    used_authors: float = 0.0
    categories: dict[str, tuple[float, ...]] = field(default_factory=dict)
    clients: tuple[PartTest, ...] = ()
    parts: tuple[PartTest, ...] = ()
    accuracy: AccuracyEstimate | None = None
    labelled: LabelledAccuracy | None = None
    live: LiveScore | None = None
    stream: StreamState | None = None
    alarms: tuple[Alarm, ...] = ()
    notes: tuple[str, ...] = ()
    format_version: int = DRIFT_FORMAT_VERSION

    @property
    def action(self) -> Action:
        """The most that an alarm asks for."""
        return max((alarm.action for alarm in self.alarms), key=ACTIONS.index, default="none")

    @property
    def of_whom(self) -> str:
        """Name and version of the model, as ``--model`` takes them."""
        return f"{self.model.name}@{self.model.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a report, first what it comes to."""
        return {"action": self.action, **to_builtins(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DriftReport:
        """Read the JSON object of a report.

        Raises:
            InvalidReport: another format version, or a key is missing or unknown.
        """
        given = {key: item for key, item in value.items() if key != "action"}
        return read_report(cls, given, DRIFT_FORMAT_VERSION, "classmark monitor run")


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveScore:
    """How right the answers of a group were, as far as the category of the paper is known.

    Intervals are Wilson's, of 95 %. They do not show that the papers with a known category may
    differ from the others.

    Attributes:
        name: of the group: ``all``, a month ``2026-11``, a category, ``NAME@VERSION``
            or ``30 days``.
        n: predictions with a known category.
        top1: share whose most probable category is right.
        top5: share with the right category among the five most probable.
        n_accepted: predictions with an accepted category.
        accepted: accuracy of those; None without any.
        abstained: share without an accepted category, 0..1.
        n_sets: predictions with a prediction set.
        covered: share of those whose set contains the right category; None without any.
    """

    name: str
    n: int
    top1: MetricValue
    top5: MetricValue
    n_accepted: int
    accepted: MetricValue | None
    abstained: float
    n_sets: int
    covered: MetricValue | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveAccuracy:
    """The accuracy of a served model on the papers whose category has become known.

    ``n_predictions`` is the sum of ``n_duplicates``, ``n_harvested``, ``n_feedback``,
    ``n_ambiguous``, ``n_retired`` and ``n_unlabelled``.

    Attributes:
        as_of_utc: only what was known at this time counts, as ``utc_text`` writes it.
        n_predictions: predictions in the journal.
        n_duplicates: predictions of a paper that the same version had been asked before.
        n_harvested: those whose category a harvested paper has.
        n_feedback: those whose category is known from feedback alone.
        n_ambiguous: those left out, because as many say one category as another.
        n_retired: those left out, because their category is retired and has no successor.
        n_unlabelled: those whose category is not known yet.
        n_disagreeing: papers of which feedback names different categories.
        overall: all predictions whose category is known from papers or feedback; None without any.
        months: the same by month of the prediction, oldest first.
        categories: the same by true category, where enough labels are known.
        versions: the same by version of the model.
        by_author: predictions with a category that the author gave, by that category: a weaker
            source, which the other scores do not use.
        lasting: lower and upper bound of the share that is right, of all that have a category;
            they hold at all times together with 95 % if the labels are of papers drawn at random
            and the accuracy stays the same. Empty without any.
        joined: by the labels and by the estimates for the papers without one; None if there are too
            few labels, or no model that estimates.
    """

    as_of_utc: str
    n_predictions: int
    n_duplicates: int
    n_harvested: int
    n_feedback: int
    n_ambiguous: int
    n_retired: int
    n_unlabelled: int
    n_disagreeing: int
    overall: LiveScore | None
    months: tuple[LiveScore, ...]
    categories: tuple[LiveScore, ...]
    versions: tuple[LiveScore, ...]
    by_author: LiveScore | None
    lasting: tuple[float, ...] = ()
    joined: AccuracyEstimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> LiveAccuracy:
        """Read the JSON object that ``to_dict`` returns.

        Raises:
            InvalidReport: a key is missing or unknown, or a value has the wrong type.
        """
        try:
            return read_fields(cls, value)
        except WrongField as error:
            raise InvalidReport(
                f"this is not an accuracy that the monitor wrote: {error}. Write it again."
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class WordRise:
    """A word that more papers have than before.

    Attributes:
        word: folded, as the model reads it.
        window, before: share of the papers that have it, 0..1.
    """

    word: str
    window: float
    before: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperBehind:
    """A paper that the difference comes from.

    Attributes:
        prediction_id: of its prediction.
        title: its first line, cut after 200 characters.
        primary: accepted category, None for an abstention.
        distance: how much nearer to the window than to the reference, in standard deviations.
    """

    prediction_id: str
    title: str
    primary: str | None
    distance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TextsBehind:
    """What the texts of a window say, where the journal keeps them; never part of a report.

    Attributes:
        n_window, n_before: papers with a text, in the window and older than it.
        words: those whose share rose most, the first rose most.
        papers: those that the difference comes from, the farthest first.
    """

    n_window: int
    n_before: int
    words: tuple[WordRise, ...] = ()
    papers: tuple[PaperBehind, ...] = ()
