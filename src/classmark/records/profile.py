"""What a profile found: functions by what they cost, and the peak memory of steps and processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

ProfileKind = Literal["cpu", "memory"]
PROFILE_FORMAT_VERSION = 1


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
