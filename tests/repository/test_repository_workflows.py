"""The workflows: what they run is tested, who may write is bounded, actions are pinned."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
MAKEFILES = (ROOT / "Makefile", ROOT / ".ci" / "workflows.mk")
NAMES = {"tests", "quality", "data", "registry", "images", "deploy", "docs", "nightly", "release"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


WORKFLOWS = {path.stem: read(path) for path in sorted((GITHUB / "workflows").glob("*.yml"))}
LABELS = read(GITHUB / "labeler.yml")
UPDATES = read(GITHUB / "dependabot.yml")["updates"]
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
JOBS = [
    pytest.param(job, id=f"{name}-{key}")
    for name, workflow in WORKFLOWS.items()
    for key, job in workflow["jobs"].items()
]
# Every repository has them from the start.
LABELS_OF_GITHUB = {"bug", "enhancement"}
# What a job needs to publish; each job that has one runs no pull request.
PUBLISHING = {"contents", "packages", "id-token", "attestations"}
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")

EACH = pytest.mark.parametrize("name", WORKFLOWS)
EACH_JOB = pytest.mark.parametrize("job", JOBS)


def events(name: str) -> Any:
    """Return what starts a workflow; YAML takes the key ``on`` for true."""
    return WORKFLOWS[name][True]


def steps() -> list[dict[str, Any]]:
    jobs = [job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values()]
    actions = [read(path)["runs"] for path in ACTIONS]
    return [step for part in (*jobs, *actions) for step in part["steps"]]


def commands() -> list[str]:
    """Return each line that the workflows run."""
    runs = [step["run"] for step in steps() if "run" in step]
    return sorted({line.strip() for run in runs for line in run.splitlines() if line.strip()})


def targets() -> set[str]:
    return {line.split()[1] for line in commands() if line.startswith("make ")}


def phony() -> set[str]:
    text = "\n".join(path.read_text("utf-8") for path in MAKEFILES).replace("\\\n", " ")
    return {
        name for line in re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE) for name in line.split()
    }


def test_there_is_a_workflow_for_each_part_of_the_delivery() -> None:
    assert set(WORKFLOWS) == NAMES
    assert [name for name, workflow in WORKFLOWS.items() if workflow["name"] != name] == []


def test_every_run_is_a_make_target_or_a_command_of_classmark() -> None:
    assert len(commands()) > 15
    assert not [line for line in commands() if not re.match(r"(make|classmark) [a-z]", line)]
    assert not [line for line in commands() if re.search(r"[;&|><`]|\$\(", line)]
    assert targets() <= phony()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_make_knows_every_variable_that_a_workflow_sets(line: str) -> None:
    words = [EXPRESSION.sub("x", word).replace('"', "") for word in line.split()[1:]]
    variables = [word.partition("=")[0] for word in words[1:] if "=" in word]
    text = "\n".join(path.read_text("utf-8") for path in MAKEFILES)
    assert not [name for name in variables if not re.search(rf"\$\([^)]*\b{name}\b", text)]
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_no_text_that_somebody_types_becomes_a_command() -> None:
    """A shell expands it in `run`, and make what its command line gives a variable."""
    typed = [step for step in steps() if "inputs." in str(step.get("env"))]
    assert typed
    for step in typed:
        names = [name for name, value in step["env"].items() if "inputs." in value]
        assert not [name for name in names if name in step["run"]]
    assert not [line for line in commands() if "${{" in line]


def test_every_target_of_a_workflow_is_run_by_ci_or_by_a_test() -> None:
    ci = re.findall(
        r"^\s*(?:[A-Z_0-9=]+ )?make ([a-z-]+)", (ROOT / ".ci/run").read_text("utf-8"), re.M
    )
    tests = ROOT.glob("tests/**/test_*.py")
    text = "\n".join(path.read_text("utf-8") for path in tests if path != Path(__file__))
    tested = set(re.findall(r"\bmake\(\s*\"([a-z-]+)\"", text))
    assert not sorted(targets() - set(ci) - tested)


def test_every_action_is_pinned_by_commit_and_says_its_version() -> None:
    files = [*(GITHUB / "workflows").glob("*.yml"), *ACTIONS]
    text = "\n".join(path.read_text("utf-8") for path in files)
    used = [line for line in re.findall(r"uses: (.+)$", text, re.MULTILINE)]
    own = [line for line in used if line.startswith("./")]
    assert all((ROOT / line / "action.yml").exists() for line in own)
    pinned = r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
    assert not [line for line in set(used) - set(own) if not re.fullmatch(pinned, line)]
    versions = {line.partition("@")[0]: set[str]() for line in set(used) - set(own)}
    for line in set(used) - set(own):
        versions[line.partition("@")[0]].add(line)
    assert not [name for name, lines in versions.items() if len(lines) > 1]


def test_no_path_has_dots_which_the_actions_for_caches_and_artifacts_refuse() -> None:
    files = [*(GITHUB / "workflows").glob("*.yml"), *ACTIONS]
    assert not [file.name for file in files if "/.." in file.read_text("utf-8")]


@EACH_JOB
def test_jobs_that_install_other_packages_do_not_share_a_cache(job: dict[str, Any]) -> None:
    """A key is saved once; `test` is that of the environment without the deep tier."""
    caches = [s["with"]["cache"] for s in job["steps"] if s.get("uses", "").endswith("/setup")]
    runs = [step.get("run", "") for step in job["steps"]]
    others = [run for run in runs if re.match(r"make (test|lowest)( (?!DEEP=$)|$)", run)]
    assert "test" not in caches or not others


@EACH
def test_a_workflow_may_only_read_and_gives_way_to_its_next_run(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert "group" in WORKFLOWS[name]["concurrency"]
    assert "pull_request_target" not in events(name)


@pytest.mark.parametrize("name", ["deploy", "docs"])
def test_what_changes_one_place_runs_once_at_a_time_from_any_branch_or_tag(name: str) -> None:
    assert WORKFLOWS[name]["concurrency"] == {"group": name, "cancel-in-progress": False}


@EACH_JOB
def test_a_job_ends_in_time(job: dict[str, Any]) -> None:
    assert job["timeout-minutes"] <= 60


@EACH_JOB
def test_a_job_keeps_no_token_for_the_code_that_it_runs(job: dict[str, Any]) -> None:
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            pushes = job.get("permissions") == {"contents": "write"}
            assert step["with"]["persist-credentials"] is pushes


@EACH
def test_a_job_that_may_write_never_runs_the_code_of_a_pull_request(name: str) -> None:
    for job in WORKFLOWS[name]["jobs"].values():
        granted = {key for key, value in job.get("permissions", {}).items() if value == "write"}
        if "pull-requests" in granted:
            refs = [s["with"].get("ref") for s in job["steps"] if "checkout" in s.get("uses", "")]
            assert set(refs) <= {"${{ github.event.pull_request.base.sha }}"}
        if granted & PUBLISHING:
            only_push = job.get("if") == "github.event_name == 'push'"
            assert only_push or "pull_request" not in events(name)


def test_tests_cover_three_systems_three_pythons_and_both_ends_of_the_dependencies() -> None:
    matrix = WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    classifiers = (ROOT / "pyproject.toml").read_text("utf-8")
    assert matrix["python"] == re.findall(r"Python :: (3\.\d+)", classifiers)
    assert matrix["dependencies"] == ["lowest", "newest"]


def test_the_deep_tier_is_tested_with_the_oldest_and_the_locked_torch() -> None:
    (oldest,) = re.findall(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    (locked,) = re.findall(
        r"^torch==([\d.]+)", (ROOT / "requirements/torch.in").read_text("utf-8"), re.M
    )
    tested = WORKFLOWS["tests"]["jobs"]["deep"]["strategy"]["matrix"]["torch"]
    assert tested == [f"{oldest}.0", locked]


def test_the_dev_container_has_every_package_that_tests_drive_except_a_container_engine() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    (driven,) = re.findall(r"^SYSTEM_PACKAGES := (.+)$", makefile, re.MULTILINE)
    dockerfile = (ROOT / ".devcontainer/Dockerfile").read_text("utf-8").replace("\\\n", " ")
    (installed,) = re.findall(r"apt-get install .*--no-install-recommends +(.+?) +&&", dockerfile)
    assert set(driven.split()) - set(installed.split()) == {
        "docker.io",
        "docker-compose",
        "debootstrap",
    }


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_dev_container_is_built_from_files_that_exist_and_calls_targets_that_exist() -> None:
    folder = ROOT / ".devcontainer"
    container = json.loads((folder / "devcontainer.json").read_text("utf-8"))
    assert (folder / container["build"]["dockerfile"]).exists()
    assert (folder / container["build"]["context"]).resolve() == ROOT
    command = container["postCreateCommand"].partition(" && ")[0]
    assert re.fullmatch(r"make \S+", command)
    # The variables that a `make` around the tests was called with are not those of this call.
    environment = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    done = subprocess.run(
        [*command.split(), "--dry-run"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["data", "registry"])
def test_a_workflow_of_some_paths_fires_on_paths_that_exist(name: str) -> None:
    for pattern in events(name)["pull_request"]["paths"]:
        assert (ROOT / pattern.removesuffix("/**")).exists(), pattern


def test_a_change_of_what_an_image_is_built_from_builds_it() -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text("utf-8")
    copied = {
        word
        for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE)
        for word in line.split()
    } - {"README.md", "LICENSE"}  # which change no program
    copied |= {".dockerignore", ".devcontainer/Dockerfile"}
    assert {"src", "pyproject.toml"} <= copied
    patterns = [as_regex(glob) for glob in events("images")["pull_request"]["paths"]]
    fires = re.compile("|".join(patterns)).fullmatch
    assert not sorted(path for path in copied if not fires(path) and not fires(f"{path}/any"))


def test_the_images_that_are_pushed_are_stages_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text("utf-8")
    stages = set(re.findall(r"^FROM .+ AS (\S+)", dockerfile, re.MULTILINE))
    assert set(WORKFLOWS["images"]["jobs"]["push"]["strategy"]["matrix"]["image"]) <= stages


def test_an_image_is_scanned_before_it_is_pushed_and_its_contents_are_attested() -> None:
    steps = WORKFLOWS["images"]["jobs"]["push"]["steps"]
    done = [step.get("run") or step["uses"] for step in steps]
    places = {
        word: [place for place, text in enumerate(done) if word in text]
        for word in ("make images", "scan-action", "make sbom-image", "make push-image", "attest-")
    }
    order = [place for found in places.values() for place in found]
    assert order == sorted(order)
    assert [len(found) for found in places.values()] == [1, 1, 1, 1, 2]
    assert steps[places["scan-action"][0]]["with"]["image"] == "classmark/${{ matrix.image }}"
    attested = steps[places["attest-"][1]]["with"]
    assert attested["sbom-path"] == "build/sbom/${{ matrix.image }}.cdx.json"


def test_an_image_that_is_pushed_is_attested_whatever_else_happens() -> None:
    images = WORKFLOWS["images"]
    assert images["jobs"]["push"]["strategy"]["fail-fast"] is False
    only_pull_requests = "${{ github.event_name == 'pull_request' }}"
    assert images["concurrency"]["cancel-in-progress"] == only_pull_requests


def test_a_release_that_ended_halfway_can_be_run_again() -> None:
    """Packages that the index has already are not sent again; make release continues a draft."""
    steps = WORKFLOWS["release"]["jobs"]["publish"]["steps"]
    (upload,) = [step for step in steps if "pypi-publish" in step.get("uses", "")]
    assert upload["with"]["skip-existing"] is True


def test_every_room_and_its_tests_have_the_label_of_one_area() -> None:
    braces = re.compile(r"\{([a-z_,]+)\}")
    areas: dict[str, list[str]] = {}
    for label, (rule,) in LABELS.items():
        for pattern in rule["changed-files"][0]["any-glob-to-any-file"]:
            if pattern.startswith("{src/classmark,tests}/"):
                inside = pattern.removeprefix("{src/classmark,tests}/").removesuffix("/**")
                found = braces.fullmatch(inside)
                for room in (found[1] if found else inside).split(","):
                    areas.setdefault(room, []).append(label)
    rooms = {path.parent.name for path in (ROOT / "src/classmark").glob("*/__init__.py")}
    assert not sorted(rooms - areas.keys())
    assert not [room for room, labels in areas.items() if len(labels) > 1]
    parts = (ROOT / "src/classmark", ROOT / "tests")
    assert not [room for room in areas if not any((part / room).exists() for part in parts)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout of git")
def test_every_tracked_file_in_a_folder_has_the_label_of_an_area() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    files = [name for name in listed.stdout.decode().splitlines() if "/" in name]
    globs = [
        glob
        for (rule,) in LABELS.values()
        for glob in rule["changed-files"][0]["any-glob-to-any-file"]
    ]
    area = re.compile("|".join(as_regex(glob) for glob in globs))
    assert len(files) > 1_000
    assert not sorted({name for name in files if not area.fullmatch(name)})
    assert not [
        glob
        for glob in globs
        if not any(map(re.compile(as_regex(glob)).fullmatch, files)) and "/" in glob
    ]


def as_regex(glob: str) -> str:
    """Return a glob of the labeler as a regular expression: `**`, `*` and `{one,other}`."""
    parts = re.split(r"(\*\*|\*|\{.+?\})", glob)
    known = {"**": ".*", "*": "[^/]*"}
    return "".join(
        "(?:" + "|".join(map(re.escape, part[1:-1].split(","))) + ")"
        if part.startswith("{")
        else known.get(part, re.escape(part))
        for part in parts
    )


def test_only_the_job_of_labels_may_create_labels() -> None:
    may = [
        key
        for workflow in WORKFLOWS.values()
        for key, job in workflow["jobs"].items()
        if job.get("permissions", {}).get("issues") == "write"
    ]
    assert may == ["labels"]


def test_every_label_that_is_set_is_one_of_the_areas_or_of_github() -> None:
    forms = [read(path) for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml")]
    used = {label for form in forms for label in form.get("labels", ())}
    assert used
    assert used <= set(LABELS) | LABELS_OF_GITHUB


def test_dependabot_makes_its_own_labels_and_no_area_takes_them_away() -> None:
    """The labeler removes each of its labels from a pull request that changes other files."""
    assert not [one for one in UPDATES if "labels" in one]
    assert all(label.startswith("area: ") for label in LABELS)


def test_dependabot_looks_where_python_actions_and_images_are_named() -> None:
    found = {
        one["package-ecosystem"]: one.get("directories") or [one["directory"]] for one in UPDATES
    }
    assert set(found) == {"pip", "github-actions", "docker"}
    assert {f"/{path.parent.relative_to(ROOT)}" for path in ACTIONS} <= set(found["github-actions"])
    dockerfiles = {
        path.parent
        for place in ("deploy/*", ".devcontainer")
        for path in ROOT.glob(f"{place}/Dockerfile")
    }
    assert {f"/{path.relative_to(ROOT)}" for path in dockerfiles} == set(found["docker"])
    assert all(
        (ROOT / d.strip("/")).is_dir() for directories in found.values() for d in directories
    )
