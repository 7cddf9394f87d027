"""What the checks of the checklist are made of: each finds one fact about this checkout.

A fact is a function that returns "" where it holds, or else what is missing. Processes and files
that several items need are run or read once.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "classmark"
Fact = Callable[[], str]


class CannotTell(Exception):
    """A program that the check needs is not installed here."""


def run(*words: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Return exit code and output of a program, both streams together.

    Raises:
        CannotTell: it is not installed.
    """
    if shutil.which(words[0]) is None:
        raise CannotTell(f"{words[0]} is not installed here")
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "CLASSMARK_TRACKER": "csv", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def tool(module: str, *words: str) -> tuple[int, str]:
    """Return exit code and output of a Python program of this environment.

    Raises:
        CannotTell: it is not installed.
    """
    code, printed = run(sys.executable, "-m", module, *words)
    if f"No module named {module}" in printed:
        raise CannotTell(f"{module} is not installed here")
    return code, printed


def all_of(*facts: Fact) -> Fact:
    """Return the fact that all facts hold; the first that does not says what is missing."""
    return lambda: next(filter(None, (fact() for fact in facts)), "")


def holds(test: Callable[[], object], missing: str) -> Fact:
    """Return the fact that a test is true; a file that cannot be read makes it false."""

    def fact() -> str:
        try:
            return "" if test() else missing
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            return missing

    return fact


def exists(*patterns: str, missing: str) -> Fact:
    """Return the fact that each pattern finds a file in the checkout."""
    return holds(lambda: all(any(ROOT.glob(pattern)) for pattern in patterns), missing)


def parses(pattern: str, having: str, missing: str) -> Fact:
    """Return the fact that a pattern finds files of YAML or JSON, each an object with a key."""

    def test() -> bool:
        files = [(path, path.read_text("utf-8")) for path in ROOT.glob(pattern)]
        found = [(json.loads if p.suffix == ".json" else yaml.safe_load)(text) for p, text in files]
        return bool(found) and all(isinstance(each, dict) and having in each for each in found)

    return holds(test, missing)


def read(path: str) -> str:
    """Return the text of a file of the checkout."""
    return (ROOT / path).read_text("utf-8")


def report_of(name: str) -> Any:
    """Return the committed report whose name a pattern matches."""
    (path,) = (ROOT / "benchmarks" / "reports").glob(f"{name}.json")
    return json.loads(path.read_text("utf-8"))


def installs(group: str, *packages: str) -> Fact:
    """Return the fact that an extra asks for packages."""

    def test() -> bool:
        import tomllib

        extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
        return all(any(text.startswith(package) for text in extras[group]) for package in packages)

    return holds(test, f"the extra {group} with {', '.join(packages)}")


# --- programs ----------------------------------------------------------------------------------


@cache
def _help(words: tuple[str, ...]) -> tuple[int, str]:
    return run(sys.executable, "-m", "classmark", *words, "--help")


def command(*words: str, says: str = "") -> Fact:
    """Return the fact that a command of classmark has a help, which holds a word."""

    def test() -> bool:
        code, printed = _help(words)
        return code == 0 and says in printed

    return holds(test, f"`classmark {' '.join(words)}`" + (f" with {says}" if says else ""))


def target(name: str, *runs: str) -> Fact:
    """Return the fact that make has a target, and that it runs commands with these words."""

    def test() -> bool:
        code, plan = run("make", "--dry-run", "--always-make", name)
        return code == 0 and all(words in plan for words in runs)

    return holds(test, f"`make {name}`" + (f", which runs {', '.join(runs)}" if runs else ""))


FEWEST_TESTS = 5
# Collected in one process: what the items name, or a file of each.
TESTED = (
    "tests/dataset/test_dataset_build.py",
    "tests/training/test_training_linear.py",
    "tests/pipeline/test_pipeline_run.py",
    "tests/service/test_service_requests.py",
)


@cache
def collected() -> tuple[int, str]:
    """Return exit code and list of the tests that pytest collects from ``TESTED``."""
    options = ("-q", "--no-cov", "--collect-only", "-p", "no:cacheprovider", "-p", "no:xdist")
    return tool("pytest", *options, *TESTED)


def collects(*folders: str) -> Fact:
    """Return the fact that pytest collects tests from each of some folders."""

    def test() -> bool:
        code, listed = collected()
        return code == 0 and all(listed.count(f"{folder}/") >= FEWEST_TESTS for folder in folders)

    return holds(test, f"tests in {', '.join(folders)}")


def defines_tests(file: str) -> Fact:
    """Return the fact that a file has tests; imports nothing, so it needs no extra."""
    return holds(lambda: re.search(r"^def test_", read(file), re.MULTILINE), f"tests in {file}")


# --- workflows ---------------------------------------------------------------------------------


@cache
def workflows() -> tuple[Any, ...]:
    """Return the workflows of the checkout."""
    files = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
    return tuple(yaml.safe_load(file.read_text("utf-8")) for file in files)


def triggers(workflow: Any) -> Mapping[str, Any]:
    """Return what starts a workflow, with options; YAML 1.1 reads the key ``on`` as true."""
    found = workflow.get("on", workflow.get(True))
    if isinstance(found, str):
        return {found: {}}
    return found if isinstance(found, dict) else {name: {} for name in found}


def steps(workflow: Any) -> str:
    """Return what the jobs of a workflow run and use, those of local actions too, a line each."""
    return "\n".join(_lines(step for job in workflow["jobs"].values() for step in job["steps"]))


