"""Every call of the system fails once, at each of its places, while a service starts and serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classmark.bundle import find_bundle
from preload import build_preload

pytestmark = [
    pytest.mark.slow,  # reason: over a hundred services
    pytest.mark.timeout(1_200),  # on a machine that does twenty other things
]

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("serve_faults.py")


# Of each function: the errors, whether a service serves after some, and is refused after some.
FAULTS = {
    "open": (("EMFILE", "EMFILE+", "EACCES"), True, True),
    "write": (("EIO", "ENOSPC+"), True, False),
    "fsync": (("EIO", "EIO+"), True, False),
    "truncate": (("ENOSPC", "EIO+"), True, False),
    "mkdir": (("EACCES", "ENOSPC+"), True, False),
    "mmap": (("ENOMEM", "ENOMEM+"), True, True),
    "fork": (("EAGAIN", "EAGAIN+"), True, True),
    "pipe": (("EMFILE", "EMFILE+"), True, True),
    "socket": (("EMFILE", "EMFILE+"), True, True),
    "thread": (("EAGAIN", "EAGAIN+"), True, True),
    "rename": (("EACCES",), True, False),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what came of every fault: one process that has imported everything tries them all."""
    folder = tmp_path_factory.mktemp("faults")
    library, model, work = build_preload(folder), folder / "fast-1.0", folder / "work"
    shutil.copytree(find_bundle("fast"), model)
    work.mkdir()
    asked = [f"{function}={','.join(errors)}" for function, (errors, _, _) in FAULTS.items()]
    done = subprocess.run(
        [sys.executable, PROGRAM, library, model, work, *asked],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("function", FAULTS)
def test_a_call_that_fails_costs_a_service_its_start_or_nothing_that_is_not_said(
    found: list[dict[str, Any]], function: str
) -> None:
    _, is_served, is_refused = FAULTS[function]
    faults = [fault for fault in found if fault["fault"].startswith(f"{function} ")]
    assert [fault for fault in faults if fault["wrong"]] == []
    outcomes = {fault["has_served"] for fault in faults}
    assert outcomes == ({True} if is_served else set()) | ({False} if is_refused else set())
