"""SIGKILL at every step of every change: the state before or after, whole and verified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from classmark.registry import Registry
from classmark.registry.signatures import create_key
from registry_folders import WHO, add_passed, registry, report_of, three, write_tiny

__all__ = ["registry", "three"]

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="processes are not forked there"),
    pytest.mark.slow,  # reason: hundreds of processes are forked and killed
]

KILLING = Path(__file__).with_name("killing.py")
FEWEST_KILLS = 10
CHANGES = ["add", "promote", "rollback", "start_canary", "end_canary", "set_shadow", "archive"]
CHANGES += ["collect", "keep_report", "create"]
EVENTS = {"keep_report": 0, "create": 0}


def kills_of(change: str, folder: Path) -> list[dict[str, Any]]:
    """Return what was found after each kill, the last one being a change that was not killed."""
    command = [sys.executable, str(KILLING), change, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) > FEWEST_KILLS
    assert [kill["killed"] for kill in kills].count(False) == 1
    return kills


def check(kills: list[dict[str, Any]], before: int, events: int) -> None:
    """Every kill left the state before or after, and the next change completed the events."""
    for kill in kills:
        now = kill["at_once"]
        assert now["problems"] == [], kill
        assert now["sequence"] in (before, before + events), kill
        assert len(now["actions"]) == now["sequence"], kill
        assert kill["after"]["problems"] == [], kill
        assert kill["after"]["actions"] == [*now["actions"], "set_shadow"], kill
    assert kills[-1]["at_once"]["sequence"] == before + events
    if events:
        assert {kill["at_once"]["sequence"] for kill in kills} == {before, before + events}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_at_any_step_leaves_a_whole_verified_registry(
    registry: Registry, three: list[str], tmp_path: Path, change: str
) -> None:
    write_tiny(tmp_path / "new", "9.0")
    (tmp_path / "report.json").write_bytes(report_of("e" * 64))
    registry.promote(three[0], who=WHO)
    registry.promote(three[1], who=WHO)
    if change == "collect":
        add_passed(registry, tmp_path, "4.0")
    if change == "end_canary":
        registry.start_canary(three[2], percent=5, rules={}, who=WHO)
    kills = kills_of(change, tmp_path)
    check(kills, registry.pointer().sequence, EVENTS.get(change, 1))
    for kill in kills:
        assert kill["created"] is None or kill["created"]["problems"] == []


@pytest.mark.skipif(find_spec("model_signing") is None, reason="the extra sign is not installed")
def test_a_kill_while_a_bundle_is_signed_leaves_a_whole_verified_registry(
    registry: Registry, tmp_path: Path
) -> None:
    from classmark.registry import Proof

    create_key(tmp_path / "key")
    registry.trust(tmp_path / "key.pub", who=WHO)
    proof = Proof(key=tmp_path / "key")
    registry.add(write_tiny(tmp_path / "first", "1.0"), who=WHO, proof=proof)
    write_tiny(tmp_path / "new", "9.0")
    check(kills_of("add_signed", tmp_path), registry.pointer().sequence, 1)
