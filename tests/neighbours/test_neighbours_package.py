"""The wheel of papers that are evidence: data only, found by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from classmark import Classifier
from classmark.neighbours import Entry, EvidenceWeights, SideWeights, build_index, set_evidence

SOURCE = Path(__file__).parents[2] / "packages" / "classmark-neighbours"
ASK = "from classmark import Classifier; print(Classifier(index='arxiv').classify('{}').evidence)"
TEXT = "We colour sparse graphs with few colours."


@pytest.mark.slow  # builds a wheel and starts a process
def test_the_wheel_holds_an_index_that_is_found_where_it_is_installed(tmp_path: Path) -> None:
    classifier, package = Classifier(), tmp_path / "package"
    index = package / "src" / "classmark_neighbours" / "index"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("index", "build"))
    build_index(
        index, [([Entry("a", 2019, ("cs.CG",))], classifier.vectors([TEXT]))], classifier.model
    )
    weights = EvidenceWeights(1.1, SideWeights((1.0, 0.5, 0.5, 0.0)))
    set_evidence(index, weights, classifier.model)
    words = ("--quiet", "--offline", "--no-build-isolation", "--python", sys.executable)
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "build", "--wheel", *words, "--out-dir", tmp_path, package]
    subprocess.run([str(word) for word in command], check=True)
    [wheel] = tmp_path.glob("classmark_neighbours-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as content:
        code = [name for name in content.namelist() if name.endswith(".py")]
        content.extractall(tmp_path / "site")
    assert code == ["classmark_neighbours/__init__.py"]
    found = subprocess.run(
        [sys.executable, "-c", ASK.format(TEXT)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "('abstract', 'neighbours')\n"
