"""What requests and responses look like: one validation step, and the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from classmark.bundle.check import MOST_LABEL_CHARS

MAX_TOP = 1000
MAX_ID_CHARS = 200
MAX_ID_NUMBER = 2**63 - 1
MAX_COMMENT_CHARS = 500
PREDICTION_ID_PATTERN = r"^[0-7][0-9a-hjkmnp-tv-z]{25}$"

Id = (
    Annotated[str, Field(max_length=MAX_ID_CHARS)]
    | Annotated[StrictInt, Field(ge=-MAX_ID_NUMBER, le=MAX_ID_NUMBER)]
)
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
Code = Annotated[str, Field(min_length=1, max_length=MOST_LABEL_CHARS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    explain: bool = Field(False, description="List the terms that decided.")


class PaperRequest(PaperIn, ClassifyOptions):
    """One paper, and how to answer."""


class BatchRequest(ClassifyOptions):
    """Many papers, and how to answer."""

    papers: list[PaperIn] = Field(min_length=1)


class ClassifyRequest(PaperRequest):
    """Either form, in one validation step; which one it is shows in ``papers``."""

    papers: Annotated[list[PaperIn], Field(min_length=1, fail_fast=True)] | None = None


class FeedbackRequest(_Strict):
    """The right category of a paper that was classified."""

    prediction_id: str = Field(pattern=PREDICTION_ID_PATTERN)
    category: Code
    comment: str | None = Field(None, max_length=MAX_COMMENT_CHARS)


# --- responses: for the OpenAPI document ---------------------------------------------------------


class ModelOut(BaseModel):
    """Which model answered."""

    name: str
    version: str
    digest: str


class ReliabilityOut(BaseModel):
    """How a category fared on the test papers of the model."""

    precision: float | None = Field(
        description="Share of these papers that belong to the category; null if there are none."
    )
    papers: int = Field(description="Test papers for which the category was ranked first.")


class RankedOut(BaseModel):
    """One category with its calibrated probability."""

    code: str
    name: str
    probability: float
    reliability: ReliabilityOut | None = Field(
        description="How the category fared on test papers; null where nobody measured it."
    )


class LevelOut(BaseModel):
    """An archive or a group with the sum of its categories' probabilities."""

    code: str
    probability: float


class LevelsOut(BaseModel):
    """Sums by archive and by group; both are empty with labels of one's own."""

    archive: list[LevelOut]
    group: list[LevelOut]


class EvidenceOut(BaseModel):
    """One term and what it adds to (top - runner-up), in logits."""

    term: str
    weight: float


class AuthorCategoryOut(BaseModel):
    """What the model makes of the author's category, or of the archive that was given for it."""

    code: str
    verdict: Literal["confirmed", "plausible", "challenged"]
    rank: int | None = Field(
        description="Place among all categories, of an archive among all archives; 1 is first, "
        "null if the model does not have it."
    )
    probability: float = Field(description="Of an archive: the sum of its categories.")


class AnswerOut(BaseModel):
    """The categories of one paper."""

    id: str | None
    primary: str | None = Field(description="The accepted category; null when the model abstains.")
    reason: Literal["accepted", "below_threshold", "out_of_scope"]
    probability: float
    ranked: list[RankedOut]
    cross_lists: list[str]
    set: list[str] | None = Field(
        description="The prediction set; null, with set_reason, where it would promise too much."
    )
    set_reason: Literal["out_of_scope", "few_known_terms"] | None = Field(
        default=None, description="Why there is no set; only beside one that is null."
    )
    levels: LevelsOut
    explanation: list[EvidenceOut] | None = None
    explanation_method: str | None = None
    author_category: AuthorCategoryOut | None = None
    prediction_id: str
    model: ModelOut
    title: str | None = Field(
        None, description="Only of papers of a file: on one line, and cut if it is very long."
    )


class RecordErrorOut(BaseModel):
    """Why a record got no answer."""

    kind: str
    message: str
    columns_seen: list[str] | None = Field(
        None, description="Keys that the record has, if it has none of those of a paper."
    )


