"""A disk that is full, or read-only, under every command that writes: one line, 1, and no trace.

The disks are real: tmpfs, mounted for the test. That needs Linux and root; CI may ask sudo.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_csv, sample_dataset

Mount = Callable[[str], Path]
IN_CI = os.environ.get("CI") == "true"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
SUDO = [] if IS_ROOT else ["sudo", "-n"]
FREE_BYTES = 4096
ROOM_BYTES = 6 * FREE_BYTES
with_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with papers, a dataset, a run, a bundle and stored scores."""
    work = tmp_path_factory.mktemp("work")
    sample_csv(work / "papers.csv", SampleConfig(papers=400))
    with ZipFile(work / "papers.zip", "w") as archive:
        archive.write(work / "papers.csv", "papers.csv")
    sample_dataset(work / "dataset", SampleConfig(papers=400))
    data = f"dataset.path={work / 'dataset'}"
    trained = run("train", "experiment=debug", data, f"runs_dir={work}", "model.min_papers=3")
    Path(trained.stdout.strip()).rename(work / "run")
    assert run("export", work / "run", "--output", work / "mine-1.0").exit_code == 0
    return work


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return an empty disk of 256 KB."""
    with mounted(tmp_path / "disk", "size=256k") as folder:
        yield folder


@pytest.fixture
def full_disk(disk: Path) -> Path:
    """Return a disk with room for a name, but not for what belongs under it."""
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize - FREE_BYTES))
    return disk


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "ro") as folder:
        yield folder


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs for a while; where that cannot be, skip, but not in CI as root."""
    if sys.platform != "linux" or not (IS_ROOT or IN_CI):
        pytest.skip("a disk can be mounted by root on Linux only")
    folder.mkdir()
    if not IS_ROOT:
        options += f",uid={os.geteuid()}"
    command = [*SUDO, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        (pytest.fail if IN_CI and IS_ROOT else pytest.skip)(f"no mounting here: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run([*SUDO, "umount", str(folder)], check=True)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


# What follows every command is where it shall write; each names the place in its own way.
COMMANDS = {
    "classify": ("classify papers.csv --jsonl --output {}/out.jsonl", "out.jsonl"),
    "dataset build": ("dataset build papers.csv --min-papers 2 --output {}/out", "out"),
    "dataset sample": ("dataset sample --papers 400 --output {}/out", "out"),
    "dataset sample csv": ("dataset sample --papers 400 --csv {}/out.csv", "out.csv"),
    "dataset sample dump": ("dataset sample --papers 400 --dump {}/out.jsonl", "out.jsonl"),
    "dataset download": ("dataset download papers.zip --output {}/out.zip", "out.zip"),
    "dataset unpack": ("dataset download papers.zip --unpack {}/out", "out"),
    "dataset stats": ("dataset stats dataset --html {}/out.html", "out.html"),
    "dataset stats markdown": (
        "dataset stats dataset --against dataset --markdown {}/out.md",
        "out.md",
    ),
    "train": ("train experiment=debug dataset.path=dataset runs_dir={}", ""),
    "export": ("export run --output {}/out-1.0", "out-1.0"),
    "export report": ("export run --output out-1.0 --report {}/out.json", "out.json"),
    "evaluate": ("evaluate --model ./mine-1.0 --dataset dataset --output {}/out.json", "out.json"),
    "evaluate scores": (
        "evaluate --model ./mine-1.0 --dataset dataset --write-scores {}/out.npz",
        "out.npz",
    ),
    "demo": ("demo --output {}/out --papers 2000", "out"),
}


@pytest.fixture
def here(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in work.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_nothing_is_left_on_it(full_disk: Path, name: str) -> None:
    command, place = COMMANDS[name]
    result = run(*command.format(full_disk).split())
    assert result.exit_code == 1
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"error: cannot write {full_disk / place}")
    assert line.endswith(": the disk is full. Free some space, or choose another output.")
    assert [path.name for path in full_disk.rglob("*")] == ["filler"]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_one_line_before_any_work(read_only_disk: Path, name: str) -> None:
    command, place = COMMANDS[name]
    result = run(*command.format(read_only_disk).split())
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: cannot write {read_only_disk / place}")
    assert line.endswith(": the file system is read-only. Choose another output.")


def train_with_store(database: Path, runs: Path) -> Result:
    words = ("experiment=debug", "dataset.path=dataset", "model.min_papers=3", f"runs_dir={runs}")
    return run("train", *words, "tracker=mlflow", f"tracker.mlflow_uri=sqlite:///{database}")


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import
@pytest.mark.usefixtures("here")
def test_a_full_disk_for_mlflow_stops_no_training(full_disk: Path, tmp_path: Path) -> None:
    result = train_with_store(full_disk / "mlflow.db", tmp_path / "runs")
    assert result.exit_code == 0
    assert (Path(result.stdout.strip()) / "provenance.json").is_file()
    (line,) = [line for line in result.stderr.splitlines() if "warning" in line]
    assert line.endswith(
        "mlflow.db is down (database or disk is full); the run goes on without it."
    )


@pytest.mark.slow
@with_mlflow
@pytest.mark.usefixtures("here")
def test_a_read_only_disk_for_mlflow_stops_no_training(
    read_only_disk: Path, tmp_path: Path
) -> None:
    result = train_with_store(read_only_disk / "mlflow.db", tmp_path / "runs")
    assert result.exit_code == 0
    assert (Path(result.stdout.strip()) / "metrics.csv").is_file()
    (line,) = [line for line in result.stderr.splitlines() if "warning" in line]
    assert line.endswith(
        "mlflow.db is down (unable to open database file); the run goes on without it."
    )


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "command", ["index build papers.csv --output {}/out", "export run --output {}/out-1.0"]
)
def test_a_disk_that_fills_within_an_array_is_named(full_disk: Path, command: str) -> None:
    filler = full_disk / "filler"
    os.truncate(filler, filler.stat().st_size - ROOM_BYTES)
    result = run(*command.format(full_disk).split())
    assert result.exit_code == 1
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"error: cannot write {full_disk / 'out'}")
    assert ": the disk is full. " in line
    assert [path.name for path in full_disk.rglob("*")] == ["filler"]


@pytest.mark.usefixtures("here")
def test_a_full_disk_leaves_an_older_result(full_disk: Path) -> None:
    old = full_disk / "out.jsonl"
    old.write_text("old")
    assert run("classify", "papers.csv", "--jsonl", "--output", old).exit_code == 1
    assert old.read_text() == "old"


@pytest.mark.usefixtures("here")
def test_a_full_disk_for_temporary_files_is_named(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(full_disk))
    result = run("evaluate", "--model", "./mine-1.0", "--dataset", "dataset")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: cannot write {full_disk}" in result.stderr
    assert [path.name for path in full_disk.rglob("*")] == ["filler"]


@pytest.mark.usefixtures("here")
def test_a_disk_that_is_full_of_features_is_named_and_emptied(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classmark.pipeline.linear.fit.MAPPED_FROM_PAPERS", 1)
    result = run("train", "experiment=debug", "dataset.path=dataset", f"runs_dir={full_disk}")
    assert result.exit_code == 1
    assert f"error: cannot write {full_disk}: the disk is full" in result.stderr
    assert "fitting" not in result.stderr
    assert os.statvfs(full_disk).f_bavail > 0
    assert [path.name for path in full_disk.rglob("*")] == ["filler"]
