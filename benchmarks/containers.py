"""Measures the container images: size, layers, and how long until each answers.

python benchmarks/containers.py [--output benchmarks/reports/containers.json] [--rounds 5]

The images are built first, by deploy/docker/images.py. A start is from ``docker run`` to the first
answer of /readyz for a service; for the others, and for a service without network, until
``classmark --version`` has ended.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

from report import ROOT, run_benchmark

sys.path.insert(0, str(ROOT / "deploy" / "docker"))
from images import TARGETS, Engine, build, engine, ensure_base, facts_of, running

ALONE = ("--rm", "--network", "none", "--read-only")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return what each image weighs and how fast it starts."""
    with engine() as found:
        ensure_base(found)
        tags = {target: build(found, target, quiet=True) for target in options.only.split(",")}
        images = {target: measure_image(found, tag, options.rounds) for target, tag in tags.items()}
        version = found.run("version", "--format", "{{.Server.Version}}")
    return {"engine": version, "rounds": options.rounds, "images": images}


def measure_image(found: Engine, tag: str, rounds: int) -> dict[str, Any]:
    """Return size, layers and the median start of an image, in seconds."""
    facts = facts_of(found, tag)
    version = ("--entrypoint", "classmark", tag, "--version")
    facts["version_s"] = _median(lambda: found.run("run", *ALONE, *version), rounds)
    if "service" in tag:
        facts["ready_s"] = round(statistics.median(_ready_s(found, tag) for _ in range(rounds)), 2)
    return facts


def _median(call: Any, rounds: int) -> float:
    def seconds() -> float:
        start = time.monotonic()
        call()
        return time.monotonic() - start

    return round(statistics.median(seconds() for _ in range(rounds)), 2)


def _ready_s(found: Engine, tag: str) -> float:
    start = time.monotonic()
    with running(found, tag):
        return time.monotonic() - start


if __name__ == "__main__":
    run_benchmark(
        __doc__,
        measure,
        {
            "--only": {"default": ",".join(TARGETS), "help": "images, separated by commas"},
            "--rounds": {"type": int, "default": 5, "help": "starts of each image"},
        },
        tiny={"only": "service", "rounds": 1},
    )
