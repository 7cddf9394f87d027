"""The systemd unit: it is valid, can be enabled, is confined, and its service runs confined."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from classmark.service import make_settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/systemd"
UNIT = FOLDER / "classmark.service"
MOST_EXPOSURE = 30
"""In tenths: `systemd-analyze security` calls more than 3 more than it needs to be."""
_PR_GET_MDWE = 66


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd; without it the test is skipped, but in CI it fails."""
    if shutil.which(command[0]) is None:
        reason = f"there is no {command[0]}. Run: make system-deps"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def settings_of_unit() -> dict[str, str]:
    lines = UNIT.read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_the_unit_is_valid(tmp_path: Path) -> None:
    here = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert text.count("/opt/classmark/bin/classmark ") == 1
    here.write_text(text.replace("/opt/classmark/bin/classmark", sys.executable))
    result = run("systemd-analyze", "verify", str(here))
    said = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert (result.returncode, said) == (0, [])


def test_the_unit_can_be_enabled(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(UNIT, units)
    result = run("systemctl", f"--root={tmp_path}", "enable", UNIT.name)
    assert result.returncode == 0, result.stderr
    assert (units / "multi-user.target.wants" / UNIT.name).is_symlink()


def test_the_unit_gives_its_service_no_more_than_it_needs() -> None:
    result = run(
        *("systemd-analyze", "security", "--offline=true"),
        *(f"--threshold={MOST_EXPOSURE}", str(UNIT)),
    )
    if "unrecognized option" in result.stderr:
        pytest.skip("this systemd is older than 250 and cannot look at a file")
    assert result.returncode == 0, result.stdout[-200:]
    assert "Overall exposure level for classmark.service" in result.stdout


def test_the_unit_reads_the_keys_and_settings_that_the_guide_makes() -> None:
    unit, file = settings_of_unit(), FOLDER / "serve.env"
    made = make_settings(settings=str(file))
    home = Path(unit["Environment"].removeprefix("CLASSMARK_HOME="))
    # The folder of the service belongs to its user, so that it can read keys that it made there.
    assert made.api_keys == home / "keys.json"
    assert home == Path("/var/lib") / unit["StateDirectory"]
    assert unit["User"] == "classmark"
    assert unit["ExecStart"].endswith(f"serve --settings /etc/classmark/{file.name}")
    assert float(unit["TimeoutStopSec"]) > made.grace_s
    assert int(unit["LimitNOFILE"]) > made.max_connections
    assert "kill -HUP" in unit["ExecReload"]


def test_what_retrains_beside_the_service_has_its_program_user_home_and_journal() -> None:
    unit, guide = settings_of_unit(), (ROOT / "docs/how-to/retrain.md").read_text("utf-8")
    (text,) = [
        one for one in re.findall(r"^```ini\n(.*?)^```", guide, re.M | re.S) if "Exec" in one
    ]
    retraining = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert {key: retraining.get(key) for key in ("User", "Environment")} == {
        key: unit[key] for key in ("User", "Environment")
    }
    program, home = unit["ExecStart"].split()[0], unit["Environment"].partition("=")[2]
    command = retraining["ExecStart"].removeprefix(f"{program} ")
    # Needed until an order has been promoted.
    assert command.startswith(f"retrain run --dataset {home}/")
    assert f" --journal {home}/journal/journal.sqlite " in command
    assert f"\nPATH={program.rpartition('/')[0]}:/usr/bin:/bin\n{unit['Environment']}\n" in guide
    assert f"30 * * * * classmark {command}\n" in guide


def test_the_guide_shows_the_unit_and_its_settings_and_installs_what_it_starts() -> None:
    guide = (ROOT / "docs/how-to/serve-in-production.md").read_text("utf-8")
    venv = settings_of_unit()["ExecStart"].partition("/bin/")[0]
    assert f"\npython3 -m venv {venv} && {venv}/bin/pip install '.[serve]'\n" in guide
    blocks = re.findall(r"^```ini\n(.*?)^```", guide, re.M | re.S)
    assert blocks == [UNIT.read_text("utf-8"), (FOLDER / "serve.env").read_text("utf-8")]


@pytest.mark.slow
def test_a_service_runs_where_no_memory_can_become_executable(tmp_path: Path) -> None:
    """As with ``MemoryDenyWriteExecute``, which the unit sets."""
    before = "import ctypes, os, sys\nctypes.CDLL(None).prctl(65, 1, 0, 0, 0)\n"
    program = f"{before}os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
    if ctypes.CDLL(None).prctl(_PR_GET_MDWE, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel, or this system, cannot forbid it (Linux 6.3)")
    log = tmp_path / "serve.log"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "classmark", "serve", "--port", "0", "--workers", "1"],
        env={
            **os.environ,
            "CLASSMARK_HOME": str(tmp_path),
            "CLASSMARK_SERVE_LOG_FILE": str(log),
        },
    )
    try:
        until(lambda: process.poll() is not None or (log.exists() and '"ready"' in log.read_text()))
        process.terminate()
        assert process.wait() == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
