"""From checked requests to published answers, in the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs

from classmark.errors import ClassmarkError, InvalidPaper, UnknownCategory
from classmark.records import BadRecord, Paper
from classmark.runtime import Classifier, check_paper
from classmark.service.problems import Problem
from classmark.service.recording import KEPT_CATEGORIES, Question, Recorder
from classmark.wire import Answer
from classmark.wire import BadRecord as PublishedBadRecord

if TYPE_CHECKING:
    from concurrent.futures import Future

    from classmark.service.batching import Batcher
    from classmark.service.schemas import PaperIn

CHUNK_PAPERS = 64
"""Between two chunks of a batch the deadline is looked at: some 3 ms of work."""

Document = Answer | PublishedBadRecord
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to answer: see ``Classifier.classify``.

    Attributes:
        top, threshold, explain: as there.
        deadline: ``time.monotonic`` after which nobody waits for it; a deep model looks at it.
    """

    top: int = 5
    threshold: float | None = None
    explain: bool = False
    deadline: float | None = None


class Scored(NamedTuple):
    """An answer, and the share of the text's terms that the model knows, 0..1."""

    answer: Answer
    known_share: float


def answer_papers(
    classifier: Classifier, papers: Sequence[Paper], options: Options
) -> list[Scored]:
    """Return the answers to papers, in the calling thread."""
    raw = classifier.score(papers)
    answers = classifier.answers(
        papers, raw, top=options.top, threshold=options.threshold, explain=options.explain
    )
    return list(map(Scored, answers, raw.known_share.tolist()))


class Answerer:
    """Answers questions with one classifier; may be shared by threads.

    Attributes:
        classifier: who answers.
        batcher: the queue of a deep model; None where papers are answered as they come.
        max_text_chars: longer papers are refused.
        is_recorded: the journal is told of answers, with more categories than most ask for.
        model: the model that answers.
    """

    def __init__(
        self,
        classifier: Classifier,
        max_text_chars: int,
        *,
        is_recorded: bool = False,
        batcher: Batcher | None = None,
    ) -> None:
        self.classifier = classifier
        self.batcher = batcher
        self.is_recorded = is_recorded
        self.max_text_chars = max_text_chars
        self.model = classifier.model

    def question(self, paper: PaperIn) -> Question:
        """Return the question that a request asks.

        Raises:
            Problem: there is no text, too much of it, two kinds of it, or an unknown category.
        """
        identifier = None if paper.id is None else str(paper.id)
        if paper.text is not None:
            if paper.title is not None or paper.abstract is not None:
                raise Problem(
                    "invalid_request",
                    "text: stands in place of title and abstract. Give either, not both.",
                    errors=[{"field": "text", "message": "beside title or abstract"}],
                )
            given = Paper.from_text(paper.text, identifier)
        else:
            given = Paper(id=identifier, title=paper.title or "", abstract=paper.abstract or "")
        author = paper.author_category
        if author is not None:
            author = self.known_code(author, allow_archive=True)
        return Question(self.checked(given), author)

    def known_code(self, category: str, *, allow_archive: bool = False) -> str:
        """Return the category that a request means.

        Args:
            category: as somebody wrote it.
            allow_archive: it may also be the code of a whole archive.

        Raises:
            Problem: there is no such category.
        """
        categories = self.classifier.categories
        try:
            find = categories.author_category if allow_archive else categories.canonical
            return find(category)
        except UnknownCategory as error:
            raise Problem("unknown_category", str(error)) from error

    def checked(self, paper: Paper) -> Paper:
        """Return a paper that can be classified.

        Raises:
            Problem: it has no text, or more than this service takes.
        """
        n_chars = len(paper.title) + len(paper.abstract)
        if n_chars > self.max_text_chars:
            raise Problem(
                "text_too_long",
                f"the text has {n_chars:,} characters, more than {self.max_text_chars:,}. Send "
                "title and abstract, not the whole paper.",
            )
        try:
            return check_paper(paper)
        except InvalidPaper as error:
            raise Problem("invalid_paper", str(error)) from error

    def answer(self, question: Question, options: Options, recorder: Recorder) -> Answer:
        """Return the published answer of one question."""
        [scored] = self._classify([question], options)
        return self.publish(question, scored, options, recorder)

    def submit(
        self, batcher: Batcher, questions: Sequence[Question], options: Options
    ) -> Future[list[Scored]]:
        """Queue questions for a deep model, and return the future of their answers.

        Raises:
            Problem: they would not be ready in time.
        """
        options = replace(options, top=self._most_top(questions, options))
        return batcher.submit([question.paper for question in questions], options)

    def _classify(self, questions: Sequence[Question], options: Options) -> list[Scored]:
        if self.batcher is not None and questions:
            return self.submit(self.batcher, questions, options).result()
        options = replace(options, top=self._most_top(questions, options))
        return answer_papers(self.classifier, [q.paper for q in questions], options)

    def _most_top(self, questions: Sequence[Question], options: Options) -> int:
        return max([self._top(question, options) for question in questions], default=1)

    def answer_many(
        self,
        questions: Sequence[Question | BadRecord],
        options: Options,
        recorder: Recorder,
        check: Check,
    ) -> list[Document]:
        """Return the published answers in the order of the questions, bad records in their places.

        Args:
            questions: what was asked.
            options: for all of them.
            recorder: is told of every answer.
            check: raises when the work is no longer worth doing; called between chunks.
        """
        documents: list[Document] = []
        for start in range(0, len(questions), CHUNK_PAPERS):
            check()
            chunk = questions[start : start + CHUNK_PAPERS]
            good = [q for q in chunk if isinstance(q, Question)]
            answers = iter(self._classify(good, options))
            documents += [
                q.published()
                if isinstance(q, BadRecord)
                else self.publish(q, next(answers), options, recorder, index)
                for index, q in enumerate(chunk, start)
            ]
        return documents

    def _top(self, question: Question, options: Options) -> int:
        """Return how many categories must be ranked: all, to find the author's among them."""
        if question.author_category is not None:
            return len(self.classifier.labels)
        return max(options.top, KEPT_CATEGORIES) if self.is_recorded else options.top

    def publish(
        self,
        question: Question,
        scored: Scored,
        options: Options,
        recorder: Recorder,
        index: int = 0,
    ) -> Answer:
        """Return the published form of an answer, and tell the recorder of it."""
        prediction_id = recorder.prediction_id(question, index)
        answer, author = scored.answer, question.author_category
        recorder.record(question, answer, scored.known_share, prediction_id)
        return structs.replace(
            answer,
            ranked=answer.ranked[: options.top],
            author_category=author and self.classifier.categories.verdict(answer, author),
            prediction_id=prediction_id,
        )


def bad_record(identifier: Any, problem: Problem | ClassmarkError) -> BadRecord:
    """Return the place of a record that gets no answer."""
    message = problem.detail if isinstance(problem, Problem) else str(problem)
    shown = None if identifier is None else str(identifier)
    return BadRecord(id=shown, kind=problem.kind, message=message)
