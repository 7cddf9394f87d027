"""``classmark registry canary`` and ``shadow``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.registry import Registry
from registry_folders import report_of, write_tiny

RULES = "requests: 2000\nminutes: 30\nagreement: null\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a registry with a champion, tiny@1.0, and a candidate that passed its gate."""
    registry = Registry.create(tmp_path / "registry", who="a test")
    for version in ("1.0", "2.0"):
        digest = registry.add(write_tiny(tmp_path / f"tiny-{version}", version), who="a test")
        registry.keep_report(report_of(digest))
    registry.promote(registry.find("tiny@1.0"), who="a test")
    return registry.path


def run(place: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["registry", *words, "--registry", str(place)])


def test_a_canary_begins_with_its_rules_and_ends_as_the_champion(
    place: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "canary.yaml"
    rules.write_text(RULES, "utf-8")
    begun = run(place, "canary", "tiny@2.0", "--percent", "20", "--rules", str(rules))
    registry = Registry.open(place)
    candidate = registry.find("tiny@2.0")
    assert begun.exit_code == 0, begun.stderr
    assert f"canary      tiny@2.0 ({candidate[:12]}), 20 % of clients" in begun.stdout
    canary = registry.pointer().canary
    assert canary is not None
    assert (canary.candidate, canary.percent) == (candidate, 20)
    assert canary.rules["requests"] == 2000
    assert canary.rules["agreement"] is None
    assert canary.rules["p99_ratio"] == 2.0  # the default, written down

    ended = run(place, "canary", "--end", "promoted", "--why", "good enough", "--json")
    state = json.loads(ended.stdout)
    assert state["event"]["numbers"]["outcome"] == "promoted"
    assert state["pointer"]["channels"]["champion"] == candidate
    again = run(place, "canary", "--end", "stopped")
    assert (again.exit_code, "no canary runs" in again.stderr) == (1, True)


def test_a_shadow_begins_and_ends(place: Path) -> None:
    begun = run(place, "shadow", "tiny@2.0", "--percent", "25")
    assert begun.stdout.splitlines()[-1].endswith("25 % of papers")
    assert Registry.open(place).pointer().shadow_percent == 25
    ended = run(place, "shadow", "--off")
    assert ended.stdout.splitlines()[-1] == "shadow      none"
    assert Registry.open(place).pointer().channels.shadow is None


@pytest.mark.parametrize(
    "words",
    [("canary",), ("canary", "tiny@2.0", "--end", "stopped"), ("shadow",)],
)
def test_a_command_without_one_clear_wish_is_refused(place: Path, words: tuple[str, ...]) -> None:
    before = Registry.open(place).pointer()
    result = run(place, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: give either the BUNDLE of a")
    assert Registry.open(place).pointer() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"requests: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- 1\n", "holds no rules"),
        (b"", "holds no rules"),
        (b"speed: 1\n", "'speed' is not a field"),
        (b"requests: 10\nminutes: 1\nrequests: 20\n", "has 'requests' twice. Write each rule"),
        (b"agreement: 3\n", "agreement of the rules of a canary is 3"),
        (b"requests: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        (None, "Give a YAML file of rules"),
    ],
)
def test_rules_that_cannot_be_read_begin_nothing(
    place: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    rules = tmp_path / "canary.yaml"
    if content is not None:
        rules.write_bytes(content)
    result = run(place, "canary", "tiny@2.0", "--rules", str(rules))
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", " ")
    assert Registry.open(place).pointer().canary is None
