"""What an order is carried out with, and how a new model takes over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from classmark.dataset import ExtendConfig, FeedbackPolicy, NewPapers
from classmark.errors import InvalidConfig, UsageError
from classmark.pipeline.gate.files import read_yaml
from classmark.pipeline.stages.config import PipelineConfig, with_groups
from classmark.pipeline.stages.stages import check_gate_rules
from classmark.records.fields import WrongField, check_ranges, read_fields, read_rules
from classmark.registry import Registry
from classmark.registry.rules import CanaryRules
from classmark.retrain import RetrainPolicy

_UNUSABLE = (
    *(OSError, TypeError, ValueError, RecursionError),
    *(WrongField, UsageError, InvalidConfig),
)


@dataclass(frozen=True, kw_only=True)
class ReplacePolicy:
    """How a new model takes over from the champion.

    Attributes:
        shadow_papers: that the new model scores beside the champion before it answers any request;
            0: it starts with the canary. They are counted in the journal.
        shadow_percent: of the papers that it scores meanwhile, above 0 to 100.
        percent: of the requests that the canary answers, above 0 to 100.
        allow_label_change: it may have other labels than the champion.
        rules: what ends the canary; ``agreement`` also ends the shadow.
    """

    shadow_papers: int = 500
    shadow_percent: float = 100.0
    percent: float = 5.0
    allow_label_change: bool = False
    rules: CanaryRules = field(default_factory=CanaryRules)

    def __post_init__(self) -> None:
        ranges = {
            "shadow_papers": (0, 1_000_000_000),
            "shadow_percent": (0.001, 100),
            "percent": (0.001, 100),
        }
        check_ranges(self, ranges, "the replacement")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ReplacePolicy:
        """Read it as YAML or JSON has it; what is left out has its default.

        Raises:
            UsageError: a name is unknown, or a value cannot be used.
        """
        given = dict(value)
        rules = given.pop("rules", None)
        read = read_rules(cls, given, "the replacement")
        return read if rules is None else replace(read, rules=CanaryRules.from_dict(rules))


@dataclass(frozen=True, kw_only=True)
class RetrainRules:
    """What a file of rules for retraining holds, each with its defaults.

    Attributes:
        policy: when a model is fitted again.
        feedback: when feedback is a label.
        replacement: how the new model takes over.
    """

    policy: RetrainPolicy = field(default_factory=RetrainPolicy)
    feedback: FeedbackPolicy = field(default_factory=FeedbackPolicy)
    replacement: ReplacePolicy = field(default_factory=ReplacePolicy)


def read_retrain_rules(path: Path | None) -> RetrainRules:
    """Return the rules of a YAML file with the keys policy, feedback and replacement.

    Args:
        path: of the file; None: the defaults.

    Raises:
        UsageError: it cannot be read, a key is unknown or repeated, or a value cannot be used.
        MissingExtra: YAML cannot be read here.
    """
    if path is None:
        return RetrainRules()
    try:
        groups = _groups(read_yaml(path))
        return RetrainRules(
            policy=RetrainPolicy.from_dict(groups["policy"]),
            feedback=read_fields(FeedbackPolicy, groups["feedback"], "feedback."),
            replacement=ReplacePolicy.from_dict(groups["replacement"]),
        )
    except (
        OSError,
        TypeError,
        ValueError,
        RecursionError,
        WrongField,
        UsageError,
        InvalidConfig,
    ) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise UsageError(
            f"the rules {path} cannot be used: {reason}. See `classmark retrain run --help`."
        ) from error


def _groups(given: object) -> dict[str, dict[str, Any]]:
    """Return the groups of a file; one that is left out is empty."""
    groups: dict[str, dict[str, Any]] = {name: {} for name in RetrainRules.__dataclass_fields__}
    if not isinstance(given, dict):
        raise TypeError(f"it must have groups of keys: {', '.join(groups)}")
    for name, group in given.items():
        if name not in groups:
            raise ValueError(f"{name!r} is unknown; it may have {', '.join(groups)}")
        if not isinstance(group, dict):
            raise TypeError(f"{name} must be a group of keys, got {group!r:.40}")
        groups[name] = group
    return groups


def located(config: PipelineConfig) -> PipelineConfig:
    """Return a configuration whose rules and key are found from any folder.

    Raises:
        InvalidGates: the rules cannot be used.
    """
    check_gate_rules(config)
    paths = {
        name: str(Path(value).resolve())
        for name in ("rules", "key")
        if (value := getattr(config.gate, name))
    }
    return with_groups(config, export=config.export, gate=replace(config.gate, **paths))


@dataclass(frozen=True)
class Shadowed:
    """What the journal says of a shadow.

    Attributes:
        papers: that both models scored.
        same: of them, those that both put into the same first category.
    """

    papers: int
    same: int


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What an order is carried out with.

    Attributes:
        dataset: the one that new papers join.
        new: the new papers.
        extend: how they join it.
        config: of the stages.
        registry: whose champion is replaced.
        replacement: how.
        shadowed: counts the papers that a bundle, by its digest, scored since a time; None without
            a journal: then there is no shadow.
    """

    dataset: Path
    new: NewPapers
    extend: ExtendConfig
    config: PipelineConfig
    registry: Registry
    replacement: ReplacePolicy
    shadowed: Callable[[str, str], Shadowed] | None = None
