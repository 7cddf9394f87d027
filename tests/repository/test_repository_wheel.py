"""The wheel that people install: complete, light, free of tests, and working on its own."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from classmark import __version__

ROOT = Path(__file__).parents[2]
MAX_WHEEL_BYTES = 26 * 10**6
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.pyd")

pytestmark = pytest.mark.slow  # builds a wheel and an environment: about ten seconds


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built, without network, from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=LEFT_OUT)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, cwd=source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the scripts folder of a fresh environment that holds the wheel.

    What the wheel depends on is lent from this environment by a path file, so that no network is
    needed; classmark itself comes from the wheel (the editable install is not followed).
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    uv = Path(sys.executable).parent / "uv"
    install = [uv, "pip", "install", "--offline", "--no-deps", "--python", scripts / "python"]
    run(*install, wheel, cwd=folder)
    home = run(
        scripts / "python",
        "-c",
        "import sysconfig; print(sysconfig.get_paths()['purelib'])",
        cwd=folder,
    )
    (Path(home.strip()) / "lent.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return scripts


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_is_at_most_26_megabytes(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES


def test_wheel_holds_the_model_the_configuration_and_the_type_marker(wheel: Path) -> None:
    held = names(wheel)
    assert "classmark/py.typed" in held
    for folder, suffix in (("bundles", ".json"), ("bundles", ".npy"), ("conf", ".yaml")):
        inside = f"classmark/{folder}/"
        assert any(name.startswith(inside) and name.endswith(suffix) for name in held), inside


def test_wheel_holds_every_data_file_of_the_package(wheel: Path) -> None:
    held = set(names(wheel))
    package = ROOT / "src"
    suffixes = {".json", ".jsonl", ".yaml", ".npy", ".md", ".py", ".html", ".css", ".js", ".svg"}
    expected = {
        path.relative_to(package).as_posix()
        for path in (package / "classmark").rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }
    assert not expected - held


def test_wheel_holds_the_licence_and_neither_tests_nor_benchmarks(wheel: Path) -> None:
    held = names(wheel)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    tops = {name.partition("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"classmark"}
    assert not [name for name in held if "test" in name.rpartition("/")[2]]


def test_installed_wheel_tells_its_version(installed: Path, tmp_path: Path) -> None:
    output = run(installed / "classmark", "--version", cwd=tmp_path)
    assert output.startswith(f"classmark {__version__},")


def test_installed_wheel_classifies_a_text_with_the_model_inside(
    installed: Path, tmp_path: Path
) -> None:
    text = "We train neural networks to translate between natural languages."
    output = run(installed / "classmark", "classify", text, cwd=tmp_path)
    assert "cs.CL" in output
    home = run(
        installed / "python", "-c", "import classmark; print(classmark.__file__)", cwd=tmp_path
    )
    assert Path(home.strip()).is_relative_to(installed.parent)
