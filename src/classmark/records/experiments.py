"""What comes of many fits, and of a look into one command: the reports of sweeps and profiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from classmark.records.fields import read_report
from classmark.wire import to_builtins

SWEEP_FORMAT_VERSION = 1
TrialState = Literal["complete", "pruned", "failed", "running", "waiting"]
ProfileKind = Literal["cpu", "memory"]
PROFILE_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTrial:
    """One fit of a sweep.

    Attributes:
        number: from 0, in the order in which they began.
        state: ``pruned`` ended early because others did better; ``failed`` gave no value.
        value: the metric on the valid split; None unless complete.
        values: that were tried, by key; those of the default have ``is_default``.
        measured: metric during the fit, by the share of its epochs that were done, in percent.
        seconds: wall time; None if it has not ended.
        cpu_seconds: of all threads of the process; None if it has not ended.
        is_default: this trial has the values of the configuration before the sweep.
        retry_of: number of the trial that was killed or interrupted, None if there is none.
        error: why it failed, "" if it did not.
    """

    number: int
    state: TrialState
    value: float | None
    values: dict[str, Any]
    measured: dict[str, float]
    seconds: float | None
    cpu_seconds: float | None
    is_default: bool
    retry_of: int | None
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport:
    """Every trial of a study, and what is needed to repeat it.

    Attributes:
        name: of the study.
        kind: of the model.
        metric: on the valid split; higher is better.
        n_valid: papers of the valid split that it was measured on.
        n_train: papers of the train split.
        dataset_digest: digest of the dataset manifest.
        generated: the papers were invented by the sample generator.
        budget: of trials; None if there is none.
        date: ISO date and time (UTC).
        machine: system, processor architecture, CPUs, Python and numpy versions.
        command: the command line, "" if it was called from Python.
        packages: versions by name.
        space: where each key was sought, by key.
        importance: share of each key in what sets the best trials apart, 0..1; empty while too few
            are complete.
        trials: in the order in which they began.
    """

    name: str
    kind: str
    metric: str
    n_valid: int
    n_train: int
    dataset_digest: str
    generated: bool
    budget: int | None
    date: str
    machine: str
    command: str
    packages: dict[str, str]
    space: dict[str, dict[str, Any]]
    importance: dict[str, float]
    trials: tuple[SweepTrial, ...]
    format_version: int = field(default=SWEEP_FORMAT_VERSION)

    @property
    def best(self) -> SweepTrial | None:
        """Return the best complete trial, the first one of equals; None if none is complete."""
        complete = [t for t in self.trials if t.value is not None]
        return max(complete, key=lambda t: (t.value, -t.number), default=None)

    @property
    def default(self) -> SweepTrial | None:
        """Return the complete trial of the configuration before the sweep."""
        found = (t for t in self.trials if t.is_default and t.value is not None)
        return next(found, None)

    def bests(self) -> Iterator[tuple[SweepTrial, float]]:
        """Yield each complete trial with the best value up to it."""
        best = float("-inf")
        for trial in self.trials:
            if trial.value is not None:
                best = max(best, trial.value)
                yield trial, best

    def count(self, state: TrialState) -> int:
        """Return how many trials are in a state."""
        return sum(trial.state == state for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of a report."""
        value: dict[str, Any] = to_builtins(self)
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> SweepReport:
        """Read the JSON object of a report.

        Raises:
            InvalidReport: another format version, or a key is missing or unknown.
        """
        return read_report(cls, value, SWEEP_FORMAT_VERSION, "classmark sweep report")


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionCost:
    """One function.

    Attributes:
        name: as in the code.
        file: shortened to its package; in the native code of a library, the library.
        own: what it cost by itself, in the unit of the profile.
        total: the same with all that it called.
    """

    name: str
    file: str
    own: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """One step of a command.

    Attributes:
        name: as the progress shows it.
        seconds: from its beginning to its end.
        cpu_seconds: of all threads of the process.
        peak_mb: highest resident memory in it, in units of 10^6 bytes.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessCost:
    """One process.

    Attributes:
        name: ``process 1`` is the command itself.
        cpu_seconds: of all its threads.
        peak_mb: its highest resident memory, in units of 10^6 bytes.
    """

    name: str
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileReport:
    """What the profile of one command found.

    Attributes:
        kind: ``cpu``: samples of what runs. ``memory``: bytes that are held when most are.
        unit: of ``total``, ``own`` of a function ...: ``samples`` or ``bytes``.
        total: all samples, or all bytes at the peak.
        rate: samples a second; None for memory.
        command: what was profiled.
        date: when it ended, UTC.
        machine: processor and system.
        seconds: from the beginning to the end.
        interrupted: the command was stopped before its end.
        functions: those that cost most by themselves, and those that cost most in total.
        steps: of a fit; empty for other commands.
        processes: the command first.
        load: of a service: what was sent, and how fast it was answered.
    """

    kind: ProfileKind
    unit: str
    total: int
    rate: int | None
    command: str
    date: str
    machine: str
    seconds: float
    interrupted: bool
    functions: tuple[FunctionCost, ...]
    steps: tuple[StepCost, ...] = ()
    processes: tuple[ProcessCost, ...] = ()
    load: dict[str, Any] = field(default_factory=dict)

    FILE: ClassVar[str] = "profile.json"

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes."""
        return round(sum(process.cpu_seconds for process in self.processes), 2)

    @property
    def peak_mb(self) -> float:
        """Return the highest resident memory of the command itself."""
        return self.processes[0].peak_mb if self.processes else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of ``profile.json``."""
        sums = {"cpu_seconds": self.cpu_seconds, "peak_mb": self.peak_mb}
        return {"format": PROFILE_FORMAT_VERSION, **sums, **asdict(self)}
