"""The Python face of classmark: papers in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.errors import BundleIncompatible, InvalidPaper, UsageError
from classmark.papers import RECIPE_VERSION, Columns, without_markup
from classmark.records import Answer, BundleManifest, ModelRef, Paper
from classmark.runtime.explain import explain as explain_answer
from classmark.runtime.policy import Decider, Decisions
from classmark.runtime.scorer import RawScores, Scorer

MAX_BATCH_PAPERS = 500
MAX_BATCH_CHARS = 4 << 20
DEFAULT_TOP = 5

_KERNELS = {
    "linear": "classmark.runtime.linear",
    "transformer": "classmark.runtime.encoder",
    "cascade": "classmark.runtime.cascade",
}

OnePaper = str | Paper | Mapping[str, Any]
T = TypeVar("T")


class Classifier:
    """Classifies papers with one bundle; may be shared by threads.

    Attributes:
        labels: k codes, the columns of the scores.
        names: k names, in the same order.
        policy: how scores become answers.
        thresholds: k probabilities, from which each label is accepted.
        set_coverage: coverage that the prediction sets were built for, 0..1.
        parameters: what the bundle says of its kernel.
        model: who answers: name, version, digest of the bundle.
        columns: what the papers that it was trained on were read from, for ``read_papers``.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        """Find, verify and load a model.

        Args:
            model: ``NAME``, ``NAME@VERSION`` or a path; None means the default model.

        Raises:
            BundleNotFound: there is no such model; says which there are.
            BundleCorrupt: a file of it is missing or has changed.
            BundleIncompatible: it was made for another format, text recipe or taxonomy, or holds
                values that no model can have.
        """
        bundle = load_bundle(find_bundle(model))
        self._set_up(bundle, make_scorer(bundle))

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
        return classifier

    def _set_up(self, bundle: Bundle, scorer: Scorer) -> None:
        _check_text_recipe(bundle)
        manifest = bundle.manifest
        self.model = ModelRef(manifest.name, manifest.version, bundle.digest)
        self._decider = Decider(manifest, self.model)
        self._temperature = manifest.policy.temperature
        self._scorer = scorer
        self.labels = self._decider.labels
        self.names = self._decider.names
        self.policy = manifest.policy
        self.thresholds = manifest.policy.thresholds
        self.set_coverage = manifest.policy.set_coverage
        self.parameters = manifest.parameters
        self.columns = _columns(manifest)

    def score(self, papers: Iterable[Paper]) -> RawScores:
        """Return the raw scores of papers, before any policy: logits and known-term shares."""
        parts = [
            self._scorer.score([(p.title, p.abstract) for p in batch])
            for batch in in_batches(papers, _n_chars)
        ]
        if not parts:
            empty = np.zeros((0, len(self.labels)), dtype=np.float32)
            return RawScores(empty, np.zeros(0, dtype=np.float32))
        return RawScores(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.known_share for part in parts]),
        )

    def decide(self, raw: RawScores, *, threshold: float | None = None) -> Decisions:
        """Return what the policy makes of raw scores as arrays: ``classify`` without its objects.

        Args:
            raw: as ``score`` returns them.
            threshold: as for ``classify``.

        Raises:
            UsageError: the threshold is out of range.
            InvalidScores: the scores are not of this model's shape, or not finite.
        """
        return self._decider.decide(raw, threshold=threshold)

    @overload  # a string is an iterable of strings too; it is read as one paper
    def classify(  # type: ignore[overload-overlap]
        self,
        x: OnePaper,
        *,
        top: int = ...,
        threshold: float | None = ...,
        explain: bool = ...,
    ) -> Answer: ...

    @overload
    def classify(
        self,
        x: Iterable[OnePaper],
        *,
        top: int = ...,
        threshold: float | None = ...,
        explain: bool = ...,
    ) -> list[Answer]: ...

    def classify(
        self,
        x: OnePaper | Iterable[OnePaper],
        *,
        top: int = DEFAULT_TOP,
        threshold: float | None = None,
        explain: bool = False,
    ) -> Answer | list[Answer]:
        """Classify one paper, or many.

        Args:
            x: a string (its first line is the title if it has more than one, else it is an
                abstract), a ``Paper``, a mapping with ``title`` and/or ``abstract`` (or
                ``summary``), or an iterable of these.
            top: how many categories to rank, at least 1.
            threshold: replaces the model's own thresholds of acceptance, 0..1.
            explain: list the terms that decided between the top category and the runner-up.

        Returns:
            One answer for one paper, a list for an iterable of them (also of one, or none).

        Raises:
            InvalidPaper: an item is no paper or has no text; says which one.
            UsageError: ``top`` or ``threshold`` is out of range.
            InvalidScores: the model gave numbers that cannot be published.
        """
        if isinstance(x, str | Paper | Mapping):
            return self._answer_batch([_to_paper(x)], top, threshold, explain)[0]
        answers: list[Answer] = []
        for batch in in_batches(_to_papers(x), _n_chars):
            answers += self._answer_batch(batch, top, threshold, explain)
        return answers

    def answers(
        self,
        papers: Sequence[Paper],
        raw: RawScores,
        *,
        top: int = DEFAULT_TOP,
        threshold: float | None = None,
    ) -> list[Answer]:
        """Return the answers that raw scores of n papers give, as ``classify`` does.

        Args:
            papers: the papers, for their identifiers.
            raw: as ``score`` returned them.
            top: as for ``classify``.
            threshold: the same.

        Raises:
            UsageError, InvalidScores: as ``classify``.
        """
        if len(papers) == 1:
            return [self._decider.answer(raw, papers[0].id, top=top, threshold=threshold)]
        decisions = self._decider.decide(raw, threshold=threshold)
        return self._decider.answers(decisions, [paper.id for paper in papers], top=top)

    def _answer_batch(
        self, papers: Sequence[Paper], top: int, threshold: float | None, explain: bool
    ) -> list[Answer]:
        raw = self._scorer.score([(paper.title, paper.abstract) for paper in papers])
        if not explain:
            return self.answers(papers, raw, top=top, threshold=threshold)
        decisions = self._decider.decide(raw, threshold=threshold)
        answers = self._decider.answers(decisions, [paper.id for paper in papers], top=top)
        return self._explained(papers, decisions, answers)

    def _explained(
        self, papers: Sequence[Paper], decisions: Decisions, answers: list[Answer]
    ) -> list[Answer]:
        explained = []
        method = self._scorer.explanation_method
        pairs = decisions.order[:, :2].tolist()
        for paper, (best, second), answer in zip(papers, pairs, answers, strict=True):
            terms = self._scorer.contributions(paper.title, paper.abstract, best, second)
            evidence = explain_answer(terms, temperature=self._temperature)
            explained.append(replace(answer, explanation=evidence, explanation_method=method))
        return explained


