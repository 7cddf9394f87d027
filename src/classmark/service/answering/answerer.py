"""From a question to its published answer, which is counted and kept in the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from classmark.errors import TextTooLong, UsageError
from classmark.journal import Journal
from classmark.kernels import RawScores
from classmark.neighbours import Index
from classmark.neighbours.index import MOST_SIMILAR
from classmark.papers import text_fingerprint
from classmark.records import (
    BadRecord,
    Paper,
    author_names,
    derived_prediction_id,
    new_prediction_id,
)
from classmark.runtime import Classifier, check_paper
from classmark.runtime.features import keep_scores
from classmark.service.answering.journal import KEPT_CATEGORIES, event_of
from classmark.service.memory import OTHER
from classmark.service.requests.tracing import step
from classmark.wire import Answer, Similar
from classmark.wire import BadRecord as PublishedBadRecord

if TYPE_CHECKING:
    from classmark.records import PredictionSource
    from classmark.service.answering.batching import Batcher
    from classmark.service.answering.comparing import Pairing
    from classmark.service.metrics import Metrics
    from classmark.service.requests.tracing import Trace
    from classmark.service.settings import ServiceSettings

CHUNK_PAPERS = 64
"""The deadline is checked between two chunks of a batch: some 3 ms of work."""
MOST_COUNTED = 250
"""Labels that are a series of their own in the metrics: more than arXiv has."""

Document = Answer | PublishedBadRecord
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How to answer a request: see ``Classifier.classify``.

    Attributes:
        top, threshold, explain: as there.
        deadline: ``time.monotonic`` after which nobody waits for it; a deep model checks it.
        source: which endpoint answers.
        started: ``time.monotonic`` when the request came.
        idempotency_key: of the client; the same key, text and place give the same id.
        similar: how many similar papers of the index to add; 0 adds none.
        authors: whether the authors of the papers are evidence.
        client: id of the API key that asks, "" without keys.
        trace: notes the steps of the request; None if nobody wants them.
    """

    top: int = 5
    threshold: float | None = None
    explain: bool = False
    deadline: float | None = None
    source: PredictionSource = "classify"
    started: float = 0.0
    idempotency_key: str | None = None
    similar: int = 0
    authors: bool = True
    client: str = ""
    trace: Trace | None = None

    def papers_of(self, questions: Iterable[Question]) -> list[Paper]:
        """Return what is to be scored: the papers, without authors that are to be left out."""
        papers = (question.paper for question in questions)
        return [p if self.authors or not p.authors else replace(p, authors=()) for p in papers]


@dataclass
class Question:
    """One paper with the category its author chose.

    Attributes:
        paper: has a text.
        author_category: canonical, None if the author chose none.
    """

    paper: Paper
    author_category: str | None = None

    @cached_property
    def fingerprint(self) -> str:
        """``papers.text_fingerprint``, made once."""
        return text_fingerprint(self.paper)


class Scored(NamedTuple):
    """An answer, the share of terms that the model knows (0..1), and scores for the journal."""

    answer: Answer
    known_share: float
    scores: bytes


def answer_papers(
    classifier: Classifier, papers: Sequence[Paper], options: AnswerOptions
) -> list[Scored]:
    """Return the answers to papers, in the calling thread."""
    return answers_of(classifier, papers, classifier.score(papers), options)


def answers_of(
    classifier: Classifier, papers: Sequence[Paper], raw: RawScores, options: AnswerOptions
) -> list[Scored]:
    """Return the answers that raw scores of papers give."""
    answers = classifier.answers(
        papers, raw, top=options.top, threshold=options.threshold, explain=options.explain
    )
    return scored_of(answers, raw)


def scored_of(answers: Iterable[Answer], raw: RawScores) -> list[Scored]:
    """Return n answers with what the journal keeps of the scores they come from."""
    return list(map(Scored, answers, raw.known_share.tolist(), keep_scores(raw)))


