"""The Python face of classmark: papers in, answers out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.errors import BundleIncompatible, UsageError
from classmark.kernels import RawScores, Scorer, check_text_recipe, count_terms, make_scorer
from classmark.kernels.joining import load_join
from classmark.kernels.linear import DIM, LinearScorer
from classmark.neighbours import Index, NeighbourJoin
from classmark.papers import Columns
from classmark.records import BadRecord, BundleManifest, Paper
from classmark.runtime.answers import Answers, Made, Mixed, Part
from classmark.runtime.decisions import Decisions
from classmark.runtime.explaining import Explainer
from classmark.runtime.intake import (
    ErrorMode,
    OneItem,
    evidence_of,
    in_batches,
    is_one_paper,
    n_chars,
    read_items,
)
from classmark.runtime.labels import Labels
from classmark.runtime.pickling import restore
from classmark.runtime.policy import Decider, check_top
from classmark.wire import Answer, ModelRef

DEFAULT_TOP = 5


class CallOptions(TypedDict, total=False):
    """Options of ``Classifier.classify`` beside the papers; its docstring describes them."""

    top: int
    threshold: float | None
    explain: bool
    check_category: bool
    authors: bool


class Classifier:
    """Classifies papers with one bundle; may be shared by threads, copied and pickled.

    Attributes:
        labels: k codes, the columns of the scores.
        names: k names, in the same order; the labels themselves if they are the user's own.
        categories: finds the label that somebody means, and judges an author's category.
        policy: how scores become answers.
        thresholds: k probabilities, from which each label is accepted.
        set_coverage: coverage that the prediction sets were built for, 0..1.
        parameters: those of the kernel, as the bundle has them.
        model: who answers: name, version, digest of the bundle.
        columns: what the papers that it was trained on were read from, for ``read_papers``.
    """

    _neighbours: NeighbourJoin | None

    def __init__(
        self, model: str | Path | None = None, *, index: str | Path | Index | None = None
    ) -> None:
        """Find, verify and load a model.

        Args:
            model: ``NAME``, ``NAME@VERSION`` or a path; None means the default model.
            index: of papers whose categories are evidence too; see ``with_index``.

        Raises:
            BundleNotFound: there is no such model; says which there are.
            BundleCorrupt: a file of it is missing or has changed.
            BundleIncompatible: it was made for another format, text recipe or taxonomy, or holds
                values that no model can have.
            IndexCorrupt, IndexIncompatible, UsageError: the index cannot be used.
        """
        bundle = load_bundle(find_bundle(model))
        self._set_up(bundle, make_scorer(bundle))
        if index is not None:
            self._neighbours = self._joined_with(index)

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, scorer: Scorer | None = None) -> Classifier:
        """Make a classifier of a bundle that is loaded already.

        Args:
            bundle: as ``load_bundle`` returns it.
            scorer: takes the place of the bundle's own kernel.

        Raises:
            BundleIncompatible: it was made for another text recipe or taxonomy.
        """
        classifier = cls.__new__(cls)
        classifier._set_up(bundle, scorer or make_scorer(bundle))
        classifier._own_scorer = scorer
        return classifier

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path and digest of the bundle, which is read again where it is unpickled.

        A scorer that was given to ``from_bundle`` is pickled too.
        """
        index = self._neighbours and str(self._neighbours.index.path.resolve())
        return restore, (type(self), str(self._path), self.model.digest, self._own_scorer, index)

    def with_index(self, index: str | Path | Index) -> Classifier:
        """Return a classifier that shares the model, and uses the papers of an index as evidence.

        Args:
            index: of this model, with weights that ``classmark index calibrate`` has found.

        Raises:
            IndexCorrupt, IndexIncompatible: it cannot be read, or is of another model.
            UsageError: it is not calibrated, or the model has no vectors.
        """
        twin = self.__copy__()
        twin._neighbours = self._joined_with(index)
        return twin

    def __copy__(self) -> Classifier:
        """Return another classifier that shares the model, which no call changes."""
        twin = self.__class__.__new__(self.__class__)
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Classifier:
        """Return the same as ``copy.copy``."""
        return self.__copy__()

    def _set_up(self, bundle: Bundle, scorer: Scorer) -> None:
        check_text_recipe(bundle)
        manifest = bundle.manifest
        self._path = bundle.path.resolve()
        self._own_scorer: Scorer | None = None
        self.model = ModelRef(manifest.name, manifest.version, bundle.digest)
        self._decider = Decider(manifest, self.model, bundle.reliability)
        # Of a long text that the model half knows, this many words are enough for a set.
        self._most_terms = 2 * manifest.policy.set_terms
        self._temperature = manifest.policy.temperature
        self._scorer = scorer
        self._join = load_join(bundle)
        self._neighbours = None
        self.labels = self._decider.labels
        self.names = self._decider.names
        self.categories = Labels(manifest)
        self.policy = manifest.policy
        self.thresholds = manifest.policy.thresholds
        self.set_coverage = manifest.policy.set_coverage
        self.parameters = manifest.parameters
        self.columns = _columns(manifest)

    def score(self, papers: Iterable[Paper], *, authors: bool = True) -> RawScores:
        """Return the raw scores of papers, before any policy: logits, and what is known of them.

        Args:
            papers: each with a text.
            authors: as for ``classify``.
        """
        parts = [self._score_batch(batch, authors=authors) for batch in in_batches(papers, n_chars)]
        if not parts:
            empty = np.zeros((0, len(self.labels)), dtype=np.float32)
            return RawScores(empty, np.zeros(0, dtype=np.float32))
        return RawScores.joined(parts)

    def vectors(self, papers: OneItem | Iterable[OneItem]) -> NDArray[np.float32]:
        """Return the vectors of papers for an ``Index``: float32 [n, 128], before the head.

        Args:
            papers: as for ``classify``; one paper gives one row.

        Raises:
            InvalidPaper: an item is not a paper or has no text; says which one.
            UsageError: the model is not of the fast tier.
        """
        read = [item for item in read_items(papers, "raise") if isinstance(item, Paper)]
        parts = [self._vectors(batch) for batch in in_batches(read, n_chars)]
        return np.concatenate([np.zeros((0, DIM), dtype=np.float32), *parts])

    def _vectors(self, papers: Sequence[Paper]) -> NDArray[np.float32]:
        return self._linear_scorer().vectors([(paper.title, paper.abstract) for paper in papers])

    def _linear_scorer(self) -> LinearScorer:
        if isinstance(self._scorer, LinearScorer):
            return self._scorer
        raise UsageError(
            f"the model {self.model.name} has no vectors for an index of papers; only models "
            "of the fast tier have. Use --model fast."
        )

    def _joined_with(self, index: str | Path | Index) -> NeighbourJoin:
        self._linear_scorer()
        opened = index if isinstance(index, Index) else Index.open(index)
        opened.check_model(self.model)
        weights = opened.manifest.evidence
        if weights is None:
            raise UsageError(
                f"the index {opened.path} is not calibrated, so nothing says how far to trust its "
                "papers. Run: classmark index calibrate INDEX DATASET"
            )
        return NeighbourJoin(opened, self.labels, weights)

    def _score_batch(self, papers: Sequence[Paper], *, authors: bool) -> RawScores:
        pairs = [(paper.title, paper.abstract) for paper in papers]
        raw = self._scorer.score(pairs)
        raw = RawScores(raw.scores, raw.known_share, count_terms(pairs, self._most_terms))
        if self._join is not None and authors:
            raw = self._join.join(raw, papers, self._temperature)
        if self._neighbours is not None:
            raw = self._neighbours.join(raw, papers, self._temperature, self._vectors)
        return raw

    def decide(self, raw: RawScores, *, top: int = 1, threshold: float | None = None) -> Decisions:
        """Return what the policy makes of raw scores as arrays: ``classify`` without its objects.

        Args:
            raw: as ``score`` returns them.
            top: how many labels of each paper to put in order at least.
            threshold: as for ``classify``.

        Raises:
            UsageError: the threshold is out of range.
            InvalidScores: the scores are not of this model's shape, or not finite.
        """
        return self._decider.decide(raw, top=top, threshold=threshold)

    @overload  # a string is an iterable of strings too; it is read as one paper
    def classify(  # type: ignore[overload-overlap]
        self, papers: OneItem, *, errors: Literal["raise"] = ..., **options: Unpack[CallOptions]
    ) -> Answer: ...

    @overload
    def classify(
        self,
        papers: Iterable[OneItem],
        *,
        errors: Literal["raise"] = ...,
        **options: Unpack[CallOptions],
    ) -> Answers[Answer]: ...

    @overload
    def classify(  # type: ignore[overload-overlap]
        self, papers: OneItem, *, errors: Literal["return"], **options: Unpack[CallOptions]
    ) -> Answer | BadRecord: ...

    @overload
    def classify(
        self,
        papers: Iterable[OneItem],
        *,
        errors: Literal["return"],
        **options: Unpack[CallOptions],
    ) -> Answers[Answer | BadRecord]: ...

    def classify(  # noqa: PLR0913 - all of them are options of a caller
        self,
        papers: OneItem | Iterable[OneItem],
        *,
        top: int = DEFAULT_TOP,
        threshold: float | None = None,
        explain: bool = False,
        check_category: bool = False,
        authors: bool = True,
        errors: ErrorMode = "raise",
    ) -> Answer | BadRecord | Answers[Answer | BadRecord]:
        """Classify one paper, or many.

        Args:
            papers: a string (its first line is the title if it has more than one, else it is an
                abstract), a ``Paper``, a mapping with ``title`` and/or ``abstract`` (or
                ``summary``) or a row of a table that has these, or an iterable of these, also as
                ``read_papers`` gives them. None, NaN and the NA of pandas are missing values.
            top: how many categories to rank, at least 1.
            threshold: replaces the model's own thresholds of acceptance, 0..1.
            explain: list the terms that decided between the top category and the runner-up.
            check_category: say what the answer makes of the category that a paper comes with
                (``category_code``): ``Answer.author_category``.
            authors: use what the model knows of a paper's authors from their earlier papers, if it
                has a table of authors; ``Answer.evidence`` says whether it did.
            errors: ``raise`` lets the first item that cannot be classified fail the call;
                ``return`` puts a ``BadRecord`` in its place (its ``to_dict`` is the JSON object
                that the command line and the service give) and answers the others.

        Returns:
            One answer for one paper; for an iterable of them (also of one, or none) a sequence that
            equals a list of the answers, and makes each when it is asked for.

        Raises:
            InvalidPaper: an item is not a paper or has no text; says which one.
            UsageError: ``top``, ``threshold`` or ``errors`` is out of range.
            InvalidScores: the model gave numbers that cannot be published.
        """
        answer_batch = self._checked_part if check_category else self._part
        parts: list[Part | Mixed | Made] = []
        for batch in in_batches(read_items(papers, errors), n_chars):
            readable = [item for item in batch if isinstance(item, Paper)]
            answered: Part | Made = Made(())
            if readable:
                raw = self._score_batch(readable, authors=authors)
                answered = answer_batch(readable, raw, top, threshold, explain)
            parts.append(answered if len(readable) == len(batch) else Mixed(answered, batch))
        results: Answers[Answer | BadRecord] = Answers(parts)
        return results[0] if is_one_paper(papers) else results

    def answers(
        self,
        papers: Sequence[Paper],
        raw: RawScores,
        *,
        top: int = DEFAULT_TOP,
        threshold: float | None = None,
        explain: bool = False,
    ) -> Answers[Answer]:
        """Return the answers that raw scores of n papers give, as ``classify`` does.

        Args:
            papers: the papers, for their identifiers and explanations.
            raw: as ``score`` returned them.
            top: as for ``classify``.
            threshold: the same.
            explain: the same.

        Raises:
            UsageError, InvalidScores: as ``classify``.
        """
        return Answers([self._part(papers, raw, top, threshold, explain)] if papers else [])

    def _part(
        self,
        papers: Sequence[Paper],
        raw: RawScores,
        top: int,
        threshold: float | None,
        explain: bool,
    ) -> Part | Made:
        used = raw.with_authors.tolist(), raw.with_neighbours.tolist()
        evidence = list(map(evidence_of, papers, *used))
        if len(papers) == 1 and not explain:
            answer = self._decider.answer(raw, papers[0].id, top=top, threshold=threshold)
            return Made([replace(answer, evidence=evidence[0])])
        ids = [paper.id for paper in papers]
        part = self._decider.answers(raw, ids, top=top, threshold=threshold)
        part = part.with_extra({"evidence": evidence})
        if not explain:
            return part
        explainer = Explainer(self._scorer, self._join, self.labels, self._temperature)
        return part.with_extra(explainer.fields(papers, raw, part.decisions))

    def _checked_part(
        self,
        papers: Sequence[Paper],
        raw: RawScores,
        top: int,
        threshold: float | None,
        explain: bool,
    ) -> Made:
        """Return answers with what they make of the categories that the papers come with."""
        check_top(top)
        answers = self._part(papers, raw, len(self.labels), threshold, explain).answers
        verdicts = [
            self.categories.verdict_on(answer, paper.category_code) if paper.category_code else None
            for paper, answer in zip(papers, answers, strict=True)
        ]
        return Made(
            [
                replace(answer, ranked=answer.ranked[:top], author_category=verdict)
                for answer, verdict in zip(answers, verdicts, strict=True)
            ]
        )


def _columns(manifest: BundleManifest) -> Columns:
    try:
        return Columns(expected=manifest.columns)
    except UsageError as error:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version}: {error}. Install a newer classmark."
        ) from error
