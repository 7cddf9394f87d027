"""The rules of a gate: which checks a candidate must pass, and the limit of each."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from classmark.errors import InvalidConfig, InvalidGates
from classmark.evaluation.behaviour import BEHAVIOURS
from classmark.evaluation.report import EvaluationConfig
from classmark.evaluation.robustness.measure import ROBUSTNESS_KINDS
from classmark.records.fields import UnknownField, WrongField, read_fields

FORMAT_VERSION = 1
FEW_PAPERS = 200
"""With fewer test papers, the numbers of a period or category are mostly chance."""
_OF_SHARES = (
    *("top_1", "top_3", "top_5", "macro_f1", "micro_f1", "precision_at_1_listed"),
    *("recall_at_5_listed", "archive_accuracy", "group_accuracy", "ece", "ece_floor"),
    *("ece_equal_mass", "set_coverage", "acceptance_rate", "accepted_accuracy"),
)
METRICS: Mapping[str, float] = {
    **dict.fromkeys(_OF_SHARES, 1.0),
    "brier": 2.0,
    "nll": math.inf,
    "set_size": math.inf,
}
"""Every metric of an evaluation report with the greatest value that it can have."""
CATEGORY_METRICS: Mapping[str, float] = {"f1": 1.0, "precision": 1.0, "recall": 1.0}

KINDS_OF_LIMITS = ("minimum", "maximum", "most_fall", "most_rise")

Numbers = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of metrics, by name.

    Attributes:
        minimum: least values of the candidate.
        maximum: greatest values of the candidate.
        most_fall: by how much a metric may be below the champion's.
        most_rise: by how much a metric may be above the champion's.
    """

    minimum: Numbers = field(default_factory=dict)
    maximum: Numbers = field(default_factory=dict)
    most_fall: Numbers = field(default_factory=dict)
    most_rise: Numbers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PartLimits(Limits):
    """Limits of each period, or of each category.

    Attributes:
        papers: parts with fewer test papers are not checked.
    """

    papers: int = FEW_PAPERS


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """Which labels the candidate must have.

    Attributes:
        most_missing: how many of the champion's it may lack.
        most_unknown: share of the test papers whose category it may not know, 0..1.
    """

    most_missing: int = 0
    most_unknown: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RobustnessRules:
    """What the candidate must hold on perturbed papers and other texts.

    Attributes:
        gates: file of `classmark evaluate robustness --write-gates`; None takes what the champion
            reaches on the same texts.
        margin: what is taken off the champion's values, 0 up to below 1.
        papers: how many papers are perturbed; a gate file has a number of its own.
        kinds: of perturbations and other texts; a gate file has its own.
    """

    gates: Path | None = None
    margin: float = 0.05
    papers: int = 500
    kinds: tuple[str, ...] = ROBUSTNESS_KINDS


@dataclass(frozen=True, kw_only=True)
class BehaviourRules:
    """Least shares of cases in which behaviours hold, where they differ from the usual ones."""

    least: Numbers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GoldenRules:
    """Answers that the candidate must give again.

    Attributes:
        file: of `classmark registry goldens`.
        least: share of them with the same category, 0..1.
        most_change: by how much a probability may differ, 0..1; None leaves it open.
    """

    file: Path
    least: float = 1.0
    most_change: float | None = None


@dataclass(frozen=True, kw_only=True)
class KernelRules:
    """The kernels in C and in numpy must give the same bits for so many test papers."""

    papers: int = 500


@dataclass(frozen=True, kw_only=True)
class CostRules:
    """What the candidate may cost; a ratio is to the champion, measured in turns with it.

    Attributes:
        latency_ratio: of the time for one paper.
        memory_ratio: of the peak memory of a process that answers.
        size_ratio: of the bytes of the bundle.
        latency_ms: milliseconds for one paper.
        memory_mb: units of 10^6 bytes.
        size_mb: units of 10^6 bytes.
        papers: of the test split that each round answers, one at a time.
        rounds: how often the two take turns.
    """

    latency_ratio: float | None = None
    memory_ratio: float | None = None
    size_ratio: float | None = None
    latency_ms: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None
    papers: int = 50
    rounds: int = 15

    def limits(self) -> Numbers:
        """Return the limits that are given, by name."""
        return {k: v for k, v in asdict(self).items() if "_" in k and v is not None}


