"""Results of a model on perturbed papers and other texts, and the minimum values it must reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classmark.errors import InvalidGates
from classmark.records.evaluation import Difference, MetricValue
from classmark.records.fields import WrongField, read_fields, read_report
from classmark.wire import ModelRef, to_builtins

ROBUSTNESS_FORMAT_VERSION = 1
GATES_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessLevel:
    """What was measured at one level of one kind.

    Attributes:
        name: e.g. ``5 %``.
        n: texts measured.
        changed: share of them that differ from the clean ones; None where nothing is perturbed.
        metrics: ``top_1``, ``top_5``, ``confidence`` (mean probability of the top category),
            ``ece``, ``below_threshold``, ``out_of_scope``, ``abstained`` (the sum of both),
            ``accepted`` (the rest), ``accepted_accuracy``, ``agreement`` (share with the same top
            category as clean). Texts that are not papers have no label, and only the metrics that
            need none.
        differences: of ``top_1`` and ``top_5``; ``a`` is clean, ``b`` is this level.
    """

    name: str
    n: int
    changed: float | None
    metrics: dict[str, MetricValue]
    differences: dict[str, Difference]


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessKind:
    """One kind of perturbation and what was measured at each of its levels.

    Attributes:
        name: e.g. ``typos``.
        unit: what the levels state, e.g. ``share of words with a typo``.
        ordered: the levels follow one another, so that a line between them means something.
        levels: mildest or earliest first.
    """

    name: str
    unit: str
    ordered: bool
    levels: tuple[RobustnessLevel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessReport:
    """Everything measured, and what is needed to measure it again.

    Attributes:
        model: who answered.
        dataset_digest: digest of the dataset manifest.
        split: name of the split.
        generated: the papers were invented by the sample generator.
        n: papers measured.
        date: ISO date and time (UTC).
        machine: system, processor architecture, CPUs, Python and numpy versions.
        command: the command line, "" if it was called from Python.
        config: options of the measurement (papers, seed, draws, level of confidence, bins).
        clean: the papers as they are.
        kinds: each kind with its levels, mildest first.
    """

    model: ModelRef
    dataset_digest: str
    split: str
    generated: bool
    n: int
    date: str
    machine: str
    command: str
    config: dict[str, Any]
    clean: RobustnessLevel
    kinds: tuple[RobustnessKind, ...]
    format_version: int = field(default=ROBUSTNESS_FORMAT_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a report."""
        value: dict[str, Any] = to_builtins(self)
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RobustnessReport:
        """Read the JSON object of a report.

        Raises:
            InvalidReport: another format version, or a key is missing or unknown.
        """
        return read_report(cls, value, ROBUSTNESS_FORMAT_VERSION, "classmark evaluate robustness")


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessGates:
    """The minima that a model must hold.

    Attributes:
        model: name and version of the model they were measured on.
        dataset_digest: of the papers they were measured on.
        split: its split.
        papers: how many papers that were.
        seed: of the choice of papers and of the perturbations.
        margin: what was taken off the measured values.
        minimum: kind -> level -> metric -> least value.
    """

    model: str
    dataset_digest: str
    split: str
    papers: int
    seed: int
    margin: float
    minimum: dict[str, dict[str, dict[str, float]]]
    format_version: int = field(default=GATES_FORMAT_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a gate file."""
        value: dict[str, Any] = to_builtins(self)
        return value

    @classmethod
    def from_dict(cls, value: object) -> RobustnessGates:
        """Read the JSON object of a gate file.

        Raises:
            InvalidGates: another format version, a key is missing or unknown, or a minimum is not a
                number.
        """
        seen = value.get("format_version") if isinstance(value, dict) else None
        if not isinstance(value, dict) or seen != GATES_FORMAT_VERSION:
            raise InvalidGates(
                f"its format version is {seen!r}, this classmark reads {GATES_FORMAT_VERSION}"
            )
        try:
            gates = read_fields(cls, value)
        except WrongField as error:
            raise InvalidGates(f"it is not of format {GATES_FORMAT_VERSION} ({error})") from error
        for kind, levels in gates.minimum.items():
            for level, metrics in levels.items():
                for metric, least in metrics.items():
                    if not 0 <= least <= 1:
                        raise InvalidGates(
                            f"the minimum of {kind}, {level}: {metric} is {least!r}, not a number "
                            "from 0 to 1"
                        )
        return gates
