"""Live accuracy: predictions of the journal, scored when the category of the paper is known.

A category is known from, the best source first:

- a harvested paper, found by the fingerprint of its text, else by its arXiv identifier;
- feedback: the last word on each prediction; where the predictions of one paper have different
  ones, the majority. With a tie it stays unknown.

A paper that one version was asked several times counts once, as it was asked first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from pathlib import Path

from classmark import taxonomy
from classmark.errors import UnknownCategory, UnreadableSource
from classmark.evaluation.metrics.intervals import share_interval
from classmark.journal.place import Place
from classmark.journal.reading import EVERYTHING, PredictionFilter, read_predictions
from classmark.monitor.few_labels import lasting_bounds
from classmark.papers import Columns, canonical_id, read_papers, text_fingerprint
from classmark.records import BadRecord, Paper, Prediction, PredictionEvent, utc_text
from classmark.records.drift import LiveAccuracy, LiveScore
from classmark.records.evaluation import MetricValue

MIN_CATEGORY_LABELS = 30
"""A category with fewer known labels has no score of its own."""
_N_LISTED = 5
_MONTH_CHARS = len("2026-11")
_DAY_ENDS = "T23:59:59.999Z"
_FOREVER = "9999"
EVERY_KEY = "all"
"""In place of API keys: the feedback of all of them."""


@dataclass(frozen=True, kw_only=True)
class LabelSources:
    """Where the categories come from that are known of papers drawn at random.

    Feedback by itself is not random: people send it because an answer was wrong.

    Attributes:
        files: papers with categories, such as ``classmark harvest`` writes.
        feedback_of: ids of API keys, whose feedback on their own predictions counts, or "all".
        columns: names of columns or keys in the files.
    """

    files: tuple[Path, ...] = ()
    feedback_of: tuple[str, ...] = ()
    columns: Columns = field(default_factory=Columns)

    def __bool__(self) -> bool:
        return bool(self.files or self.feedback_of)

    @property
    def in_words(self) -> str:
        """Return what they are, for a report."""
        n = len(self.files)
        papers = [f"{n} file{'s' * (n > 1)} of papers"] if n else []
        keys = ", ".join(self.feedback_of)
        return " and ".join([*papers, *([f"feedback of {keys}"] if keys else [])])

    def read(self, journal: Place, wanted: PredictionFilter) -> Truths:
        """Return what these sources know of the predictions that are wanted.

        Raises:
            InvalidJournal: a file of it cannot be read.
            UnreadableSource, WrongColumns, MissingExtra: a file of papers cannot be read.
        """
        truths = Truths(_FOREVER, self.feedback_of)
        return _read_truths(truths, journal, self.papers(), wanted)

    def papers(self) -> Iterator[Paper | BadRecord]:
        """Yield the records of the files.

        Raises:
            UnreadableSource: a file cannot be read, or none of its records can.
        """
        for file in self.files:
            first, n_bad, n_papers = "", 0, 0
            for record in read_papers(file, columns=self.columns):
                if isinstance(record, Paper):
                    n_papers += 1
                else:
                    first, n_bad = first or record.message, n_bad + 1
                yield record
            if n_bad and not n_papers:
                raise UnreadableSource(
                    f"none of the {n_bad:,} records of {file} is a paper. The first: {first}"
                )


def live_accuracy(
    journal: Place,
    papers: Iterable[Paper | BadRecord] = (),
    *,
    wanted: PredictionFilter = EVERYTHING,
    as_of_utc: str | None = None,
) -> LiveAccuracy:
    """Return how right the predictions of a journal were, as far as it is known.

    The journal is read twice. Memory grows with its predictions, not with the papers.

    Args:
        journal: its first file, or its database.
        papers: with categories, for example what ``classmark harvest`` wrote, read by
            ``read_papers``; records that cannot be read are passed over.
        wanted: which predictions count.
        as_of_utc: only predictions, feedback and papers up to this time count, as ``utc_text``
            writes it. A paper is known at the end of the latest day that it names, because its
            category may have changed with its text. None: everything, now.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    end = as_of_utc or _FOREVER
    known = (
        paper
        for paper in papers
        if isinstance(paper, Paper) and (as_of_utc is None or _was_known(paper, as_of_utc))
    )
    truths = _read_truths(Truths(end), journal, known, wanted)
    tallies = _Tallies()
    for prediction in _until(end, read_predictions(journal, wanted)):
        tallies.add(prediction.event, truths)
    return tallies.result(as_of_utc or utc_text(), truths.n_disagreeing)


