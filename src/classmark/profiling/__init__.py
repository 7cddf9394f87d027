"""PROFILING: where a command spends its time or its memory, by py-spy, memray and psutil."""

from classmark.profiling.config import ProfilerConfig, check_folder, check_profiler, read_profiler
from classmark.profiling.meter import Meter
from classmark.profiling.profiler import Profile, Profiler
from classmark.profiling.stacks import Stacks

__all__ = [
    "Meter",
    "Profile",
    "Profiler",
    "ProfilerConfig",
    "Stacks",
    "check_folder",
    "check_profiler",
    "read_profiler",
]
