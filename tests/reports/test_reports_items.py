"""The checks of the checklist: an item is done where a thing works, and not yet where it breaks.

A small checkout holds only what the checks of some items look at.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow  # a process for each question
ROOT = Path(__file__).parents[2]
CHECKOUT = (".ci", "reports", "deploy/docker", "requirements", "Makefile", "pyproject.toml")
TESTS = {
    "on": {"push": None, "pull_request": None},
    "jobs": {
        "test": {
            "strategy": {
                "matrix": {"os": [1, 2, 3], "python": [1, 2, 3], "deps": ["lowest", "newest"]}
            },
            "steps": [{"uses": "./.github/actions/setup"}, {"run": "make test"}],
        },
    },
}
ACTION = {"runs": {"steps": [{"uses": "actions/cache@v5"}]}}


def workflow(on: Any, *runs: str, name: str = "") -> dict[str, Any]:
    steps = [{"run": words} for words in runs]
    return {"name": name, "on": on, "jobs": {"one": {"steps": steps}}}


WORKFLOWS: dict[str, Any] = {
    "tests": TESTS,
    "quality": workflow({"pull_request": None}, "make check"),
    "data": workflow({"pull_request": {"paths": ["data/**"]}}, "make data-report"),
    "registry": workflow({"pull_request": {"paths": ["x"]}}, "make model-gate", name="registry"),
    "images": workflow({"push": {"tags": ["v*"]}}, "make images"),
    "dvc": workflow({"push": None, "pull_request": None}, "make test-dvc"),
    "docs": workflow({"push": None}, "make publish-docs"),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which the items of workflows and container files are done."""
    for name in CHECKOUT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, tmp_path / name)
    write(tmp_path / ".github/actions/setup/action.yml", ACTION)
    for name, content in WORKFLOWS.items():
        write(tmp_path / f".github/workflows/{name}.yml", content)
    return tmp_path


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))


def states(checkout: Path, *numbers: int) -> dict[int, str]:
    options = [word for number in numbers for word in ("--only", str(number))]
    command = [sys.executable, "reports/report.py", "status", "--json", *options]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {found["number"]: found["state"] for found in json.loads(done.stdout)}


def test_the_items_of_workflows_are_done_where_the_workflows_are_there(checkout: Path) -> None:
    numbers = (24, 25, 26, 28, 29, 31, 49)
    assert states(checkout, *numbers) == dict.fromkeys(numbers, "done")


def without(name: str) -> Callable[[Path], None]:
    return lambda checkout: (checkout / f".github/workflows/{name}.yml").unlink()


def instead(name: str, content: Any) -> Callable[[Path], None]:
    return lambda checkout: write(checkout / f".github/workflows/{name}.yml", content)


MATRIX = TESTS["jobs"]["test"]["strategy"]["matrix"]  # type: ignore[index]


def with_matrix(**changes: Any) -> dict[str, Any]:
    job = {**TESTS["jobs"]["test"], "strategy": {"matrix": {**MATRIX, **changes}}}  # type: ignore[index]
    return {**TESTS, "jobs": {"test": job}}


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (24, without("tests")),
        (24, instead("tests", {**TESTS, "on": "workflow_dispatch"})),
        (24, instead("tests", "no: [yaml")),
        (25, instead("tests", with_matrix(os=[1]))),
        (25, instead("tests", with_matrix(python=[1, 2]))),
        (25, instead("tests", with_matrix(deps=["newest"]))),
        (
            25,
            lambda checkout: write(
                checkout / ".github/actions/setup/action.yml", {"runs": {"steps": []}}
            ),
        ),
        (26, instead("quality", workflow({"pull_request": None}, "make quick"))),
        (26, lambda checkout: write(checkout / "Makefile", "check:\n\ttrue\n")),
        (28, instead("data", workflow({"pull_request": None}, "make data-report"))),
        (29, without("registry")),
        (31, instead("images", workflow({"workflow_dispatch": None}, "make images"))),
        (49, instead("docs", workflow({"push": None}, "make docs"))),
    ],
)
def test_an_item_is_not_yet_once_its_workflow_breaks(
    checkout: Path, number: int, change: Any
) -> None:
    change(checkout)
    assert states(checkout, number) == {number: "not yet"}


