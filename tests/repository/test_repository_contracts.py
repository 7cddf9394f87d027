"""The house: import contracts are kept, cover every room, and hold at run time too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "classmark"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONTRACTS = {item["id"]: item for item in PYPROJECT["tool"]["importlinter"]["contracts"]}
SERVING = {
    *("client", "errors", "records", "taxonomy", "storage", "papers", "bundle"),
    *("kernels", "neighbours", "runtime", "registry", "journal", "service", "bulk", "wire"),
}
DOWNWARDS = "imports go downwards only"
NEVER_SERVED = ["torch", "lightning", "transformers", "sklearn", "scipy", "hydra", "omegaconf"]
NEVER_SERVED += ["polars", "mlflow", "wandb", "evidently"]

IMPORT_WITHOUT = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocker())
for name in {modules!r}:
    module = importlib.import_module(name)
    for item in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        if item.name not in {elsewhere!r}:
            importlib.import_module(item.name)
{then}
"""


ELSEWHERE = {"classmark.service.bento"}
"""Modules that only BentoML imports, in an environment of its own."""


def rooms() -> set[str]:
    """Return the folders and modules of the package, by name."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}


def run_without(blocked: list[str], modules: list[str], then: str = "") -> Any:
    code = IMPORT_WITHOUT.format(
        blocked=set(blocked), modules=modules, elsewhere=ELSEWHERE, then=then
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False
    )


def lint_imports(folder: Path) -> Any:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as m; m()"]
    environment = {"PYTHONPATH": str(folder / "src"), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [*command, "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Return a folder with the contracts and empty modules, to be furnished badly."""
    for module in PACKAGE.rglob("*.py"):
        empty = tmp_path / "src/classmark" / module.relative_to(PACKAGE)
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_import_contract_is_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout
    assert f"{len(CONTRACTS)} kept, 0 broken" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "line", "broken"),
    [
        ("papers", "from classmark import dataset", "Imports go downwards only"),
        ("papers", "from classmark import bundle", "Imports go downwards only"),
        ("runtime", "def f():\n    import scipy.stats", "What serves never loads what trains"),
        ("papers", "import polars", "What serves never loads what trains"),
        ("cli", "import fastapi", "Only service and monitor know the web framework"),
        (
            "dataset/config",
            "from classmark.dataset import build",
            f"Inside dataset, {DOWNWARDS}",
        ),
        (
            "evaluation/metrics",
            "from classmark.evaluation import report",
            f"Inside evaluation, {DOWNWARDS}",
        ),
        (
            "pages/svg",
            "from classmark.pages import frame",
            f"Inside pages, {DOWNWARDS}",
        ),
        ("papers", "from google.cloud import storage", "Only storage and cloud know a cloud SDK"),
        (
            "service/requests",
            "from classmark.service import http",
            f"Inside service, {DOWNWARDS}",
        ),
        (
            "service/answering",
            "from classmark.service import problems",
            "Answering knows no problems and no HTTP",
        ),
        (
            "pipeline/linear",
            "from classmark.pipeline import cascade",
            "Kinds of model know nothing of each other",
        ),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    house: Path, room: str, line: str, broken: str
) -> None:
    module = house / "src/classmark" / f"{room}.py"
    (module if module.is_file() else module.with_suffix("") / "__init__.py").write_text(line + "\n")
    result = lint_imports(house)
    assert result.returncode == 1
    assert f"{broken} BROKEN" in result.stdout
    assert "1 broken" in result.stdout


def test_the_storage_room_may_import_a_cloud_sdk(house: Path) -> None:
    (house / "src/classmark/storage/__init__.py").write_text("from google.cloud import storage\n")
    assert lint_imports(house).returncode == 0


def test_a_room_that_is_not_on_the_plan_breaks_the_layers(house: Path) -> None:
    (house / "src/classmark/utils").mkdir()
    (house / "src/classmark/utils/__init__.py").touch()
    result = lint_imports(house)
    assert result.returncode == 1
    assert "classmark.utils" in result.stdout


def test_every_serving_room_that_exists_is_under_the_serving_contract() -> None:
    listed = {name.removeprefix("classmark.") for name in CONTRACTS["serving"]["source_modules"]}
    assert listed == rooms() & SERVING
    assert set(CONTRACTS["serving"]["forbidden_modules"]) == set(NEVER_SERVED)


@pytest.mark.slow
def test_serving_rooms_import_without_what_trains_and_without_pyarrow() -> None:
    modules = [f"classmark.{room}" for room in sorted(rooms() & SERVING)]
    # onnxruntime and tokenizers are asked for when a deep bundle is loaded, not before.
    blocked = [*NEVER_SERVED, "pyarrow", "matplotlib", "onnxruntime", "tokenizers"]
    result = run_without(blocked, modules)
    assert result.returncode == 0, result.stderr


def test_the_command_line_lists_its_verbs_without_numpy() -> None:
    then = "from classmark.__main__ import main; sys.argv = ['classmark', '--help']; main()"
    result = run_without([*NEVER_SERVED, "pyarrow", "numpy"], ["classmark.__main__"], then)
    assert result.returncode == 0, result.stderr
    assert "classify" in result.stdout


def test_importing_the_package_loads_nothing_but_the_standard_library() -> None:
    result = run_without(["numpy", "typer", "rich", "platformdirs"], ["classmark.errors"])
    assert result.returncode == 0, result.stderr
