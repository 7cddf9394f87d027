"""What requests and responses look like: one validation step, and the OpenAPI document."""

from __future__ import annotations

import inspect
import re
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError

from classmark import wire
from classmark.bundle.check import MOST_LABEL_CHARS
from classmark.neighbours.index import MOST_SIMILAR
from classmark.records.prediction import ID_PATTERN, MAX_COMMENT_CHARS
from classmark.wire import Published

MAX_TOP = 1000
MAX_ID_CHARS = 200
MAX_ID_NUMBER = 2**63 - 1
PREDICTION_ID_PATTERN = f"^{ID_PATTERN.pattern}$"

NO_ID = f"Input should be a string of at most {MAX_ID_CHARS} characters, or a 64-bit integer"


def _one_id_error(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Return a valid id; what is wrong with another one is one error, not one for each form."""
    try:
        return validate(value)
    except ValidationError as error:
        raise PydanticCustomError("id", NO_ID) from error


Id = Annotated[
    Annotated[str, Field(max_length=MAX_ID_CHARS)]
    | Annotated[int, Field(ge=-MAX_ID_NUMBER, le=MAX_ID_NUMBER)],
    WrapValidator(_one_id_error),
]
Top = Annotated[int, Field(ge=1, le=MAX_TOP, description="How many categories to rank.")]
Threshold = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Accept from this probability on, not from the model's own thresholds.",
    ),
]
_SPEC = "A channel, NAME@VERSION, or 8 or more digits of a digest."
Code = Annotated[str, Field(min_length=1, max_length=MOST_LABEL_CHARS)]


class _Asked(BaseModel):
    """Values have the types of the schema: true is not 1, and "3" is not 3."""

    model_config = ConfigDict(strict=True)


class _Strict(_Asked):
    model_config = ConfigDict(extra="forbid")


class AuthorIn(BaseModel):
    """One author; other keys are ignored."""

    name: str


NO_AUTHORS = (
    "Input should be names: a string, or an array of strings or of objects with a name; or false, "
    "to leave the authors out"
)
Names = str | Annotated[list[str | AuthorIn], Field(fail_fast=True)]


def _one_error(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Return valid authors; what is wrong with others is one error, not one for each form."""
    try:
        found = validate(value)
    except ValidationError:
        found = None
    if found is None or (isinstance(found, bool) and found is not value):  # 0 equals False
        raise PydanticCustomError("authors", NO_AUTHORS)
    return found


_OneError = WrapValidator(_one_error)


class PaperIn(_Strict):
    """One paper: ``title`` and/or ``abstract``, or one ``text``."""

    id: Id | None = None
    title: str | None = None
    abstract: str | None = None
    text: str | None = Field(
        None,
        description="In place of title and abstract. Its first line is the title if it has more "
        "than one line; else it is an abstract.",
    )
    authors: Annotated[Literal[False] | Names, _OneError] | None = Field(
        None,
        description="Names of the authors, or one text that lists them; evidence for a model that "
        "has a table of authors, and never stored. false leaves them out.",
    )
    author_category: Code | None = Field(
        None,
        description="The category the author chose, or the code of its archive (math, astro-ph); "
        "the answer confirms or challenges it.",
    )


class UnreadPaper(PaperIn):
    """Stands for a paper of a batch that is too long to be parsed."""


class ClassifyOptions(_Strict):
    """How to answer."""

    top: Top = 5
    threshold: Threshold | None = None
    explain: Annotated[bool, Field(description="List the terms that decided.")] = False
    similar: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_SIMILAR,
            description="How many similar papers of the service's index to add; without an index "
            "it is refused.",
        ),
    ] = 0


class PaperRequest(PaperIn, ClassifyOptions):
    """One paper, and how to answer."""


class BatchOptions(ClassifyOptions):
    """How to answer many papers."""

    authors: Annotated[
        bool, Field(description="Whether the authors of the papers are evidence.")
    ] = True


class BatchRequest(BatchOptions):
    """Many papers, and how to answer."""

    papers: list[PaperIn] = Field(min_length=1)


class ClassifyRequest(PaperRequest):
    """Either form, in one validation step; which one it is shows in ``papers``."""

    authors: Annotated[bool | Names, _OneError] | None = None  # type: ignore[assignment]
    papers: Annotated[list[PaperIn], Field(min_length=1, fail_fast=True)] | None = None


