"""Packages: the same commit gives the same bytes, what is in them is listed, they install alone."""

from __future__ import annotations

import gzip
import json
import os
import re
import tarfile
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from make_targets import ROOT, clone, git, make, needs_make

# Builds packages and environments, which takes minutes on a busy machine.
pytestmark = [needs_make, pytest.mark.slow, pytest.mark.timeout(900)]


def built(done: Any) -> dict[str, str]:
    """Return the digest of each file that a target made, by name."""
    assert done.returncode == 0, done.stderr
    return {name: digest for digest, name in (line.split() for line in done.stdout.splitlines())}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone with sdist and wheel in dist/."""
    folder = clone(tmp_path_factory.mktemp("first") / "classmark")
    built(make("dist", root=folder))
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return next((checkout / "dist").glob("*.whl"))


def test_two_builds_in_two_folders_give_one_digest(checkout: Path, tmp_path: Path) -> None:
    before = built(make("dist", root=checkout))
    assert sorted(Path(name).suffix for name in before) == [".gz", ".whl"]
    other = clone(tmp_path / "a folder of another name" / "other")
    (other / "src/classmark/not_committed.py").write_text("raise SystemExit\n")
    umask = os.umask(0o077)
    try:
        assert built(make("dist", root=other)) == before
        assert built(make("sdist", root=other)).items() <= before.items()
    finally:
        os.umask(umask)


def test_times_and_users_in_the_packages_are_those_of_the_commit(
    checkout: Path, wheel: Path
) -> None:
    committed = int(git(checkout, "show", "--no-patch", "--format=%ct", "HEAD"))
    sdist = next((checkout / "dist").glob("*.tar.gz"))
    assert int.from_bytes(gzip.compress(b"", mtime=committed)[4:8], "little") == committed
    assert int.from_bytes(sdist.read_bytes()[4:8], "little") == committed
    with tarfile.open(sdist) as tar:
        assert {(one.mtime, one.uid, one.uname) for one in tar} == {(committed, 0, "")}
    with zipfile.ZipFile(wheel) as archive:
        assert len({one.date_time for one in archive.infolist()}) == 1


def test_the_sdist_holds_what_its_own_build_needs(checkout: Path) -> None:
    sdist = next((checkout / "dist").glob("*.tar.gz"))
    with tarfile.open(sdist) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    needed = {
        "pyproject.toml",
        "setup.py",
        "requirements/setup.txt",
        "src/classmark/kernels/c/text.h",
    }
    assert needed <= held


def test_the_bill_of_a_wheel_is_valid_and_names_every_locked_package(
    checkout: Path, wheel: Path
) -> None:
    pytest.importorskip("cyclonedx", reason="needs the group lint: make check")
    from audit import pins
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert make("sbom", root=checkout).returncode == 0
    path = checkout / "build/sbom" / f"{wheel.stem}.cdx.json"
    text = path.read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    listed = [f"{one['name']}=={one['version']}" for one in bill["components"]]
    assert sorted(listed) == pins([ROOT / "requirements/core.txt"])
    root = bill["metadata"]["component"]
    assert root["licenses"] == [{"expression": "Apache-2.0"}]
    assert wheel.name.startswith(f"{root['name']}-{root['version']}-")
    assert make("sbom", root=checkout).returncode == 0
    assert path.read_text("utf-8") == text


def test_the_wheel_installs_with_the_locks_and_answers(checkout: Path, wheel: Path) -> None:
    done = make("try-wheel", root=checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"classmark {wheel.name.split('-')[1]}, ")
    assert "cs.CL" in done.stdout


def test_a_published_package_installs_and_answers(checkout: Path, tmp_path: Path) -> None:
    done = make("try-published", PIP_FIND_LINKS=str(checkout / "dist"), PIP_PRE="1")
    assert done.returncode == 0, done.stderr
    assert "cs.CL" in done.stdout


def test_before_anything_is_published_the_trial_is_refused() -> None:
    done = make("try-published", PIP_NO_INDEX="1")
    assert done.returncode == 2
    assert "refused: there is no classmark to install for this machine" in done.stderr
    assert "Error 3" in done.stderr


def test_a_release_needs_its_version_in_the_tag_and_in_the_changelog(tmp_path: Path) -> None:
    root = clone(tmp_path / "classmark")
    done = make("release-check", "TAG=v9.1.0", root=root)
    assert done.returncode == 2
    assert "the tag is 'v9.1.0' but the package says" in done.stderr
    assert "Move it under [" in done.stderr
    package, changelog = root / "src/classmark/__init__.py", root / "CHANGELOG.md"
    version = re.compile(r'^__version__ = ".+"', re.MULTILINE)
    package.write_text(version.sub('__version__ = "9.1.0"', package.read_text("utf-8")))
    heading = "## [Unreleased]\n\n## [9.1.0] — {}\n"
    text = changelog.read_text("utf-8")
    changelog.write_text(text.replace("## [Unreleased]\n", heading.format("2999-01-01")))
    assert "dates 9.1.0 '2999-01-01'" in make("release-check", "TAG=v9.1.0", root=root).stderr
    changelog.write_text(text.replace("## [Unreleased]\n", heading.format(date(2026, 11, 1))))
    done = make("release-check", "TAG=v9.1.0", root=root)
    assert (done.returncode, done.stdout) == (0, "v9.1.0 can be released\n"), done.stderr


def test_one_wheel_a_system_is_built_for_every_python(checkout: Path, tmp_path: Path) -> None:
    words = (f"RELEASE_VENV={tmp_path / 'venv'}", "CIBUILDWHEEL=--print-build-identifiers")
    for system, expected in (
        ("linux", "cp311-manylinux_x86_64"),
        ("macos", "cp311-macosx_arm64"),
        ("windows", "cp311-win_amd64"),
    ):
        done = make("wheels", *words, root=checkout, CIBW_PLATFORM=system, CIBW_ARCHS="all")
        assert done.returncode == 0, done.stderr
        assert re.search(rf"^{expected}$", done.stdout, re.MULTILINE)
        assert set(re.findall(r"^cp\d+t?(?=-)", done.stdout, re.MULTILINE)) == {"cp311"}