@dataclass(frozen=True, kw_only=True)
class SignatureRules:
    """A trusted key must have signed the bundle; ``required`` also where the registry has none."""

    required: bool = True


@dataclass(frozen=True, kw_only=True)
class FitRules:
    """No test paper may be among those that the candidate was fitted on.

    Attributes:
        trained_on: further dataset folders where those papers may be.
        allow_unknown: let a candidate pass whose papers cannot be found.
    """

    trained_on: tuple[Path, ...] = ()
    allow_unknown: bool = False


@dataclass(frozen=True, kw_only=True)
class GateRules:
    """All rules; a group that is None is not checked.

    Attributes:
        format_version: of the file.
        measurement: draws, seed and level of the intervals, bins of calibration errors.
        metrics: over all test papers.
        periods: of each period.
        categories: of each category: f1, precision and recall.
        labels: which ones it must have.
        robustness: perturbed papers and other texts.
        behaviour: invented texts.
        goldens: answers to be given again.
        kernels: parity of C and numpy.
        cost: time, memory, size.
        signature: of a trusted key.
        fit: no test paper in it.
    """

    format_version: int
    measurement: EvaluationConfig = field(default_factory=EvaluationConfig)
    metrics: Limits | None = None
    periods: PartLimits | None = None
    categories: PartLimits | None = None
    labels: LabelRules | None = None
    robustness: RobustnessRules | None = None
    behaviour: BehaviourRules | None = None
    goldens: GoldenRules | None = None
    kernels: KernelRules | None = None
    cost: CostRules | None = None
    signature: SignatureRules | None = None
    fit: FitRules | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the groups that are not checked."""
        return tuple(name for name in GROUPS if getattr(self, name) is None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the rules, with every default."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self), default=Path.as_posix))
        return value


GROUPS = tuple(f.name for f in fields(GateRules) if f.name not in ("format_version", "measurement"))


def read_rules(value: object) -> GateRules:
    """Return the rules that a file holds.

    Args:
        value: what its YAML or JSON says.

    Raises:
        InvalidGates: a key is unknown, a value has another type, a limit is impossible or is
            contradicted by another one, or nothing is asked for.
    """
    seen = value.get("format_version") if isinstance(value, dict) else None
    if not isinstance(value, dict) or type(seen) is not int or seen != FORMAT_VERSION:
        raise InvalidGates(f"its format_version is {seen!r}, this classmark reads {FORMAT_VERSION}")
    _check_keys(value)
    try:
        rules = read_fields(GateRules, value)
    except UnknownField as error:
        raise InvalidGates(f"{error}{_near(error.name)}") from error
    except (WrongField, InvalidConfig) as error:
        raise InvalidGates(str(error)) from error
    problem = next(_problems(rules), None)
    if problem is not None:
        raise InvalidGates(problem)
    return rules


def _check_keys(value: object, where: str = "") -> None:
    """Refuse a key that is not a text: YAML reads ``on`` and ``2020`` as other things."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise InvalidGates(f"the key {key!r} of {where or 'it'} is not a text. Quote it")
        _check_keys(inner, key)


def _near(name: str) -> str:
    group, _, key = name.rpartition(".")
    hints = {"": GateRules, **_RECORDS}
    known = [f.name for f in fields(hints.get(group, GateRules))]
    close = get_close_matches(key, known, n=1)
    return f". Did you mean {close[0]}?" if close else f". It knows {', '.join(known)}"


_RECORDS: Mapping[str, type] = {
    "measurement": EvaluationConfig,
    "metrics": Limits,
    "periods": PartLimits,
    "categories": PartLimits,
    "labels": LabelRules,
    "robustness": RobustnessRules,
    "behaviour": BehaviourRules,
    "goldens": GoldenRules,
    "kernels": KernelRules,
    "cost": CostRules,
    "signature": SignatureRules,
    "fit": FitRules,
}


