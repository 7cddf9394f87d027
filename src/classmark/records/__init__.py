"""Frozen records that packages exchange, each with its JSON or array form.

``ScoreTable`` loads lazily, because it needs numpy, which the writer of a journal does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classmark.records.evaluation import (
    Agreement,
    CategoryDetail,
    CategoryDifference,
    CategoryReport,
    ComparisonReport,
    ConfusionPair,
    Difference,
    ErrorExample,
    EvaluationDetails,
    EvaluationReport,
    MetricValue,
    PaperFacts,
    ReliabilityBin,
    SliceGroup,
    SliceReport,
)
from classmark.records.experiments import SweepReport, SweepTrial, TrialState
from classmark.records.gate import GateCheck, GateReport, GoldenAnswer, GoldenAnswers
from classmark.records.lines import CSV_MARK, csv_header, csv_lines, csv_text
from classmark.records.manifests import (
    BundleFile,
    BundleManifest,
    DatasetManifest,
    Policy,
    SplitFile,
)
from classmark.records.paper import BadRecord, Paper
from classmark.records.prediction import (
    Compared,
    FeedbackEvent,
    Prediction,
    PredictionEvent,
    PredictionSource,
    derived_prediction_id,
    is_prediction_id,
    new_prediction_id,
    utc_text,
    utc_text_from,
)
from classmark.records.progress import SILENT, Progress, Silent
from classmark.records.registry import (
    Canary,
    Channels,
    Pointer,
    PromotionEvent,
    Registered,
    RetrainDecision,
    RetrainEvent,
    RetrainOrder,
    RetrainReason,
    RetrainState,
)
from classmark.records.robustness import (
    RobustnessGates,
    RobustnessKind,
    RobustnessLevel,
    RobustnessReport,
)
from classmark.records.run import (
    AuthorFacts,
    CascadeModel,
    CascadePart,
    CascadePoint,
    EncoderFacts,
    Features,
    LinearPart,
    RunRecord,
    RunStart,
    Speeds,
    TransformerPart,
)
from classmark.records.values import author_names, is_missing, text_of, text_of_date, text_of_id

if TYPE_CHECKING:
    from classmark.records.scores import ScoreTable

__all__ = [
    "CSV_MARK",
    "SILENT",
    "Agreement",
    "AuthorFacts",
    "BadRecord",
    "BundleFile",
    "BundleManifest",
    "Canary",
    "CascadeModel",
    "CascadePart",
    "CascadePoint",
    "CategoryDetail",
    "CategoryDifference",
    "CategoryReport",
    "Channels",
    "Compared",
    "ComparisonReport",
    "ConfusionPair",
    "DatasetManifest",
    "Difference",
    "EncoderFacts",
    "ErrorExample",
    "EvaluationDetails",
    "EvaluationReport",
    "Features",
    "FeedbackEvent",
    "GateCheck",
    "GateReport",
    "GoldenAnswer",
    "GoldenAnswers",
    "LinearPart",
    "MetricValue",
    "Paper",
    "PaperFacts",
    "Pointer",
    "Policy",
    "Prediction",
    "PredictionEvent",
    "PredictionSource",
    "Progress",
    "PromotionEvent",
    "Registered",
    "ReliabilityBin",
    "RetrainDecision",
    "RetrainEvent",
    "RetrainOrder",
    "RetrainReason",
    "RetrainState",
    "RobustnessGates",
    "RobustnessKind",
    "RobustnessLevel",
    "RobustnessReport",
    "RunRecord",
    "RunStart",
    "ScoreTable",
    "Silent",
    "SliceGroup",
    "SliceReport",
    "Speeds",
    "SplitFile",
    "SweepReport",
    "SweepTrial",
    "TransformerPart",
    "TrialState",
    "author_names",
    "csv_header",
    "csv_lines",
    "csv_text",
    "derived_prediction_id",
    "is_missing",
    "is_prediction_id",
    "new_prediction_id",
    "text_of",
    "text_of_date",
    "text_of_id",
    "utc_text",
    "utc_text_from",
]


def __getattr__(name: str) -> object:
    """Load ``ScoreTable`` when it is first used."""
    if name != "ScoreTable":
        raise AttributeError(f"module 'classmark.records' has no attribute {name!r}")
    from classmark.records.scores import ScoreTable

    return ScoreTable
