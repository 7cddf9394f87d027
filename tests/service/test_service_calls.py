"""Every call of the system fails once, at each of its places, while a service starts and serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from classmark.bundle import find_bundle
from preload import build_preload

pytestmark = [
    pytest.mark.slow,  # reason: a hundred services
    pytest.mark.timeout(1_200),  # on a machine that does twenty other things
]

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("serve_faults.py")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_preload(tmp_path_factory.mktemp("preload"))


@pytest.mark.parametrize(
    ("function", "errors", "is_served", "is_refused"),
    [
        ("open", ("EMFILE", "EMFILE+", "EACCES"), True, True),
        ("write", ("EIO", "ENOSPC+"), True, False),
        ("fsync", ("EIO", "EIO+"), True, False),
        ("truncate", ("ENOSPC", "EIO+"), True, False),
        ("mkdir", ("EACCES", "ENOSPC+"), True, False),
        ("mmap", ("ENOMEM", "ENOMEM+"), True, True),
        ("fork", ("EAGAIN", "EAGAIN+"), True, True),
        ("pipe", ("EMFILE", "EMFILE+"), True, True),
        ("socket", ("EMFILE", "EMFILE+"), True, True),
        ("thread", ("EAGAIN", "EAGAIN+"), True, True),
        ("rename", ("EACCES",), True, False),
    ],
)
def test_a_call_that_fails_costs_a_service_its_start_or_nothing_that_is_not_said(
    library: Path,
    tmp_path: Path,
    function: str,
    errors: tuple[str, ...],
    is_served: bool,
    is_refused: bool,
) -> None:
    model, work = tmp_path / "fast-1.0", tmp_path / "faults"
    shutil.copytree(find_bundle("fast"), model)
    work.mkdir()
    done = subprocess.run(
        [sys.executable, PROGRAM, library, model, work, function, *errors],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [fault for fault in found if fault["wrong"]] == []
    outcomes = {fault["has_served"] for fault in found}
    assert outcomes == ({True} if is_served else set()) | ({False} if is_refused else set())