def _problems(rules: GateRules) -> Iterator[str]:
    if rules.left_out == GROUPS:
        yield f"it asks for nothing. Give a group of {', '.join(GROUPS)}"
    for name in ("metrics", "periods", "categories"):
        limits = getattr(rules, name)
        if limits is not None:
            yield from _problems_of_limits(name, limits)
    yield from _problems_of_numbers(rules)
    yield from _problems_of_names(
        "behaviour.least", rules.behaviour.least if rules.behaviour else (), BEHAVIOURS
    )
    yield from _problems_of_names(
        "robustness.kinds", rules.robustness.kinds if rules.robustness else (), ROBUSTNESS_KINDS
    )


def _problems_of_names(where: str, names: Collection[str], known: Collection[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"{where}: {name!r} is unknown{_choice(name, known)}"


def _problems_of_limits(name: str, limits: Limits) -> Iterator[str]:
    known = CATEGORY_METRICS if name == "categories" else METRICS
    if not any(getattr(limits, kind) for kind in KINDS_OF_LIMITS):
        yield f"{name} has no limit. Give one of {', '.join(KINDS_OF_LIMITS)}"
    for kind in KINDS_OF_LIMITS:
        of = {"f1": 1.0} if name == "categories" and kind.startswith("most") else known
        yield from _problems_of_metrics(f"{name}.{kind}", getattr(limits, kind), of)
    for metric in sorted(limits.minimum.keys() & limits.maximum.keys()):
        least, most = limits.minimum[metric], limits.maximum[metric]
        if least > most:
            yield f"{name}: no {metric} is at least {least} and at most {most}"
    if isinstance(limits, PartLimits) and limits.papers < 1:
        yield f"{name}.papers is {limits.papers}, it must be at least 1"


def _problems_of_metrics(where: str, given: Numbers, known: Mapping[str, float]) -> Iterator[str]:
    for metric, limit in given.items():
        if metric not in known:
            yield f"{where}.{metric} is not a metric of it{_choice(metric, known)}"
        elif not 0.0 <= limit <= known[metric]:
            yield f"{where}.{metric} is {limit}, it must be {_range(known[metric])}"


def _problems_of_numbers(rules: GateRules) -> Iterator[str]:
    counts, shares = _counts(rules), _shares(rules)
    for name, (count, fewest) in counts.items():
        if count < fewest:
            yield f"{name} is {count}, it must be at least {fewest}"
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            yield f"{name} is {share}, it must be {_range(1.0)}"
    if rules.robustness is not None and rules.robustness.margin == 1.0:
        yield "robustness.margin is 1.0, it must be below 1"
    if rules.cost is not None:
        limits = rules.cost.limits()
        yield from (f"cost.{k} is {v}, it must be above 0" for k, v in limits.items() if v <= 0)
        if not limits:
            yield "cost has no limit. Give latency_ratio, memory_ratio or size_ratio"


def _counts(rules: GateRules) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    if rules.labels is not None:
        found["labels.most_missing"] = rules.labels.most_missing, 0
    if rules.robustness is not None:
        found["robustness.papers"] = rules.robustness.papers, 1
    if rules.kernels is not None:
        found["kernels.papers"] = rules.kernels.papers, 1
    if rules.cost is not None:
        found["cost.papers"] = rules.cost.papers, 1
        found["cost.rounds"] = rules.cost.rounds, 3
    return found


def _shares(rules: GateRules) -> Numbers:
    found: Numbers = {}
    if rules.labels is not None:
        found["labels.most_unknown"] = rules.labels.most_unknown
    if rules.robustness is not None:
        found["robustness.margin"] = rules.robustness.margin
    if rules.behaviour is not None:
        found |= {f"behaviour.least.{name}": n for name, n in rules.behaviour.least.items()}
    if rules.goldens is not None:
        found["goldens.least"] = rules.goldens.least
        if rules.goldens.most_change is not None:
            found["goldens.most_change"] = rules.goldens.most_change
    return found


def _range(most: float) -> str:
    return "0 or more" if math.isinf(most) else f"a number from 0 to {most:g}"


def _choice(name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f". Did you mean {close[0]}?" if close else f". Choose from {', '.join(known)}"
