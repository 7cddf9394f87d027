"""The cascade: the fast model first, the deep one only where the fast is unsure.

Its scores are log-probabilities of the model that answered, each calibrated by its own policy.
Where a mix is set, the deep answer is the weighted sum of both logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle, find_bundle, load_bundle, read_digest
from classmark.bundle.check import MOST_NAME_CHARS, is_safe_text, shown
from classmark.bundle.find import DIGEST_PATTERN, NAME_PATTERN, VERSION_PATTERN
from classmark.errors import BundleIncompatible, BundleNotFound, LabelMismatch
from classmark.kernels.calibration import Floats, log_softmax
from classmark.kernels.checks import BundleReader
from classmark.kernels.explanation import OCCLUSION, occlude
from classmark.kernels.scorer import RawScores, Scorer

CASCADE_VERSION = "cascade-1"
PARTS = ("fast", "deep")
MOST_THRESHOLD = 2.0
_REFERENCE = {"name": NAME_PATTERN, "version": VERSION_PATTERN, "digest": DIGEST_PATTERN}

Papers = Sequence[tuple[str, str]]
OpenScorer = Callable[[Bundle], Scorer]


@dataclass(frozen=True, eq=False)
class Member:
    """One of the two models.

    Attributes:
        scorer: its kernel.
        temperature: of its policy.
        columns: intp [k], where each label of the cascade stands among its own.
    """

    scorer: Scorer
    temperature: float
    columns: NDArray[np.intp]

    def logarithms(self, papers: Papers) -> tuple[Floats, NDArray[np.float32]]:
        """Return log-probabilities float64 [n, k], and the known shares [n]."""
        raw = self.scorer.score(papers)
        return log_softmax(raw.scores[:, self.columns], self.temperature), raw.known_share


class CascadeScorer:
    """Scores papers with two models; may be shared by threads.

    Attributes:
        explanation_method: how ``contributions`` finds what it says.
    """

    explanation_method = OCCLUSION

    def __init__(self, fast: Member, deep: Member, threshold: float, mix: float | None) -> None:
        """Join two models.

        Args:
            fast: is asked first.
            deep: is asked where the fast one's highest probability is below the threshold.
            threshold: 0 never asks the deep one, anything above 1 always does.
            mix: weight of the deep one in what it is asked, 0..1; None is 1.
        """
        self._fast, self._deep = fast, deep
        self.threshold, self.mix = threshold, mix

    def score(self, papers: Papers) -> RawScores:
        """Return the log-probabilities, and the known-term shares of the fast model."""
        fast, known_share = self._fast.logarithms(papers)
        unsure = self._unsure(fast)
        if len(unsure):
            deep, _ = self._deep.logarithms([papers[row] for row in unsure])
            fast[unsure] = mixed(fast[unsure], deep, self.mix)
        return RawScores(fast.astype(np.float32), known_share)

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        """Return what each word adds to ``score[top] - score[other]``, by leaving it out.

        The model that answered the whole paper is asked about all of its parts.
        """
        fast, _ = self._fast.logarithms([(title, abstract)])
        ask = self._ask_both if len(self._unsure(fast)) else self._ask_fast
        return occlude(ask, title, abstract, top, other)

    def _unsure(self, fast: Floats) -> NDArray[np.intp]:
        return np.flatnonzero(fast.max(axis=1) < _logarithm(self.threshold)) if len(fast) else _NONE

    def _ask_fast(self, papers: Papers) -> RawScores:
        fast, known_share = self._fast.logarithms(papers)
        return RawScores(fast.astype(np.float32), known_share)

    def _ask_both(self, papers: Papers) -> RawScores:
        fast, known_share = self._fast.logarithms(papers)
        deep, _ = self._deep.logarithms(papers)
        return RawScores(mixed(fast, deep, self.mix).astype(np.float32), known_share)


_NONE = np.zeros(0, dtype=np.intp)


def mixed(fast: Floats, deep: Floats, weight: float | None) -> Floats:
    """Return the log-probabilities of a weighted sum of logarithms; None gives the deep ones."""
    if weight is None:
        return deep
    return log_softmax(weight * deep + (1 - weight) * fast, 1.0)


def load_scorer(bundle: Bundle, open_scorer: OpenScorer) -> CascadeScorer:
    """Return the scorer of a bundle of kind ``cascade``.

    Args:
        bundle: the cascade.
        open_scorer: opens the kernel of each of its models.

    Raises:
        BundleNotFound, BundleIncompatible: as ``with_members``.
        LabelMismatch: a model has other labels.
    """
    members = with_members(bundle).members
    fast, deep = (make_member(members[part], bundle.manifest.labels, open_scorer) for part in PARTS)
    reader = BundleReader(bundle)
    threshold = reader.number("threshold", 0, MOST_THRESHOLD)
    mix = None if reader.parameter("mix") is None else reader.number("mix", 0, 1)
    return CascadeScorer(fast, deep, threshold, mix)


def with_members(bundle: Bundle) -> Bundle:
    """Return a bundle; a cascade with its two models read, sought beside it first, then by name.

    Raises:
        BundleNotFound: a model that it names is not installed.
        BundleIncompatible: a model that it names is there with another digest, or what it says of
            them makes no sense.
        BundleCorrupt: a model has changed.
    """
    manifest = bundle.manifest
    if manifest.kind != "cascade" or bundle.members:
        return bundle
    if manifest.featuriser != CASCADE_VERSION:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} is a cascade of version "
            f"{manifest.featuriser!r}, this classmark runs {CASCADE_VERSION!r}. Install the "
            "classmark that it was made for, or export it again."
        )
    reader = BundleReader(bundle)
    reader.keys(*PARTS, "threshold", "mix")
    references = {part: _read_reference(reader, part) for part in PARTS}
    members = {part: load_named(bundle.path, references[part]) for part in PARTS}
    return replace(bundle, members=members)


def _read_reference(reader: BundleReader, part: str) -> dict[str, str]:
    """Return name, version and digest of a model, each safe to seek a folder with."""
    reference = reader.parameter(part)
    if (
        not isinstance(reference, dict)
        or sorted(reference) != sorted(_REFERENCE)
        or not all(is_safe_text(reference[key], MOST_NAME_CHARS) for key in reference)
        or not all(pattern.fullmatch(reference[key]) for key, pattern in _REFERENCE.items())
    ):
        reader.refuse(f"names its {part} model as {shown(reference)}; a name, version and digest")
    return reference


def load_named(cascade: Path, reference: dict[str, str]) -> Bundle:
    """Return the model that a cascade names, after comparing the digest of what was read.

    Args:
        cascade: the folder of the cascade.
        reference: name, version and digest.

    Raises:
        BundleNotFound, BundleIncompatible: as ``find_member``.
        BundleCorrupt: a file of it has changed.
    """
    folder = find_member(cascade, reference)
    bundle = load_bundle(folder)
    # It may have been replaced since it was found.
    _check_digest(cascade, reference, folder, bundle.digest)
    return bundle


def find_member(cascade: Path, reference: dict[str, str]) -> Path:
    """Return the folder of a model that a cascade names, after comparing its digest.

    Args:
        cascade: the folder of the cascade.
        reference: name, version and digest.

    Raises:
        BundleNotFound: it is neither beside the cascade nor installed.
        BundleIncompatible: it is there with another digest.
    """
    name, version = reference["name"], reference["version"]
    beside = cascade.resolve().parent / f"{name}-{version}"
    try:
        folder = beside if (beside / "bundle.json").is_file() else find_bundle(f"{name}@{version}")
    except BundleNotFound as error:
        raise BundleNotFound(
            f"the cascade {cascade.name} needs the model {name}@{version}, which is neither beside "
            f"it nor installed: {error}"
        ) from error
    _check_digest(cascade, reference, folder, read_digest(folder))
    return folder


def _check_digest(cascade: Path, reference: dict[str, str], folder: Path, found: str) -> None:
    if found != reference["digest"]:
        raise BundleIncompatible(
            f"the cascade {cascade.name} was made with {reference['name']}@{reference['version']} "
            f"of digest {reference['digest'][:12]}; {folder} has {found[:12]}. Install that "
            "one, or make the cascade again."
        )


def make_member(bundle: Bundle, labels: Sequence[str], open_scorer: OpenScorer) -> Member:
    """Return a model as a member of a cascade with these labels.

    Args:
        bundle: the model.
        labels: of the cascade.
        open_scorer: opens its kernel; it is called after the checks.

    Raises:
        LabelMismatch: its labels are others.
        BundleIncompatible: it is a cascade itself, or cannot be run here.
    """
    manifest = bundle.manifest
    if manifest.kind == "cascade":
        raise BundleIncompatible(
            f"{manifest.name} is a cascade; one cannot be in another. Name its deep model instead."
        )
    missing = sorted(set(labels) ^ set(manifest.labels))
    if missing:
        raise LabelMismatch(
            f"model {manifest.name} {manifest.version} differs from the cascade in "
            f"{len(missing)} labels (first: {missing[0]!r}). Fit both on the same dataset."
        )
    place = {label: i for i, label in enumerate(manifest.labels)}
    columns = np.array([place[label] for label in labels], dtype=np.intp)
    return Member(open_scorer(bundle), manifest.policy.temperature, columns)


def _logarithm(probability: float) -> float:
    return float(np.log(probability)) if probability > 0 else -np.inf