def check_paper(paper: Paper) -> Paper:
    """Return the paper, without markup, if there is something to classify it from.

    Raises:
        InvalidPaper: title and abstract are empty or white space.
    """
    title, abstract = without_markup(paper.title), without_markup(paper.abstract)
    if not abstract.strip() and not title.strip():
        raise InvalidPaper("title and abstract are both empty. Give at least one of them.")
    is_plain = title == paper.title and abstract == paper.abstract
    return paper if is_plain else replace(paper, title=title, abstract=abstract)


def in_batches(items: Iterable[T], n_chars: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in lists that are bounded by number and by text, never empty.

    Args:
        items: read only as far as the list that is being made needs it.
        n_chars: length of the text of an item; one that alone exceeds the bound stands alone.
    """
    batch: list[T] = []
    size_chars = 0
    for item in items:
        item_chars = n_chars(item)
        if batch and (len(batch) == MAX_BATCH_PAPERS or size_chars + item_chars > MAX_BATCH_CHARS):
            yield batch
            batch, size_chars = [], 0
        batch.append(item)
        size_chars += item_chars
    if batch:
        yield batch


def _n_chars(paper: Paper) -> int:
    return len(paper.title) + len(paper.abstract)


def _to_papers(x: Iterable[OnePaper]) -> list[Paper]:
    # Bytes are iterable too, but as numbers.
    if isinstance(x, bytes | bytearray) or not isinstance(x, Iterable):
        raise _no_paper(x)
    papers = []
    for index, item in enumerate(x):
        try:
            papers.append(_to_paper(item))
        except InvalidPaper as error:
            raise InvalidPaper(f"item {index}: {error}") from error
    return papers


def _to_paper(x: OnePaper) -> Paper:
    if isinstance(x, str):
        return check_paper(Paper.from_text(x))
    if isinstance(x, Paper):
        return check_paper(x)
    if isinstance(x, Mapping):
        return check_paper(Paper.from_mapping(x))
    raise _no_paper(x)


def _no_paper(x: object) -> InvalidPaper:
    return InvalidPaper(
        f"cannot classify a {type(x).__name__}. Give a string, a Paper, a mapping with 'title' "
        "and/or 'abstract', or a list of these; files are read with classmark.papers.read_papers."
    )


def _check_text_recipe(bundle: Bundle) -> None:
    written_for = bundle.manifest.text_recipe
    if written_for != RECIPE_VERSION:
        raise BundleIncompatible(
            f"model {bundle.manifest.name} {bundle.manifest.version} was fitted with text recipe "
            f"{written_for!r}, this classmark has {RECIPE_VERSION!r}. Install the classmark that "
            "it was made for, or train and export it again."
        )


def _columns(manifest: BundleManifest) -> Columns:
    try:
        return Columns(expected=manifest.columns)
    except UsageError as error:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version}: {error}. Install a newer classmark."
        ) from error


def make_scorer(bundle: Bundle) -> Scorer:
    """Return the kernel of a bundle of any kind.

    Raises:
        BundleIncompatible: it was made for another text recipe, or is of an unknown kind.
        MissingExtra: packages that its kind needs are not installed.
    """
    # Checked before the kernel reads the arrays: another recipe may come with other arrays.
    _check_text_recipe(bundle)
    home = _KERNELS.get(bundle.manifest.kind)
    if home is None:
        raise BundleIncompatible(
            f"model {bundle.manifest.name} is of kind {bundle.manifest.kind!r}, this classmark "
            f"runs {', '.join(map(repr, _KERNELS))}. Install a newer classmark."
        )
    scorer: Scorer = import_module(home).load_scorer(bundle)
    return scorer