def test_the_images_are_done_once_a_report_names_them_all(checkout: Path) -> None:
    assert states(checkout, 12, 13) == {12: "done", 13: "not yet"}
    sys.path.append(str(ROOT / "deploy" / "docker"))
    from images import TARGETS

    report = checkout / "benchmarks" / "reports" / "containers.json"
    images = {target: {"version_s": 0.4} for target in TARGETS}
    write(report, json.dumps({"images": images}))
    assert states(checkout, 13) == {13: "done"}
    del images[TARGETS[0]]
    write(report, json.dumps({"images": images}))
    assert states(checkout, 13) == {13: "not yet"}
    dockerfile = checkout / "deploy/docker/Dockerfile"
    write(dockerfile, dockerfile.read_text().replace(f" AS {TARGETS[0]}\n", " AS other\n"))
    assert states(checkout, 12) == {12: "not yet"}


def test_a_bucket_is_done_once_projects_can_name_one_and_it_is_tested(checkout: Path) -> None:
    shutil.copytree(ROOT / "templates", checkout / "templates")
    assert states(checkout, 30) == {30: "done"}
    without("dvc")(checkout)
    assert states(checkout, 30) == {30: "not yet"}
    instead("dvc", WORKFLOWS["dvc"])(checkout)
    config = checkout / "templates/project/files/.dvc/config.jinja"
    write(config, config.read_text().replace("    version_aware = true\n", ""))
    assert states(checkout, 30) == {30: "not yet"}


REQUESTS = "src/classmark/cloud/training/requests"
RUN = "src/classmark/cloud/serving/run"
WATCHED = "deploy/gcp/monitoring"


@pytest.mark.parametrize(
    ("number", "kept", "tests"),
    [
        (32, f"{REQUESTS}/vertex-gpu.yaml", "training"),
        (32, f"{REQUESTS}/compute.yaml", "training"),
        (34, f"{RUN}/service.yaml", "serving"),
        (41, f"{RUN}/monitor.yaml", "serving"),
        (43, f"{WATCHED}/dashboards/service.json", "watch"),
        (43, f"{WATCHED}/checks/classmark.json", "watch"),
        (44, f"{WATCHED}/policies/classmarkdriftpage.json", "fire"),
    ],
)
def test_what_google_is_asked_for_is_done_until_it_breaks_or_is_not_tested(
    checkout: Path, number: int, kept: str, tests: str
) -> None:
    for folder in (REQUESTS, RUN, WATCHED):
        shutil.copytree(ROOT / folder, checkout / folder)
    file = checkout / f"tests/cloud/test_cloud_{tests}.py"
    write(file, "def test_it() -> None: ...\n")
    assert states(checkout, number) == {number: "done"}
    for path, broken in ((checkout / kept, "{}"), (file, ""), (file, None)):
        before = path.read_text()
        path.write_text(broken) if broken is not None else without("tests")(checkout)
        assert states(checkout, number) == {number: "not yet"}
        path.write_text(before)


def test_documentation_is_not_yet_while_a_page_of_the_navigation_is_missing(
    checkout: Path,
) -> None:
    pages = [f"page-{number}.md" for number in range(25)]
    lines = "".join(f"  - {page}: {page}\n" for page in pages)
    write(checkout / "mkdocs.yml", f"site_name: x\nnav:\n{lines}")
    for page in pages:
        write(checkout / "docs" / page, "# Page\n")
    assert states(checkout, 48) == {48: "done"}
    (checkout / "docs" / pages[3]).unlink()
    assert states(checkout, 48) == {48: "not yet"}


def test_what_cannot_be_found_out_is_unknown_and_what_cannot_apply_says_so(
    checkout: Path,
) -> None:
    assert states(checkout, 1, 2, 53) == {1: "unknown", 2: "not applicable", 53: "not applicable"}


def test_a_part_of_the_checklist_is_not_written(checkout: Path) -> None:
    command = [sys.executable, "reports/report.py", "status", "--write", "--only", "1"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: --write needs every item. Leave out --only.\n"
