"""The project template, from its generation to its green tests and a service that answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]

TEMPLATE = Path(__file__).parents[2] / "templates" / "project"
STAGES = ["build", "train", "export", "evaluate", "gate", "register"]
ANSWERS = {
    "name": "shelf-marks",
    "about": "Puts the papers of a library on their shelves.",
    "title_column": "Titel (kurz, deutsch)",
    "text_column": "Text",
    "label_column": "Fach",
    "least_top_1": "0.6",
}


def copier(destination: Path, **answers: str) -> subprocess.CompletedProcess[str]:
    data = [word for name, value in answers.items() for word in ("--data", f"{name}={value}")]
    where = (str(TEMPLATE), str(destination))
    return subprocess.run(
        [sys.executable, "-m", "copier", "copy", "--defaults", *data, *where],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was generated with names of its own."""
    folder = tmp_path_factory.mktemp("template") / "shelf-marks"
    made = copier(folder, **ANSWERS)
    assert made.returncode == 0, made.stderr
    return folder


def make(project: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    """Run make in a project with the environment of this test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {**kept, "PYTHONPATH": "", "CLASSMARK_HOME": str(project / "home")}
    return subprocess.run(
        ["make", "--no-print-directory", *targets, f"VENV={sys.prefix}"],
        cwd=project, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def classmark(project: Path, *words: str) -> str:
    """Return what a command prints in a project."""
    command = [sys.executable, "-m", "classmark", *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tested(project: Path) -> Path:
    """Return the project after `make sample test`."""
    done = make(project, "sample", "test")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"\b[5-9] passed", done.stdout)
    return project


def test_from_invented_papers_to_green_tests_with_labels_of_its_own(tested: Path) -> None:
    manifest = json.loads((tested / "dataset/manifest.json").read_text("utf-8"))
    assert manifest["label_space"] == "free"
    assert "Machine Learning" in manifest["labels"]
    papers = (tested / "data/papers.csv").read_text("utf-8")
    assert papers.startswith('id,"Titel (kurz, deutsch)",Text,Fach\n')
    assert (tested / "evaluation/report.json").exists()
    assert ANSWERS["about"] in (tested / "bundle/CARD.md").read_text("utf-8")


def test_what_is_made_is_not_made_again_until_the_papers_change(tested: Path) -> None:
    again = make(tested, "evaluate")
    assert re.findall(r"^(\w+) +unchanged$", again.stdout, re.MULTILINE) == STAGES
    assert (tested / "reports/evaluation.html").exists()
    papers = tested / "data/papers.csv"
    before = papers.read_text("utf-8")
    try:
        papers.write_text(before.replace("\n", "\r\n", 1), "utf-8", newline="")
        planned = classmark(tested, "pipeline", "run", "--dry-run")
        assert "build     would run    data/papers.csv has changed" in planned
        assert planned.count("would run") == len(STAGES)
    finally:
        papers.write_text(before, "utf-8")


def test_versions_go_to_a_folder_beside_the_project_or_to_a_bucket(
    tested: Path, tmp_path: Path
) -> None:
    assert "url = ../../shelf-marks-versions\n" in (tested / ".dvc/config").read_text("utf-8")
    assert classmark(tested, "pipeline", "init", "--check") == ""
    assert copier(tmp_path / "p", **ANSWERS, bucket="gs://papers/marks").returncode == 0
    config = (tmp_path / "p/.dvc/config").read_text("utf-8")
    assert "    url = gs://papers/marks\n    version_aware = true\n" in config


def test_a_model_that_is_too_weak_fails_the_tests(tested: Path) -> None:
    test = tested / "tests/test_model.py"
    before = test.read_text("utf-8")
    try:
        test.write_text(before.replace("LEAST_TOP_1 = 0.6", "LEAST_TOP_1 = 0.999"), "utf-8")
        failed = subprocess.run(
            [sys.executable, "-m", "pytest", "-q"],
            cwd=tested, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert failed.returncode == 1
        assert "test_enough_papers_get_the_right_label_first" in failed.stdout
    finally:
        test.write_text(before, "utf-8")


@pytest.fixture
def address(tested: Path) -> Iterator[str]:
    """Start `make serve`; yield where it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = subprocess.Popen(
        ["make", "serve", f"PORT={port}", f"VENV={sys.prefix}"],
        cwd=tested, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True, env={**os.environ, "CLASSMARK_HOME": str(tested / "home")},
    )  # fmt: skip
    try:
        assert service.stdout is not None
        assert any("shelf-marks@1.0" in line for line in service.stdout)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.communicate(timeout=60)


def test_the_service_of_the_project_answers_with_its_labels(address: str, tested: Path) -> None:
    text = "We prove a lower bound on the depth of Boolean circuits."
    answer = httpx.post(f"{address}/v1/classify", json={"text": text}, timeout=30).json()
    manifest = json.loads((tested / "dataset/manifest.json").read_text("utf-8"))
    assert {one["code"] for one in answer["ranked"]} <= set(manifest["labels"])


def test_without_papers_make_says_where_they_belong(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "p", ignore=shutil.ignore_patterns("papers.csv"))
    done = make(tmp_path / "p", "train")
    assert done.returncode == 2
    assert "data/papers.csv does not exist. Copy your papers there, or run: make sample" in (
        done.stderr
    )


def test_papers_of_your_own_are_not_replaced_by_invented_ones(
    project: Path, tmp_path: Path
) -> None:
    papers = shutil.copytree(project, tmp_path / "p") / "data/papers.csv"
    papers.write_text("mine", "utf-8")
    done = make(tmp_path / "p", "sample")
    assert done.returncode == 2
    assert "data/papers.csv exists. Delete it first, if it may be replaced." in done.stderr
    assert papers.read_text("utf-8") == "mine"


def test_a_later_template_reaches_the_project_by_the_command_of_the_how_to(
    project: Path, tmp_path: Path
) -> None:
    page = (TEMPLATE.parents[1] / "docs/how-to/own-labels.md").read_text("utf-8")
    (verb,) = set(re.findall(r"`copier (\w+)`", page))
    later = shutil.copytree(project, tmp_path / "p")
    (later / "Makefile").write_text("# of an earlier template\n", "utf-8")
    command = [sys.executable, "-m", "copier", verb, "--defaults", "--overwrite", str(later)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (later / "Makefile").read_bytes() == (project / "Makefile").read_bytes()


def test_readme_names_only_targets_of_the_makefile(project: Path) -> None:
    help_text = make(project, "help").stdout
    listed = set(re.findall(r"^  make (\S+) +\S", help_text, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z]+)", (project / "README.md").read_text(), re.MULTILINE))
    workflow = yaml.safe_load((project / ".github/workflows/tests.yml").read_text())
    steps = " ".join(step.get("run", "") for step in workflow["jobs"]["test"]["steps"])
    assert named | set(re.findall(r"make ([a-z]+)", steps)) <= listed
    assert "{{" not in "".join(
        file.read_text("utf-8").replace("${{", "")
        for file in project.rglob("*")
        if file.suffix in (".md", ".py", ".txt", ".yml") and "bundle" not in file.parts
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"name": "1 model"}, "Begin with a letter"),
        ({"least_top_1": "3"}, "From 0 to 1"),
        ({"bucket": "s3://papers"}, "Begin with gs://"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(
    tmp_path: Path, answer: dict[str, str], message: str
) -> None:
    refused = copier(tmp_path / "p", **{**ANSWERS, **answer})
    assert refused.returncode != 0
    assert message in refused.stderr
