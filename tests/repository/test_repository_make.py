"""The Makefile: help lists every target, and `.ci/run` calls targets that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILES = [ROOT / "Makefile", ROOT / ".ci" / "workflows.mk"]
TEXT = "\n".join(path.read_text("utf-8") for path in MAKEFILES).replace("\\\n", " ")
TARGETS = {name for line in re.findall(r"^\.PHONY: (.+)$", TEXT, re.M) for name in line.split()}
PROMISED = {"demo", "test", "quick", "check", "docs", "bench", "lock", "system-deps", "clean"}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> str:
    result = subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_help_is_the_default_and_lists_every_target() -> None:
    listed = set(re.findall(r"^  make (\S+) +\S", make("--no-print-directory"), re.MULTILINE))
    assert listed == TARGETS
    assert listed >= PROMISED


def test_help_says_something_else_of_every_target() -> None:
    said = re.findall(r"^  make \S+ +(\S.+)", make("--no-print-directory", "help"), re.MULTILINE)
    assert len(said) == len(set(said)) == len(TARGETS)


def test_help_puts_every_target_below_a_heading_without_repeating_one() -> None:
    lines = make("--no-print-directory", "help").splitlines()
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert lines[0] == headings[0] == "Use"
    assert {"Test", "Containers", "Check and document", "Maintain"} <= set(headings)
    assert len(headings) == len(set(headings))
    below = {line: lines[lines.index(line) + 1] for line in headings}
    assert all(first.startswith("  make ") for first in below.values())


def test_ci_run_calls_only_targets_that_exist() -> None:
    text = (ROOT / ".ci/run").read_text("utf-8")
    called = set(re.findall(r"^\s*(?:[A-Z_0-9=]+ )?make ([a-z-]+)", text, re.MULTILINE))
    called |= set(re.findall(r"^\s*test_on \d+ ([a-z-]+)", text, re.MULTILINE))
    assert called >= {"system-deps", "demo", "check", "test", "quick"}
    assert called <= TARGETS


def test_the_licences_of_every_environment_with_packages_of_its_own_are_checked() -> None:
    made = set(re.findall(r"^([A-Z]+_VENV) \?= ", TEXT, re.MULTILINE))
    (checked,) = re.findall(r"^LICENCE_VENVS \?= (.+)$", TEXT, re.MULTILINE)
    others = {"DEMO_VENV", "LOWEST_VENV", "RELEASE_VENV"}  # of the same packages, or of a tool
    assert set(re.findall(r"\$\((\w+)\)", checked)) == made - others


def test_the_list_of_long_tests_names_only_tests() -> None:
    listed = (ROOT / "tests/long.txt").read_text("utf-8").split()
    assert listed == sorted(set(listed))
    texts = {name: (ROOT / name).read_text("utf-8") for name in {n.split("::")[0] for n in listed}}
    for name in listed:
        file, *inside = name.split("::")
        known = [*inside[:-1], *(["settings"] if inside[-1] == "runTest" else inside[-1:])]
        assert all(re.search(rf"\b{part}\b", texts[file]) for part in known), name


def test_ci_run_ends_with_the_tests_so_that_their_summary_is_last() -> None:
    lines = (ROOT / ".ci/run").read_text("utf-8").split()
    assert lines[-2:] == ["make", "test"]


def test_system_deps_says_when_there_is_nothing_to_install() -> None:
    assert "no Debian package is needed" in make("--silent", "system-deps", "SYSTEM_PACKAGES=")