def scores_over_time(
    journal: Place, sources: LabelSources, *, papers_each: int
) -> list[tuple[str, LiveScore]]:
    """Return how right each version was over time: when, and the score of so many papers.

    Args:
        journal: its first file, or its database.
        sources: of labels.
        papers_each: papers with a known category of one score; a last one may have fewer.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    truths = sources.read(journal, EVERYTHING)
    found: list[tuple[str, LiveScore]] = []
    open_ones: dict[str, tuple[str, _Tally]] = {}
    for event in (prediction.event for prediction in read_predictions(journal)):
        truth, _ = truths.of(event)
        if not truth:
            continue
        version = f"{event.model.name}@{event.model.version}"
        begun, tally = open_ones.setdefault(version, (event.at_utc, _Tally()))
        tally.add(event, truth)
        if tally.n == papers_each:
            found.append((begun, tally.score(version)))
            del open_ones[version]
    rest = [(begun, tally.score(version)) for version, (begun, tally) in open_ones.items()]
    return sorted(found + rest, key=lambda one: one[0])


def _read_truths(
    truths: Truths, journal: Place, papers: Iterable[Paper | BadRecord], wanted: PredictionFilter
) -> Truths:
    for prediction in _until(truths.end, read_predictions(journal, wanted)):
        truths.ask(prediction)
    for paper in papers:
        if isinstance(paper, Paper):
            truths.tell(paper)
    return truths


def _until(end: str, predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    return (found for found in predictions if found.event.at_utc <= end)


def _was_known(paper: Paper, moment: str) -> bool:
    latest = max(filter(None, (paper.published_date, paper.updated_date)), default=None)
    return latest is not None and f"{latest}{_DAY_ENDS}" <= moment


class Known(Enum):
    """Where the category of a paper is known from, or why it is not."""

    HARVESTED = auto()
    FEEDBACK = auto()
    AMBIGUOUS = auto()
    RETIRED = auto()
    NOTHING = auto()


class Truths:
    """What is known of the papers that were predicted.

    Attributes:
        end: what was said later does not count.
    """

    def __init__(self, end: str, feedback_of: Container[str] = (EVERY_KEY,)) -> None:
        """Know nothing yet.

        Args:
            end: what was said later does not count, as ``utc_text`` writes it.
            feedback_of: ids of API keys; feedback on the predictions of others is left out.
        """
        self.end = end
        self._feedback_of = feedback_of
        self._left_out: set[str] = set()
        self._votes: dict[str, Counter[str]] = defaultdict(Counter)
        self._texts: dict[str, set[str]] = {}
        self._ids: dict[str, set[str]] = {}

    def ask(self, prediction: Prediction) -> None:
        """Note which paper was predicted, and what was said of it last."""
        event = prediction.event
        self._texts.setdefault(paper_key(event), set())
        if event.paper_id:
            self._ids.setdefault(canonical_id(event.paper_id), set())
        words = [word for word in prediction.feedback if word.at_utc <= self.end]
        if words and not (EVERY_KEY in self._feedback_of or event.client in self._feedback_of):
            self._left_out.add(paper_key(event))
        elif words:
            self._votes[paper_key(event)][canonical_code(words[-1].category)] += 1

    def tell(self, paper: Paper) -> None:
        """Take in the category of a paper, if that was predicted."""
        code = paper.category_code or next(iter(paper.categories), None)
        if not code:
            return
        by_text = self._texts.get(text_fingerprint(paper))
        by_id = self._ids.get(canonical_id(paper.id)) if paper.id else None
        for found in (by_text, by_id):
            if found is not None:
                found.add(canonical_code(code))

    @property
    def n_disagreeing(self) -> int:
        """Papers of which feedback names different categories."""
        return sum(len(votes) > 1 for votes in self._votes.values())

    def leaves_out(self, event: PredictionEvent) -> bool:
        """Return whether there is feedback on a prediction's paper that does not count."""
        return paper_key(event) in self._left_out

    def of(self, event: PredictionEvent) -> tuple[str, Known]:
        """Return the category of a prediction's paper, "" for none, and where it is known from."""
        by_text = self._texts.get(paper_key(event), set())  # the journal grows meanwhile
        for found in (by_text, self._ids.get(canonical_id(event.paper_id or ""))):
            if found and len(found) == 1:
                return _usable(next(iter(found)), Known.HARVESTED)
        is_ambiguous = len(by_text) > 1
        votes = self._votes.get(paper_key(event))
        if votes:
            (code, most), *others = votes.most_common(2)
            if not others or others[0][1] < most:
                return _usable(code, Known.FEEDBACK)
            is_ambiguous = True
        return "", Known.AMBIGUOUS if is_ambiguous else Known.NOTHING


