"""The one answer that everything publishes: fields, order and types of its JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

Reason = Literal["accepted", "below_threshold", "out_of_scope"]
NoSetReason = Literal["out_of_scope", "few_known_terms"]
Verdict = Literal["confirmed", "plausible", "challenged", "unknown"]
EvidenceKind = Literal["title", "abstract", "authors", "neighbours"]


def _plain(value: Any) -> Any:
    """Return a number or a text of numpy as Python's own, and any sequence as a list."""
    if isinstance(value, Sequence):
        return list(value)
    try:
        return value.item()
    except AttributeError:
        raise TypeError(f"{type(value).__name__} has no form in JSON") from None


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


class Published(msgspec.Struct, frozen=True, gc=False):
    """An object that is published as JSON: its fields, in this order."""

    def to_dict(self) -> dict[str, Any]:
        """Return the published object as a JSON reader would."""
        value: dict[str, Any] = msgspec.json.decode(to_json(self))
        return value


def to_builtins(value: Any) -> Any:
    """Return an object and all that it holds as dictionaries, tuples, lists, texts and numbers."""
    return msgspec.to_builtins(value, enc_hook=_plain)


def to_json(value: Any) -> bytes:
    """Return published objects, or plain values, as JSON in UTF-8.

    Halves of surrogate pairs, which UTF-8 cannot spell, become question marks.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_spelled(to_builtins(value)))


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_spelled(key): _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list | tuple) else value


class Reliability(Published, frozen=True):
    """How a category fared on the test papers of the model.

    Attributes:
        precision: share of ``papers`` that belong to the category, 0..1; None if there are none.
        papers: test papers for which the model ranked the category first.
    """

    precision: float | None
    papers: int

    @property
    def is_rarely_right(self) -> bool:
        """The category was never right when it came first, or never came first."""
        return not self.precision


class Ranked(Published, frozen=True):
    """One category with its calibrated probability.

    Attributes:
        code: of the category.
        name: of the category.
        probability: 0..1.
        reliability: how the category fared on test papers; None if it was not measured.
    """

    code: str
    name: str
    probability: float
    reliability: Reliability | None = None


class Level(Published, frozen=True):
    """An archive or a group with the sum of its categories' probabilities, 0..1."""

    code: str
    probability: float


class Levels(Published, frozen=True):
    """Sums by archive and by group, most probable first; empty with labels of your own."""

    archive: tuple[Level, ...] = ()
    group: tuple[Level, ...] = ()


class TextAlone(Published, frozen=True):
    """The category that the text alone ranks first, with its probability, 0..1."""

    code: str
    probability: float


class Evidence(Published, frozen=True):
    """One term and what it adds to (top - runner-up), in logits."""

    term: str
    weight: float


class ModelRef(Published, frozen=True):
    """The model that answered: name, version, and digest of its bundle."""

    name: str
    version: str
    digest: str


class AuthorCategory(Published, frozen=True):
    """What the answer says about the category that the author chose, or about a whole archive.

    Attributes:
        code: canonical; an unknown category as it was written.
        verdict: the rules are in ``docs/reference/answer.md``.
        rank: place among all categories, or of an archive among all archives; 1 is first, None if
            the model does not have it.
        probability: 0..1; for an archive, the sum of its categories.
    """

    code: str
    verdict: Verdict
    rank: int | None = None
    probability: float = 0.0


class Similar(Published, frozen=True, omit_defaults=True):
    """A paper of an index that is similar to another one.

    Attributes:
        id: as the index has it.
        year: of its first version; None if unknown.
        categories: the primary first; empty if unknown.
        similarity: cosine of what the model makes of the two texts, 0..1.
        title: None if the index keeps no titles.
    """

    id: str
    year: int | None
    categories: tuple[str, ...]
    similarity: float
    title: str | None = None


class Answer(Published, frozen=True, kw_only=True, omit_defaults=True):
    """The categories of one paper; ``docs/reference/answer.md`` describes the JSON object.

    Attributes:
        id: the record's id, else its line number, else None.
        primary: the accepted category; None when the model abstains.
        reason: why the category was accepted or not.
        probability: of the top category, 0..1, also when the model abstains.
        ranked: the top k categories, most probable first.
        cross_lists: further categories that the paper probably belongs to.
        set: the prediction set; None, with ``set_reason``, where it would promise too much.
        set_reason: why there is no set; None if there is one.
        levels: sums of probabilities by archive and by group.
        evidence: what the answer is based on: parts of the paper, its authors if earlier papers
            of at least one are known and they were to be used, and neighbours in an index if they
            were asked.
        text_alone: what the text alone ranks first, where authors or neighbours changed that; else
            None.
        explanation: terms for and against the top category; None unless requested.
        explanation_method: ``exact_linear`` or ``occlusion``; None unless requested.
        model: the model that answered.
        author_category: what the answer says about the author's category; None unless requested.
        prediction_id: names the answer in feedback; only from the service.
        title: of the paper, on one line, cut if it is very long; only for files sent to the
            service.
        similar: papers of an index, the most similar first; None unless requested.
        label_change: whether a canary answered whose labels differ from those of the champion.
    """

    id: str | None
    primary: str | None
    reason: Reason
    probability: float
    ranked: tuple[Ranked, ...]
    cross_lists: tuple[str, ...]
    set: tuple[str, ...] | None
    set_reason: NoSetReason | None = None
    levels: Levels
    evidence: tuple[EvidenceKind, ...] = ()
    text_alone: TextAlone | None = None
    explanation: tuple[Evidence, ...] | None = None
    explanation_method: str | None = None
    model: ModelRef
    author_category: AuthorCategory | None = None
    prediction_id: str = ""
    title: str | None = None
    similar: tuple[Similar, ...] | None = None
    label_change: bool = False


class RecordError(Published, frozen=True, omit_defaults=True):
    """Why a record got no answer.

    Attributes:
        kind: stable, machine-readable name.
        message: what was wrong, in a sentence.
        columns_seen: keys of the record, if none of them is a key of a paper.
    """

    kind: str
    message: str
    columns_seen: tuple[str, ...] = ()


class BadRecord(Published, frozen=True):
    """A record of a batch or file that cannot be classified."""

    id: str | None
    error: RecordError


class Batch(Published, frozen=True):
    """Answers in the order of the papers."""

    answers: tuple[Answer | BadRecord, ...]
    model: ModelRef


class FileAnswers(Published, frozen=True):
    """Answers in the order of the records of a file, and the format it was read as."""

    answers: tuple[Answer | BadRecord, ...]
    format: str
    model: ModelRef
