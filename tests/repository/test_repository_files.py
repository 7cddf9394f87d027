"""What lies in the repository: no pickle, no machine path, no stray binary."""

from __future__ import annotations

import ast
import pickletools
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GENERATED = {".git", "demo", "runs", "build", "dist", "site", "__pycache__", "htmlcov"}
PICKLE_SUFFIXES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".dill"}
PICKLING_MODULES = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def tracked_files() -> list[Path]:
    """Return the files of the repository: git's list, or all that make did not make."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if result.returncode == 0:
        paths = [ROOT / name for name in result.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not _is_generated(path)]
    return [path for path in paths if path.is_file()]


def _is_generated(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(part in GENERATED or part.startswith((".venv", ".")) for part in parts)


def is_pickle(content: bytes) -> bool:
    """Return whether the bytes are one binary pickle, whatever the file is called."""
    if not content.startswith(b"\x80"):
        return False
    try:
        return bool([opcode for opcode, _, _ in pickletools.genops(content)])
    except Exception:
        return False


def python_sources() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".py"]


def test_is_pickle_knows_a_pickle_from_other_bytes() -> None:
    assert is_pickle(b"\x80\x04N.")
    assert not is_pickle(b"\x80\x04")
    assert not is_pickle(b"\x93NUMPY")


def test_no_file_is_a_pickle() -> None:
    files = tracked_files()
    assert len(files) > 20
    assert not [path for path in files if path.suffix in PICKLE_SUFFIXES]
    assert not [path for path in files if is_pickle(path.read_bytes())]


@pytest.mark.slow
def repeated_keys(node: yaml.Node | None) -> list[str]:
    """Return the keys that come more than once in a mapping; YAML keeps the last one."""
    found: list[str] = []
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        found += [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
        inside = [value for _, value in node.value]
    else:
        inside = node.value if isinstance(node, yaml.SequenceNode) else []
    return found + [key for value in inside for key in repeated_keys(value)]


def test_no_yaml_repeats_a_key() -> None:
    assert repeated_keys(yaml.compose("a: [{b: 1, b: 2}]\nc: 1\na: 2")) == ["a", "b"]
    files = [path for path in tracked_files() if path.suffix in {".yml", ".yaml"}]
    assert len(files) > 30
    faults = {
        path.relative_to(ROOT).as_posix(): keys
        for path in files
        for node in yaml.compose_all(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        if (keys := repeated_keys(node))
    }
    assert faults == {}


def test_no_source_unpickles() -> None:
    found = []
    # A classifier goes to other processes by pickle; this test of it writes no file.
    copies = ROOT / "tests" / "runtime" / "test_runtime_classifier_copies.py"
    for path in python_sources():
        refused = PICKLING_MODULES - ({"pickle"} if path == copies else set())
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if set(_imported(node)) & refused or _allows_pickle(node):
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert not found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []


def _allows_pickle(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.keyword)
        and node.arg == "allow_pickle"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    )


def test_every_text_file_ends_its_lines_with_lf() -> None:
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".c", ".h"}
    texts = [path for path in tracked_files() if path.suffix in suffixes]
    assert not [path for path in texts if b"\r\n" in path.read_bytes()]
