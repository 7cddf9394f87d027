"""The checklist: 53 items, each with the check that decides its state."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal

import yaml

from reports.checks import (
    ROOT,
    CannotTell,
    Fact,
    all_of,
    axes,
    collected,
    collects,
    command,
    configuration,
    defines_tests,
    exists,
    holds,
    installs,
    offline_path,
    on_events,
    parses,
    paths_of,
    read,
    report_of,
    run,
    served,
    subclass_of,
    target,
    tool,
    triggers,
    undocumented,
    workflow,
)

State = Literal["done", "not yet", "not applicable", "unknown"]


@dataclass(frozen=True)
class Item:
    """One item of the checklist.

    Attributes:
        number: from 1.
        module: week and module of the course that it belongs to.
        title: what has to be shown.
        check: the fact that decides its state; a string is the reason why it does not apply.
        shown_by: what shows it, once it is done.
    """

    number: int
    module: str
    title: str
    check: Fact | str
    shown_by: str = ""


@dataclass(frozen=True)
class Finding:
    """State of an item, and what is missing or why it cannot be found out here."""

    number: int
    state: State
    missing: str = ""


def state_of(item: Item) -> Finding:
    """Run the check of an item."""
    if isinstance(item.check, str):
        return Finding(item.number, "not applicable", item.check)
    try:
        missing = item.check()
    except CannotTell as error:
        return Finding(item.number, "unknown", str(error))
    return Finding(item.number, "not yet" if missing else "done", missing)


def find_states(only: Collection[int] = ()) -> list[Finding]:
    """Run all checks, first the processes that take seconds, two at a time.

    Args:
        only: numbers of items; none means all.
    """
    if not only:
        with ThreadPoolExecutor(2) as pool:
            for probe in (offline_path, served, collected, _locks_cover_pyproject):
                pool.submit(probe)
    return [state_of(item) for item in ITEMS if not only or item.number in only]


# --- facts that are longer than a line ------------------------------------------------------------


def _in_git() -> bool:
    code, commits = run("git", "rev-list", "--count", "HEAD")
    if code:
        raise CannotTell("an export without history")
    return int(commits) > 0


def _has_template() -> bool:
    names = ("copier.yml", "copier.yaml", "cookiecutter.json")
    found = [file for name in names for file in (ROOT / "templates").rglob(name)]
    return bool(found) and all(yaml.safe_load(file.read_text("utf-8")) for file in found)


def _asks_for_a_bucket() -> bool:
    folder = "templates/project"
    question = yaml.safe_load(read(f"{folder}/copier.yml"))["bucket"]
    config = read(f"{folder}/files/.dvc/config.jinja")
    remote = config.partition("{%- if bucket %}")[2].partition("{%- else %}")[0]
    return "gs://" in question["validator"] and {
        "url = {{ bucket }}",
        "version_aware = true",
    } <= {line.strip() for line in remote.splitlines()}


def _images() -> ModuleType:
    spec = importlib.util.spec_from_file_location("images", ROOT / "deploy/docker/images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def _stages() -> set[str]:
    return set(
        re.findall(r"^FROM .* AS ([a-z-]+)$", read("deploy/docker/Dockerfile"), re.MULTILINE)
    )


def _images_were_run() -> bool:
    found = report_of("containers")["images"]
    return all(found[name]["version_s"] > 0 for name in _images().TARGETS)


@cache
def _locks_cover_pyproject() -> bool:
    options = ("-q", "--no-cov", "-p", "no:cacheprovider")
    return tool("pytest", *options, "tests/repository/test_repository_locks.py")[0] == 0


def _formatted() -> bool:
    folders = ("src", "benchmarks", "deploy", "docs", "reports")
    options = ("--quiet", *folders)
    return not any(
        tool("ruff", *words, *options)[0] for words in (("check",), ("format", "--check"))
    )


def _every_experiment_composes() -> str:
    files = sorted((ROOT / "src/classmark/conf/experiment").rglob("*.yaml"))
    folder = ROOT / "src/classmark/conf/experiment"
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    return all_of(*(configuration(f"experiment={name}") for name in names))() if names else "conf"


def _navigation() -> list[str]:
    text = read("mkdocs.yml").partition("\nnav:")[2]
    return re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)


def _every_page_exists() -> bool:
    pages = [ROOT / "docs" / page for page in _navigation()]
    # The page of a notebook is made when the site is built.
    found = [page.is_file() or page.with_suffix(".ipynb").is_file() for page in pages]
    return len(found) > 20 and all(found)


def _systems_pythons_dependencies(each: Any) -> bool:
    return any(
        len(matrix.get("os", ())) >= 3
        and len(matrix.get("python", matrix.get("python-version", ()))) >= 3
        and "lowest" in json.dumps(matrix)
        for matrix in axes(each)
    )


def _is_about(*words: str) -> Any:
    return lambda each: any(word in paths_of(each) for word in words)


def _two_bits_int8_and_compiled() -> bool:
    (path,) = (ROOT / "src/classmark/bundles").glob("*/bundle.json")
    bundle = json.loads(path.read_text("utf-8"))
    kernels: Mapping[str, Any] = report_of("deep")["kernels"]
    faster = kernels["ONNX int8"]["papers_per_cpu_s"] > kernels["torch fp32"]["papers_per_cpu_s"]
    kernel = report_of("fast-speed")["c"]["kernel"].startswith("c")
    return bool(bundle["parameters"]["row_bits"] == 2 and faster and kernel)


def _robust_to_later_years() -> bool:
    kinds = {kind["name"] for kind in report_of("robustness-*")["kinds"]}
    return "later-years" in kinds and bool(report_of("decay")["recovered"])


def _looked_back() -> bool:
    return len(read("reports/README.md").partition("## The first description, revisited")[2]) > 500


# --- the items ------------------------------------------------------------------------------------

_tested_with_dvc = workflow(
    "a workflow that runs `make test-dvc`", "make test-dvc", when=on_events("push", "pull_request")
)
_tested = workflow(
    "a workflow that runs `make test`",
    r"make test(?![-\w])",
    when=on_events("push", "pull_request"),
)
# No account can be reached from here: what concerns Google was never shown in a real project.
_EMULATED = "with Google's own clients against servers on the same machine, in no real project"


def _emulated(*facts: Fact, tests: str) -> Fact:
    """Return the fact that what Google is asked for exists, and that CI tests it."""
    return all_of(*facts, defines_tests(tests), _tested)


ITEMS = (
    Item(1, "w1 M5", "The work is in a git repository", holds(_in_git, "a commit"), "`git log`"),
    Item(2, "w1 M5", "Everybody who works on it can push to it",
         "nobody else can push: no hosting service can be reached from here"),
    Item(3, "w1 M2", "Packages live in an environment of their own",
         all_of(target("demo", "-m venv", "--require-hashes"), target("quick", "-m venv")),
         "`make demo` and `make test` each create one"),
    Item(4, "w1 M6", "The folders come from a template",
         holds(_has_template, "a template for projects"),
         "`templates/`, which starts a project on classmark"),
    Item(5, "w1 M6", "A data module downloads and prepares the data",
         all_of(command("dataset", "download", says="kaggle"),
                holds(lambda: offline_path()["kept"] > 500, "`classmark dataset build`")),
         "`classmark dataset download`, `classmark dataset build`"),
    Item(6, "w1 M6", "A model and its training run",
         holds(lambda: offline_path()["scores"] > 0, "`classmark train`"), "`classmark train`"),
    Item(7, "w1 M2, M6", "The requirements are up to date",
         holds(_locks_cover_pyproject, "locks that cover pyproject.toml"),
         "`make lock`; tests/repository/test_repository_locks.py"),
    Item(8, "w1 M7", "The code keeps to PEP 8",
         holds(_formatted, "ruff check and ruff format on the source"),
         "`ruff check`, `ruff format --check`"),
    Item(9, "w1 M7", "Essential code has types and docstrings",
         all_of(holds(lambda: not undocumented(), "docstrings and types in src"),
                target("check", "mypy")),
         "every public function of src; mypy strict in `make check`"),
    Item(10, "w1 M8", "The data are under version control",
         all_of(installs("dvc", "dvc"), command("pipeline", "init", says="dvc.yaml"),
                _tested_with_dvc),
         "`classmark pipeline init` and `dvc repro`; `make test-dvc`"),
    Item(11, "w1 M9", "Command lines and project commands",
         all_of(command(says="classify"), target("help")), "`classmark --help`, `make help`"),
    Item(12, "w1 M10", "Container files",
         holds(lambda: set(_images().TARGETS) <= _stages(), "a stage for each image"),
         "deploy/docker/Dockerfile"),
    Item(13, "w1 M10", "The images are built and run",
         holds(_images_were_run, "every image in benchmarks/reports/containers.json"),
         "`make test-images`, benchmarks/reports/containers.json"),
    Item(14, "w1 M11", "Experiments have configuration files", _every_experiment_composes,
         "src/classmark/conf/experiment, each composed"),
    Item(15, "w1 M11", "Hydra loads them and manages hyperparameters",
         all_of(holds(lambda: offline_path()["epochs"] == 1, "an override that reaches a run"),
                configuration("model.epochs=9", test=lambda c: c.model.epochs == 9)),
         "`classmark train experiment=... model.epochs=9`"),
    Item(16, "w1 M12", "Profiling led to an optimisation",
         holds(lambda: {"before", "after"} <= report_of("profile*").keys(),
               "a report of a profile, before and after"),
         "benchmarks/reports/profile*.json"),
    Item(17, "w1 M14", "Important events are logged",
         holds(lambda: {"ready", "request", "stopped"} <= set(served().events), "the log"),
         "JSON lines of `classmark serve`"),
    Item(18, "w1 M14", "Weights & Biases keeps metrics and artifacts",
         all_of(installs("wandb", "wandb"), configuration("tracker=wandb")),
         "`classmark train tracker=wandb`"),
    Item(19, "w1 M14", "A sweep over hyperparameters",
         all_of(holds(lambda: len(report_of("sweep*")["trials"]) > 1, "a report of a sweep"),
                command("sweep")),
         "`classmark sweep`, benchmarks/reports/sweep*.json"),
    Item(20, "w1 M15", "PyTorch Lightning instead of boilerplate",
         all_of(subclass_of("LightningModule"), installs("deep", "lightning"),
                configuration("model=transformer")),
         "src/classmark/training/transformer"),
    Item(21, "w2 M16", "Tests of the data", collects("tests/dataset"),
         "tests/dataset, tests/papers"),
    Item(22, "w2 M16", "Tests of model and training", collects("tests/training", "tests/pipeline"),
         "tests/training, tests/pipeline, tests/kernels"),
    Item(23, "w2 M16", "Coverage is calculated",
         all_of(target("test", "--cov"), holds(
             lambda: int(re.findall(r"fail_under = (\d+)", read("pyproject.toml"))[0]) >= 95,
             "a threshold of 95 %")),
         "`make test`, at least 95 % of branches"),
    Item(24, "w2 M17", "Continuous integration on GitHub",
         _tested, ".github/workflows"),
    Item(25, "w2 M17", "Caches; several systems, Pythons and versions of dependencies",
         workflow("a matrix with the lowest and newest dependencies", "actions/cache",
                  when=_systems_pythons_dependencies),
         "the matrix of the tests in .github/workflows"),
    Item(26, "w2 M17", "Linting is part of it",
         all_of(workflow("a workflow that runs `make check`", "make check",
                         when=on_events("pull_request")), target("check", "ruff check")),
         "`make check` in .github/workflows"),
    Item(27, "w2 M18", "Pre-commit hooks",
         holds(lambda: tool("pre_commit", "validate-config")[0] == 0, "a valid configuration"),
         ".pre-commit-config.yaml"),
    Item(28, "w2 M19", "A workflow that starts when data change",
         workflow("a workflow for changes of data", r"dataset stats|make data",
                  when=_is_about("data", ".dvc")),
         ".github/workflows"),
    Item(29, "w2 M19", "A workflow that starts when the model registry changes",
         workflow("a workflow for staged models", "classmark|make",
                  when=lambda w: "registry" in str(w.get("name", "")).lower()
                  and {"repository_dispatch", "push", "pull_request"} & triggers(w).keys()),
         ".github/workflows"),
    Item(30, "w2 M21", "A bucket in the cloud, linked to versions of the data",
         all_of(holds(_asks_for_a_bucket, "a remote of DVC in a bucket"), _tested_with_dvc),
         "`bucket` of `templates/project`; `make test-dvc`, against a bucket on the same machine"),
    Item(31, "w2 M21", "A trigger that builds the images",
         workflow("a workflow that builds the images", r"make (?:test-)?images|docker build",
                  when=lambda w: "push" in triggers(w)),
         ".github/workflows"),
    Item(32, "w2 M21", "Training on Compute Engine or Vertex AI",
         _emulated(command("cloud", "train", says="Vertex"),
                   parses("src/classmark/cloud/training/requests/vertex-*.yaml", "jobSpec",
                          "requests for jobs of Vertex AI"),
                   parses("src/classmark/cloud/training/requests/compute.yaml", "machineType",
                          "a request for a machine of Compute Engine"),
                   tests="tests/cloud/test_cloud_training.py"),
         f"`classmark cloud train`; tests/cloud, {_EMULATED}"),
    Item(33, "w2 M22", "FastAPI answers requests",
         holds(lambda: served().answer["ranked"] and served().document["openapi"],
               "an answer over HTTP"),
         "`classmark serve`, its OpenAPI document"),
    Item(34, "w2 M23", "Deployment on Cloud Functions or Cloud Run",
         _emulated(command("cloud", "deploy", says="Cloud Run"),
                   parses("src/classmark/cloud/serving/run/service.yaml", "template",
                          "a service of Cloud Run"),
                   tests="tests/cloud/test_cloud_serving.py"),
         f"`classmark cloud deploy service`; tests/cloud, {_EMULATED}"),
    Item(35, "w2 M24", "The API is tested, in continuous integration too",
         all_of(collects("tests/service"), _tested),
         "tests/service in `make test`"),
    Item(36, "w2 M24", "A load test of the API",
         all_of(holds(lambda: "HttpUser" in read("benchmarks/locustfile.py"), "a file for Locust"),
                holds(lambda: report_of("service")["headline"]["single_requests_per_s"] > 0,
                      "a report of a load test")),
         "benchmarks/locustfile.py, benchmarks/reports/service.json"),
    Item(37, "w2 M25", "An API made for the model, with ONNX or BentoML",
         all_of(installs("onnx", "onnxruntime"), holds(
             lambda: report_of("deep")["serving"]["times_plain"] > 1, "a measured ONNX service")),
         "`classmark serve` of an ONNX model, benchmarks/reports/deep.json"),
    Item(38, "w2 M26", "A frontend",
         holds(lambda: "<form" in served().page and "app.js" in served().page, "a web page"),
         "the page of `classmark serve`"),
    Item(39, "w3 M27", "The effect of drift on the model is known",
         all_of(holds(_robust_to_later_years, "a report of later years"),
                command("evaluate", "robustness")),
         "`classmark evaluate robustness`, benchmarks/reports/decay.json"),
    Item(40, "w3 M27", "Requests and predictions of the service are kept",
         holds(lambda: served().predictions == 1, "the journal"),
         "`classmark journal export`"),
    Item(41, "w3 M27", "An API in the cloud that detects drift",
         _emulated(command("monitor", "serve"),
                   parses("src/classmark/cloud/serving/run/monitor.yaml", "template",
                          "a service of Cloud Run for the monitor"),
                   tests="tests/cloud/test_cloud_serving.py"),
         f"`classmark cloud deploy monitor`; tests/monitor and tests/cloud, {_EMULATED}"),
    Item(42, "w3 M28", "The API reports metrics of the system",
         holds(lambda: "process_resident_memory_bytes" in served().metrics
               and "classmark_request_seconds" in served().metrics, "metrics"),
         "`/metrics` of `classmark serve`"),
    Item(43, "w3 M28", "It is monitored in the cloud",
         _emulated(parses("deploy/gcp/monitoring/dashboards/*.json", "mosaicLayout", "dashboards"),
                   parses("deploy/gcp/monitoring/objectives/*.json", "goal", "objectives"),
                   parses("deploy/gcp/monitoring/checks/*.json", "httpCheck", "an uptime check"),
                   tests="tests/cloud/test_cloud_watch.py"),
         f"deploy/gcp/monitoring; tests/cloud, {_EMULATED}"),
    Item(44, "w3 M28", "Alerts in the cloud",
         _emulated(command("cloud", "alert-test"),
                   parses("deploy/gcp/monitoring/policies/*.json", "conditions", "alert policies"),
                   tests="tests/cloud/test_cloud_fire.py"),
         f"`classmark cloud alerts`, `alert-test`; tests/cloud, {_EMULATED}"),
    Item(45, "w3 M29", "Data are loaded by several processes",
         holds(lambda: len(report_of("*loading*")["workers"]) > 1,
               "a report of a loader with several processes"),
         "benchmarks/reports"),
    Item(46, "w3 M30", "Training on several devices",
         all_of(configuration("model=transformer", "model.devices=2"),
                holds(lambda: report_of("*distributed*")["devices"] > 1, "a report of such a fit")),
         "`model.devices=2`"),
    Item(47, "w3 M31", "Quantisation, compilation, pruning",
         holds(_two_bits_int8_and_compiled, "a quantised model that is faster"),
         "two bits a weight, int8 in ONNX, a compiled kernel, a pruned vocabulary"),
    Item(48, "extra M32", "Documentation", all_of(
        holds(_every_page_exists, "every page of mkdocs.yml"), target("docs", "mkdocs")),
        "`make docs`"),
    Item(49, "extra M32", "It is published on GitHub Pages",
         workflow("a workflow that publishes them", "make publish-docs|actions/deploy-pages",
                  when=on_events("push")),
         ".github/workflows"),
    Item(50, "extra", "The first description, revisited",
         holds(_looked_back, "the section in this report"), "the section below"),
    Item(51, "extra", "A diagram of the pipeline",
         exists("reports/figures/pipeline.png", missing="the diagram"), "question 29"),
    Item(52, "extra", "Everybody can understand every part",
         exists("docs/reference/glossary.md", "docs/path/06*.md", "docs/tutorial.md",
                "docs/notebooks/*.ipynb", missing="path, tutorial, notebooks or glossary"),
         "the path of a model, tutorial, notebooks, glossary"),
    Item(53, "extra", "All code is on GitHub",
         "no hosting service can be reached from here; the repository is ready to be pushed"),
)  # fmt: skip
