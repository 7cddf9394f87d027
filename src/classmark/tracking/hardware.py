"""The machine that a run is made on, without its name."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def describe_hardware() -> dict[str, str]:
    """Return ``cpu``, ``cores``, ``memory_gb`` and, where torch is loaded and sees one, ``gpu``."""
    found = {"cpu": _cpu(), "cores": str(os.cpu_count()), "memory_gb": _memory_gb(), "gpu": _gpu()}
    return {key: value for key, value in found.items() if value}


def _cpu() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _memory_gb() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f}"
    except (AttributeError, ValueError, OSError):  # pragma: no cover - Windows, macOS
        return ""


def _gpu() -> str:
    """Ask torch only where a fit has loaded it: this import takes seconds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ""
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names)
