"""What tests of a service that follows a registry share: commands, metrics, waiting."""

from __future__ import annotations

import subprocess
import sys

import httpx
from waiting import until

from versions import WHO, Versions

__all__ = ["WHO", "Versions", "command", "followed", "metric"]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``classmark registry`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "classmark", "registry", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def metric(client: httpx.Client, name: str) -> float:
    """Return the value of a metric, named with its labels if it has any."""
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(f"{name} ")]
    return float(found[0].split()[1]) if found else 0.0


def followed(client: httpx.Client, sequence: int) -> None:
    """Wait until every worker has followed a change of the registry."""
    until(lambda: metric(client, "classmark_registry_sequence") == sequence)