class BadRecordOut(BaseModel):
    """A record of a batch that cannot be classified."""

    id: str | None
    error: RecordErrorOut


class BatchOut(BaseModel):
    """Answers in the order of the papers."""

    answers: list[AnswerOut | BadRecordOut]
    model: ModelOut


class FilesOut(BatchOut):
    """Answers in the order of the records of a file."""

    format: str


class FeedbackOut(BaseModel):
    """Feedback that was taken; it is joined to its prediction later."""

    prediction_id: str
    category: str
    accepted: Literal[True] = True


class CategoryOut(BaseModel):
    """One category; a label of one's own is its own name, and has archive and group ""."""

    code: str
    name: str
    archive: str
    group: str
    active: bool


class CategoriesOut(BaseModel):
    """The categories that feedback can name."""

    categories: list[CategoryOut]
    version: str = Field(description='Of the arXiv taxonomy; "" with labels of one\'s own.')
    label_space: Literal["arxiv", "free"]


class ModelDetailsOut(BaseModel):
    """A loaded model, its card and its measured metrics."""

    name: str
    version: str
    digest: str
    labels: int
    label_space: Literal["arxiv", "free"]
    card: str
    metrics: dict[str, Any]
    set_coverage: float = Field(description="Coverage that prediction sets were built for.")
    rarely_right: list[str] = Field(
        description="Categories that were measured, and never right when they came first."
    )
    default: bool


class ModelsOut(BaseModel):
    """The models that answer here."""

    models: list[ModelDetailsOut]


class ProblemOut(BaseModel):
    """A request that got no answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    kind: str
    errors: list[dict[str, str]] | None = None
    columns_seen: list[str] | None = Field(None, description="Of a table: kind wrong_columns.")


class HealthOut(BaseModel):
    """State of the process."""

    status: str


class RequestCountsOut(BaseModel):
    """Requests of the process tree since its start."""

    total: int
    by_status: dict[str, int]


class LatencyOut(BaseModel):
    """Percentiles of the time to answer, in ms, read from the histogram of ``/metrics``."""

    p50: float | None
    p95: float | None
    p99: float | None


class StatusOut(BaseModel):
    """How the service does."""

    model: ModelOut
    uptime_s: float
    workers: int
    requests: RequestCountsOut
    latency_ms: LatencyOut
    papers: dict[str, int]
    journal: dict[str, Any] | None = Field(None, description="null without a journal")


class PredictionOut(BaseModel):
    """A prediction as the journal has it, with its feedback."""

    model_config = ConfigDict(extra="allow")

    prediction_id: str
    at_utc: str
    model: ModelOut
    primary: str | None
    reason: str
    feedback: list[dict[str, Any]]


# --- the Open Inference Protocol -----------------------------------------------------------------


class TensorIn(BaseModel):
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


class InferParameters(BaseModel):
    """How to answer."""

    model_config = ConfigDict(extra="allow")

    top: Top = 5
    threshold: Threshold | None = None


class InferRequest(BaseModel):
    """Papers as tensors."""

    id: str | None = Field(None, max_length=MAX_ID_CHARS)
    parameters: InferParameters = InferParameters()
    inputs: list[TensorIn] = Field(min_length=1, max_length=8)
    outputs: list[WantedTensor] | None = Field(None, max_length=32)


class TensorOut(BaseModel):
    """One output, row by row."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferOut(BaseModel):
    """Answers as tensors."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[TensorOut]


class TensorMetadataOut(BaseModel):
    """What a tensor is like; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataOut(BaseModel):
    """What the model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataOut]
    outputs: list[TensorMetadataOut]


class ServerMetadataOut(BaseModel):
    """Who serves."""

    name: str
    version: str
    extensions: list[str]


class ReadyOut(BaseModel):
    """State of the server or the model."""

    name: str | None = None
    live: bool | None = None
    ready: bool | None = None