def paper_key(event: PredictionEvent) -> str:
    """Return what the predictions of one paper share."""
    return event.text_fingerprint or event.prediction_id


def _usable(code: str, known: Known) -> tuple[str, Known]:
    try:
        is_active = taxonomy.is_active(code)
    except UnknownCategory:  # a label of the user's own
        is_active = True
    return (code, known) if is_active else ("", Known.RETIRED)


@lru_cache(4096)
def canonical_code(code: str) -> str:
    """Return today's code of a category; a label of the user's own stays as it is."""
    try:
        return taxonomy.canonical(code)
    except UnknownCategory:
        return code


@dataclass
class _Tally:
    """Counts of one group."""

    n: int = 0
    right: int = 0
    listed: int = 0
    accepted: int = 0
    accepted_right: int = 0
    sets: int = 0
    covered: int = 0

    def add(self, event: PredictionEvent, truth: str) -> None:
        """Count one prediction."""
        codes = [canonical_code(code) for code, _ in event.ranked[:_N_LISTED]]
        self.n += 1
        self.right += codes[:1] == [truth]
        self.listed += truth in codes
        if event.primary is not None:
            self.accepted += 1
            self.accepted_right += canonical_code(event.primary) == truth
        if event.set:
            self.sets += 1
            self.covered += truth in map(canonical_code, event.set)

    def score(self, name: str) -> LiveScore:
        """Return the shares, of at least one prediction."""
        return LiveScore(
            name=name,
            n=self.n,
            top1=share_interval(self.right, self.n),
            top5=share_interval(self.listed, self.n),
            n_accepted=self.accepted,
            accepted=_share(self.accepted_right, self.accepted),
            abstained=1.0 - self.accepted / self.n,
            n_sets=self.sets,
            covered=_share(self.covered, self.sets),
        )


def _share(hits: int, n: int) -> MetricValue | None:
    return share_interval(hits, n) if n else None


@dataclass
class _Tallies:
    """Counts of all groups."""

    n_predictions: int = 0
    n_duplicates: int = 0
    known: Counter[Known] = field(default_factory=Counter)
    overall: _Tally = field(default_factory=_Tally)
    by_author: _Tally = field(default_factory=_Tally)
    months: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    categories: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    versions: dict[str, _Tally] = field(default_factory=lambda: defaultdict(_Tally))
    seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, event: PredictionEvent, truths: Truths) -> None:
        """Count one prediction in its groups."""
        self.n_predictions += 1
        version = f"{event.model.name}@{event.model.version}"
        if (version, paper_key(event)) in self.seen:
            self.n_duplicates += 1
            return
        self.seen.add((version, paper_key(event)))
        if event.author_category:
            self.by_author.add(event, canonical_code(event.author_category))
        truth, known = truths.of(event)
        self.known[known] += 1
        if truth:
            month = event.at_utc[:_MONTH_CHARS]
            groups = (self.months[month], self.categories[truth], self.versions[version])
            for tally in (self.overall, *groups):
                tally.add(event, truth)

    def result(self, moment: str, n_disagreeing: int) -> LiveAccuracy:
        """Return all counts and shares."""
        return LiveAccuracy(
            as_of_utc=moment,
            n_predictions=self.n_predictions,
            n_duplicates=self.n_duplicates,
            n_harvested=self.known[Known.HARVESTED],
            n_feedback=self.known[Known.FEEDBACK],
            n_ambiguous=self.known[Known.AMBIGUOUS],
            n_retired=self.known[Known.RETIRED],
            n_unlabelled=self.known[Known.NOTHING],
            n_disagreeing=n_disagreeing,
            overall=self.overall.score("all") if self.overall.n else None,
            months=_scores(self.months),
            categories=_scores(self.categories, MIN_CATEGORY_LABELS),
            versions=_scores(self.versions),
            by_author=self.by_author.score("author") if self.by_author.n else None,
            lasting=lasting_bounds(self.overall.right, self.overall.n) if self.overall.n else (),
        )


def _scores(tallies: dict[str, _Tally], least: int = 1) -> tuple[LiveScore, ...]:
    return tuple(t.score(name) for name, t in sorted(tallies.items()) if t.n >= least)
