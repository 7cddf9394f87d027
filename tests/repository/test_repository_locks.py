"""The hashed locks: they cover pyproject.toml, stay small where promised, and name no index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MAX_CORE_PACKAGES = 15
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
]
PYTHONS = ["3.11", "3.12", "3.13"]


def pins(lock: str) -> list[Requirement]:
    """Return the ``name==version ; marker`` entries of a lock, without their hashes."""
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8").splitlines()
    return [
        Requirement(line.removesuffix("\\")) for line in lines if re.match(r"[a-z0-9].*==", line)
    ]


def wanted(*, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> list[Requirement]:
    """Return what pyproject.toml asks for, its own extras and included groups followed."""
    project = PYPROJECT["project"]
    found = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        for text in project["optional-dependencies"][extra]:
            requirement = Requirement(text)
            if requirement.name == "classmark":
                found += wanted(extras=tuple(requirement.extras))
            else:
                found.append(requirement)
    return found + [requirement for group in groups for requirement in members(group)]


def members(group: str) -> list[Requirement]:
    """Return the requirements of a dependency group."""
    found: list[Requirement] = []
    for item in PYPROJECT["dependency-groups"][group]:
        found += members(item["include-group"]) if isinstance(item, dict) else [Requirement(item)]
    return found


def environment(platform: dict[str, str], python: str) -> dict[str, Any]:
    return {
        **default_environment(),
        **platform,
        "python_version": python,
        "python_full_version": f"{python}.1",
    }


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("core", wanted()),
        ("data", wanted(extras=("data",))),
        ("train", wanted(extras=("train",))),
        ("test", wanted(extras=("train",), groups=("test",))),
        ("evidently", wanted(extras=("monitor", "train"), groups=("test",))),
        ("check", wanted(extras=("train",), groups=("dev",))),
        ("setup", members("setup")),
    ],
)
def test_each_lock_meets_what_pyproject_asks_for(lock: str, asked: list[Requirement]) -> None:
    versions: dict[str, list[str]] = {}
    for pin in pins(lock):
        version = str(pin.specifier).removeprefix("==")
        versions.setdefault(canonicalize_name(pin.name), []).append(version)
    stale = [
        str(requirement)
        for requirement in asked
        if not (found := versions.get(canonicalize_name(requirement.name)))
        or not all(requirement.specifier.contains(version) for version in found)
    ]
    assert not stale, f"requirements/{lock}.txt is stale for {stale}. Run: make lock"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_pin_of_a_lock_has_a_hash(path: Path) -> None:
    for entry in re.split(r"\n(?=[a-z0-9])", path.read_text("utf-8"))[1:]:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_names_an_index_or_a_path(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"://|--index|--extra-index|--find-links|file:|(?<=\s)/", text)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_holds_torch(path: Path) -> None:
    is_heavy = path.stem in ("deep", "ray", "tracking")
    left_out = {"torch"} if is_heavy else {"torch", "lightning", "mlflow", "wandb"}
    assert not left_out & {pin.name for pin in pins(path.stem)}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform["sys_platform"])
def test_core_with_classmark_itself_is_at_most_15_packages(
    platform: dict[str, str], python: str
) -> None:
    here = environment(platform, python)
    active = {pin.name for pin in pins("core") if not pin.marker or pin.marker.evaluate(here)}
    assert len(active) + 1 <= MAX_CORE_PACKAGES, sorted(active)
    assert "numpy" in active