class Answerer:
    """Answers questions with one classifier; may be shared by threads.

    Attributes:
        classifier: the model.
        batcher: the queue of a deep model; None if papers are answered as they come.
        journal: None if none is kept.
        model: the model that answers.
        index: whose papers are offered as similar; None if there is none.
        pairing: what its answers are compared with; None for nothing.
        label_change: it has other labels than the champion, and its answers say so.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: ServiceSettings,
        metrics: Metrics,
        *,
        journal: Journal | None = None,
        batcher: Batcher | None = None,
        index: Index | None = None,
    ) -> None:
        self.classifier = classifier
        self.batcher = batcher
        self.journal = journal
        self.index = index
        self._metrics = metrics
        self._keep_text = settings.journal_text
        self._max_text_chars = settings.max_text_chars
        self.model = classifier.model
        self.pairing: Pairing | None = None
        self.label_change = False
        self._spec = f"{self.model.name}@{self.model.version}"
        # Own labels are their owner's words, and metrics are for everybody.
        is_arxiv = classifier.names != classifier.labels
        self._counted = frozenset(classifier.labels[:MOST_COUNTED] if is_arxiv else ())

    @property
    def most_similar(self) -> int:
        """How many similar papers a request may ask for; 0 without an index."""
        return MOST_SIMILAR if self.index is not None else 0

    def check_similar(self, n: int) -> None:
        """Check that there is an index if similar papers are asked for.

        Raises:
            UsageError: there is none.
        """
        if n and self.index is None:
            raise UsageError(
                "similar: this service has no index of papers. Leave it out; the operator can give "
                "one with `classmark serve --index`."
            )

    def checked(self, paper: Paper) -> Paper:
        """Return a paper that can be classified.

        Raises:
            InvalidPaper: it has no text.
            TextTooLong: it has more text than this service takes, or longer authors.
        """
        n_chars = len(paper.title) + len(paper.abstract)
        if n_chars > self._max_text_chars:
            raise TextTooLong(
                f"the text has {n_chars:,} characters, more than {self._max_text_chars:,}. Send "
                "title and abstract, not the whole paper."
            )
        self._check_authors(paper.authors)
        return check_paper(paper)

    def author_names(self, authors: str | Sequence[str]) -> tuple[str, ...]:
        """Return the names of authors, given as a text or one by one.

        Raises:
            InvalidPaper, TextTooLong: they are longer than this service takes.
        """
        self._check_authors((authors,) if isinstance(authors, str) else authors)
        return author_names(authors)

    def _check_authors(self, authors: Sequence[str]) -> None:
        n_chars = sum(map(len, authors))
        if n_chars > self._max_text_chars:
            raise TextTooLong(
                f"the authors have {n_chars:,} characters, more than {self._max_text_chars:,}. "
                "Send their names only."
            )

    def answer(self, question: Question, options: AnswerOptions) -> Answer:
        """Return the published answer to one question."""
        [scored] = self._classify([question], options)
        return self.finish(question, scored, options)

    def submit(
        self, batcher: Batcher, questions: Sequence[Question], options: AnswerOptions
    ) -> Future[list[Scored]]:
        """Queue questions for a deep model, and return the future of their answers.

        Raises:
            Overloaded: they would not be ready in time.
        """
        options = self._for_all(questions, options)
        return batcher.submit(options.papers_of(questions), options)

    def finish(self, question: Question, scored: Scored, options: AnswerOptions) -> Answer:
        """Return the published form of the only answer of a request, counted and recorded."""
        with step(options.trace, "answer"):
            answer = self._publish(question, scored, options)
        self._metrics.papers_done(answer.reason)
        self._count([scored])
        return answer

    def _count(self, scored: Iterable[Scored]) -> None:
        """Count what answers say, before anything is cut for who asked."""
        found = []
        for answer, *_ in scored:
            first = answer.ranked[0].code
            category = first if first in self._counted else OTHER
            found.append((category, answer.probability, answer.primary is None))
        self._metrics.answers_done(self._spec, found)

    def answer_many(
        self, questions: Sequence[Question | BadRecord], options: AnswerOptions, check: Check
    ) -> list[Document]:
        """Return the published answers in the order of the questions, bad records in their places.

        Args:
            questions: what was asked.
            options: for all of them.
            check: called between chunks; raises when the work is no longer worth doing.
        """
        documents: list[Document] = []
        for start in range(0, len(questions), CHUNK_PAPERS):
            check()
            chunk = questions[start : start + CHUNK_PAPERS]
            good = [q for q in chunk if isinstance(q, Question)]
            documents += self._published(chunk, self._classify(good, options), options, start)
        outcomes = Counter(d.reason if isinstance(d, Answer) else "error" for d in documents)
        for outcome, n in outcomes.items():
            self._metrics.papers_done(outcome, n)
        return documents

    def answer_together(
        self, requests: Sequence[tuple[Sequence[Question | BadRecord], AnswerOptions]]
    ) -> list[list[Document]]:
        """Return the published answers to each of some requests; their papers are scored in one go.

        Args:
            requests: the questions of each, and how to answer them.
        """
        questions = [[q for q in asked if isinstance(q, Question)] for asked, _ in requests]
        papers = [o.papers_of(good) for good, (_, o) in zip(questions, requests, strict=True)]
        raw = self.classifier.score(chain.from_iterable(papers))
        documents, end = [], 0
        for (asked, options), good, own in zip(requests, questions, papers, strict=True):
            first, end = end, end + len(own)
            scored = answers_of(
                self.classifier, own, raw.rows(first, end), self._for_all(good, options)
            )
            documents.append(self._published(asked, scored, options))
        return documents

    def _published(
        self,
        questions: Sequence[Question | BadRecord],
        scored: Sequence[Scored],
        options: AnswerOptions,
        first: int = 0,
    ) -> list[Document]:
        """Return answers in the order of the questions, bad records in their places."""
        self._count(scored)
        answers = iter(scored)
        with step(options.trace, "answer"):
            return [
                q.published()
                if isinstance(q, BadRecord)
                else self._publish(q, next(answers), options, index)
                for index, q in enumerate(questions, first)
            ]

    def _classify(self, questions: Sequence[Question], options: AnswerOptions) -> list[Scored]:
        with step(options.trace, "score"):
            if self.batcher is not None and questions:
                return self.submit(self.batcher, questions, options).result()
            options = self._for_all(questions, options)
            return answer_papers(self.classifier, options.papers_of(questions), options)

    def _for_all(self, questions: Sequence[Question], options: AnswerOptions) -> AnswerOptions:
        """Return options that rank enough categories: all of them, to find that of an author."""
        self.check_similar(options.similar)
        if any(question.author_category is not None for question in questions):
            return replace(options, top=len(self.classifier.labels))
        least = 1 if self.journal is None else KEPT_CATEGORIES
        return replace(options, top=max(options.top, least))

    def _publish(
        self, question: Question, scored: Scored, options: AnswerOptions, index: int = 0
    ) -> Answer:
        """Return the published form of an answer, and record it."""
        prediction_id = (
            new_prediction_id()
            if options.idempotency_key is None
            else derived_prediction_id(options.idempotency_key, f"{index} {question.fingerprint}")
        )
        with step(options.trace, "journal"):
            self._record(question, scored, options, prediction_id)
        answer, author = scored.answer, question.author_category
        return structs.replace(
            answer,
            ranked=answer.ranked[: options.top],
            author_category=author and self.classifier.categories.verdict(answer, author),
            prediction_id=prediction_id,
            similar=self._similar(question.paper, options.similar),
            label_change=self.label_change,
        )

    def _record(
        self, question: Question, scored: Scored, options: AnswerOptions, prediction_id: str
    ) -> None:
        """Give an answer to the journal, at once or when another version has scored its paper."""
        event, pairing = None, self.pairing
        if self.journal is not None:
            kept = self._keep_text
            event = event_of(question, scored, options, prediction_id, keep_text=kept)
        if pairing is not None and pairing.take(question, scored.answer, options, event):
            return
        if event is not None and self.journal is not None:
            self.journal.record(event)

    def _similar(self, paper: Paper, n: int) -> tuple[Similar, ...] | None:
        if self.index is None or not n:
            return None
        return self.index.similar(self.classifier.vectors(paper), n)[0]