class FeedbackRequest(_Strict):
    """The right category of a paper that was classified."""

    prediction_id: str = Field(pattern=PREDICTION_ID_PATTERN)
    category: Code
    comment: str | None = Field(None, max_length=MAX_COMMENT_CHARS)


# --- the registry ---------------------------------------------------------------------------------

BundleSpec = Annotated[str, Field(min_length=1, max_length=200, description=_SPEC)]
Why = Annotated[str, Field(max_length=500, description="Reason, recorded in the event.")]


class PromoteRequest(_Strict):
    """A bundle that is to be the champion."""

    bundle: BundleSpec
    why: Why = ""
    force: bool = Field(False, description="Without a gate report; needs a reason.")


class CanaryRequest(_Strict):
    """A bundle that is to answer a share of the clients."""

    bundle: BundleSpec
    percent: float = Field(5.0, gt=0, le=100)
    rules: dict[str, int | float | None] | None = Field(None, description="When it ends by itself.")
    allow_label_change: bool = False
    why: Why = ""


class RollbackRequest(_Strict):
    """A step back."""

    why: Why = ""


# --- the Open Inference Protocol -----------------------------------------------------------------


class TensorIn(_Asked):
    """One input: texts, one a paper."""

    name: str
    shape: Annotated[list[int], Field(min_length=1, max_length=2, fail_fast=True)]
    datatype: Literal["BYTES"]
    data: list[str]
    parameters: dict[str, Any] | None = None


class WantedTensor(BaseModel):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferParameters(_Asked):
    """How to answer."""

    model_config = ConfigDict(extra="allow")

    top: Top = 5
    threshold: Threshold | None = None
    authors: bool = True


class InferRequest(_Asked):
    """Papers as tensors."""

    id: str | None = Field(None, max_length=MAX_ID_CHARS)
    parameters: InferParameters = InferParameters()
    inputs: list[TensorIn] = Field(min_length=1, max_length=8)
    outputs: list[WantedTensor] | None = Field(None, max_length=32)


# --- responses: for the OpenAPI document ---------------------------------------------------------

_NAMES = {
    "FeedbackReceipt": "FeedbackOut",
    "FileAnswers": "FilesOut",
    "Inference": "InferOut",
    "ModelRef": "ModelOut",
    "ProblemDocument": "ProblemOut",
    "Readiness": "ReadyOut",
    "Requests": "RequestCountsOut",
}
"""Of schemas that are not called as their class is, with ``Out``."""
_EXACT: dict[tuple[type[Published], str], Any] = {
    (wire.Answer, "evidence"): tuple[wire.EvidenceKind, ...],
    (wire.Answer, "prediction_id"): str,
    (wire.AuthorCategory, "verdict"): Literal["confirmed", "plausible", "challenged"],
    (wire.FeedbackReceipt, "accepted"): Literal[True],
    (wire.Prediction, "feedback"): list[dict[str, Any]],
}
"""What the service always writes, or writes more exactly than the class says."""
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n        .+)*)", re.MULTILINE)


def response_schema(kind: Any) -> Any:  # noqa: ANN401 - a type, a union or None
    """Return a type with the schemas of published objects in their places."""
    if isinstance(kind, type) and issubclass(kind, Published):
        return _schema(kind)
    arguments = get_args(kind)
    if get_origin(kind) is Literal or not arguments:
        return kind
    replaced = tuple(response_schema(argument) for argument in arguments)
    origin = get_origin(kind)
    return reduce(or_, replaced) if origin is UnionType else origin[replaced]


@cache
def _schema(kind: type[Published]) -> type[BaseModel]:
    """Return the schema of a published object, described as its docstring does."""
    text, _, attributes = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
    said = {name: _one_line(meaning) for name, meaning in _ATTRIBUTE.findall(attributes)}
    described: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        exact = _EXACT.get((kind, field.name))
        is_sent = field.required or exact or not kind.__struct_config__.omit_defaults
        described[field.name] = (
            exact or response_schema(field.type if is_sent else field.type | None),
            Field(... if is_sent else None, description=said.get(field.name)),
        )
    extra = ConfigDict(extra="allow") if kind is wire.Prediction else None
    name = _NAMES.get(kind.__name__, f"{kind.__name__}Out")
    return create_model(name, __config__=extra, __doc__=_one_line(text), **described)


def _one_line(text: str) -> str:
    text = re.sub(r"\bNone\b", "null", " ".join(text.replace("``", "").split()))
    return text[:1].upper() + text[1:]
