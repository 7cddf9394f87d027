"""The page about clusters shows what its commands print, and its numbers can be measured again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,  # reason: starts a cluster for each command
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: make test-ray"),
]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console\n(\$ .*?)^```", re.DOTALL | re.MULTILINE)


def call(command: str, folder: Path) -> str:
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip()


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "work-on-a-cluster.md").read_text("utf-8")
    commands = [
        each.partition("\n")
        for block in BLOCK.findall(page)
        for each in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    assert len(commands) == 9
    for command, _, shown in commands:
        assert call(command, tmp_path) == shown.strip(), command
    digests = {
        json.loads((tmp_path / name / "manifest.json").read_bytes())["digest"]
        for name in ("local", "cluster")
    }
    assert len(digests) == 1


def test_the_overhead_can_be_measured_again(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    script = ROOT / "benchmarks" / "ray_scale.py"
    command = [sys.executable, script, "--work", tmp_path, "--tiny", "--output", report]
    subprocess.run(command, check=True)
    found = json.loads(report.read_bytes())
    assert found["tiny"] is True
    assert found["same_bytes"] is True
    assert found["engines"]["ray"]["runs"][0]["cpu_s"] > 0
    assert {run["bottleneck"] for run in found["derived"]["runs"]} <= {
        "workers", "readers", "driver", "network of the driver",
    }  # fmt: skip