def _lines(steps: Iterable[Any]) -> Iterator[str]:
    for step in steps:
        yield from (str(step[key]) for key in ("run", "uses") if key in step)
        if str(step.get("uses", "")).startswith("./"):
            action = yaml.safe_load(read(f"{step['uses'][2:]}/action.yml"))
            yield from _lines(action["runs"]["steps"])


def paths_of(workflow: Any) -> str:
    """Return the paths whose changes start a workflow."""
    options = (value or {} for value in triggers(workflow).values())
    return " ".join(
        path for each in options if isinstance(each, dict) for path in each.get("paths", [])
    )


def workflow(missing: str, *runs: str, when: Callable[[Any], object] = bool) -> Fact:
    """Return the fact that one workflow runs all of some patterns and meets a condition."""

    def test() -> bool:
        return any(
            when(each) and all(re.search(pattern, steps(each)) for pattern in runs)
            for each in workflows()
        )

    return holds(test, missing)


def on_events(*names: str) -> Callable[[Any], bool]:
    """Return the condition that all these events start a workflow."""
    return lambda each: set(names) <= triggers(each).keys()


def axes(workflow: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the matrix of each job."""
    for job in workflow["jobs"].values():
        yield (job.get("strategy") or {}).get("matrix") or {}


# --- source ------------------------------------------------------------------------------------


@cache
def _trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py"))


def undocumented() -> list[str]:
    """Return public functions and classes of modules that lack a docstring, or types."""
    found = []
    for tree in _trees():
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            typed = isinstance(node, ast.ClassDef) or node.returns is not None
            if ast.get_docstring(node) is None or not typed:
                found.append(node.name)
    return found


def subclass_of(base: str) -> Fact:
    """Return the fact that the source has a class with this base."""

    def test() -> bool:
        classes = (n for tree in _trees() for n in ast.walk(tree) if isinstance(n, ast.ClassDef))
        return any(isinstance(b, ast.Name) and b.id == base for c in classes for b in c.bases)

    return holds(test, f"a {base} in src")


def configuration(*overrides: str, test: Callable[[Any], object] = bool) -> Fact:
    """Return the fact that Hydra composes the configuration of a fit with these overrides.

    Raises:
        CannotTell: a package that they need is not installed.
    """

    def composed() -> object:
        from classmark.errors import ClassmarkError, MissingExtra
        from classmark.pipeline.config import compose_config

        try:
            return test(compose_config(["dataset.path=data", *overrides]))
        except MissingExtra as error:
            raise CannotTell(str(error)) from error
        except ClassmarkError:
            return False

    return holds(composed, f"the configuration {' '.join(overrides)}")


# --- the system, run ---------------------------------------------------------------------------


@cache
def offline_path() -> Mapping[str, int]:
    """Return what the commands from papers to a fitted model leave: papers kept, epochs, scores.

    The papers are invented, and the fit has one epoch. What a command did not leave is not listed.
    """
    left = {}
    with tempfile.TemporaryDirectory() as name:
        for words in (
            "dataset sample --papers 600 --csv papers.csv",
            "dataset build papers.csv --output data --min-papers 5",
            "train dataset.path=data model.epochs=1",
        ):
            run(sys.executable, "-m", "classmark", *words.split(), cwd=Path(name))
        for manifest in Path(name).glob("data/manifest.json"):
            left["kept"] = int(json.loads(manifest.read_text("utf-8"))["kept"])
        for config in Path(name).glob("runs/*/config.yaml"):
            left["epochs"] = int(yaml.safe_load(config.read_text("utf-8"))["model"]["epochs"])
        left["scores"] = len(list(Path(name).glob("runs/*/scores/*test.npz")))
        left["tracked"] = len(list(Path(name).glob("runs/*/metrics.csv")))
    return left


@dataclass(frozen=True)
class Served:
    """What a service that was really started returned.

    Attributes:
        answer: of a paper, by its route.
        page: of ``/``.
        document: OpenAPI.
        metrics: of ``/metrics``.
        events: those of its log, in order.
        predictions: how many the journal holds after it has stopped.
    """

    answer: Mapping[str, Any]
    page: str
    document: Mapping[str, Any]
    metrics: str
    events: tuple[str, ...]
    predictions: int


@cache
def served() -> Served:
    """Start the service, send a paper, stop it, and return what was seen.

    Raises:
        ValueError: it did not start.
    """
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        with _service(name, log) as address:
            paper = {"abstract": "We prove a lower bound on the depth of Boolean circuits."}
            answer = json.loads(fetch(f"{address}/v1/classify", paper))
            pages = [fetch(f"{address}{path}") for path in ("/", "/openapi.json", "/metrics")]
        code, counted = run(
            sys.executable, "-m", "classmark", "journal", "status", "--json", CLASSMARK_HOME=name
        )
        events = tuple(json.loads(line)["event"] for line in log.read_text("utf-8").splitlines())
        predictions = 0 if code else int(json.loads(counted)["predictions"])
    page, document, metrics = pages
    return Served(answer, page, json.loads(document), metrics, events, predictions)


@contextmanager
def _service(home: str, log: Path) -> Iterator[str]:
    """Start a service for the block, and yield its address."""
    words = ["serve", "--port", "0", "--workers", "1", "--log-file", str(log)]
    with subprocess.Popen(
        [sys.executable, "-m", "classmark", *words],
        env={**os.environ, "CLASSMARK_HOME": home},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline())
            if address is None:
                raise ValueError("the service did not start")
            yield address[0]
        finally:
            process.terminate()


def fetch(url: str, body: object = None) -> str:
    """Return what an address answers, to a JSON body if there is one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return str(reply.read().decode())
