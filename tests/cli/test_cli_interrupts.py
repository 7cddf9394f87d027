"""Ctrl-C in the middle of every long command: one line, 130, and the last good result in place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from classmark.cli import interrupt
from classmark.dataset import SampleConfig, sample_csv, sample_dataset
from classmark.pipeline import ExportOptions, compose_config, export_run, train

pytestmark = [
    pytest.mark.slow,  # reason: processes of their own that import everything
    pytest.mark.skipif(os.name == "nt", reason="there is no terminal to open, no SIGINT to send"),
]

if os.name != "nt":
    from processes import start

GOOD = "the last good result"
PRESSES = 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with papers, a dataset that is mostly test split, a run and a bundle."""
    folder = tmp_path_factory.mktemp("work")
    sample_csv(folder / "papers.csv", SampleConfig(papers=1000))
    sample_dataset(folder / "dataset", SampleConfig(papers=4000))
    words = [f"dataset.path={folder / 'dataset'}", f"runs_dir={folder}", "experiment=debug"]
    run = train(compose_config(words), command="test")
    run.rename(folder / "run")
    export_run(folder / "run", folder / "mine-1.0", ExportOptions(name="mine", version="1.0"))
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    """Return every path below a folder, hidden ones too, with the content of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


MANY = " papers.csv" * 500
COMMANDS = {  # with what shows that they are at work
    "dataset build": (f"dataset build --output out{MANY}", "reading papers.csv"),
    "dataset sample": ("dataset sample --papers 900000 --output out", "inventing papers"),
    "dataset sample csv": ("dataset sample --papers 900000 --csv out.csv", "inventing papers"),
    "train": ("train dataset.path=dataset runs_dir=out model.epochs=1000", "fitting the parent"),
    "export": ("export run --output out-1.0 --report out.json", "calibrating"),
    "evaluate": (
        "evaluate --model ./mine-1.0 --dataset dataset --output out.json --bootstrap 1000000",
        "measuring",
    ),
    "classify": (f"classify --output out.jsonl{MANY}", "classifying"),
    "demo": ("demo --output out --papers 200000", "inventing papers"),
}


@pytest.mark.parametrize(
    ("name", "before"),
    [*((name, "a good result") for name in COMMANDS), ("train", "nothing"), ("demo", "nothing")],
)
def test_control_c_is_one_line_and_leaves_what_was_there(
    folder: Path, tmp_path: Path, name: str, before: str
) -> None:
    for entry in folder.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    command, sign = COMMANDS[name]
    arguments = command.split()
    if before == "a good result":
        arguments = [*arguments, *put_a_good_result(tmp_path, arguments)]
    found = listing(tmp_path)
    with start(*arguments, cwd=tmp_path) as (child, terminal):
        terminal.read_until(sign)
        child.send_signal(signal.SIGINT)
        terminal.read_rest()
        code = child.wait(timeout=200)
    assert terminal.lines[-1] == "interrupted: nothing is left half-written."
    assert code == 130
    assert listing(tmp_path) == found


def put_a_good_result(place: Path, arguments: list[str]) -> list[str]:
    """Write what an earlier run might have left; return the options that allow to replace it."""
    verb = arguments[0]
    for name in ("out.csv", "out.jsonl", "out.json"):
        (place / name).write_text(GOOD)
    for name in ("out", "out-1.0"):
        (place / name).mkdir()
        for file in (".classmark-demo", "manifest.json", "bundle.json", "good"):
            (place / name / file).write_text(GOOD)
    return ["--overwrite"] if verb in ("dataset", "export") else []


def test_an_impatient_user_gets_the_same(folder: Path, tmp_path: Path) -> None:
    arguments = ["dataset", "sample", "--papers", "900000", "--output", str(tmp_path / "out")]
    with start(*arguments, cwd=tmp_path) as (child, terminal):
        terminal.read_until("inventing papers")
        for _ in range(PRESSES):
            child.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):  # faster than any finger, not a storm
                child.wait(timeout=0.02)
        terminal.read_rest()
        child.wait(timeout=200)
    assert terminal.lines[-1] == "interrupted: nothing is left half-written."
    assert child.returncode == 130
    assert list(tmp_path.iterdir()) == []


def press_while_loading(module: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that gets SIGINT while it imports a module; return what it said.

    An import of "polars" ends as a library in another language makes it end, which cannot pass
    KeyboardInterrupt on: with an error of its own that is no ``Exception``.
    """
    code = f"""
import importlib.abc, os, signal, sys

class Panic(BaseException):
    pass

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            if name == "polars":
                raise Panic("the result is an error") from None
            raise

sys.meta_path.insert(0, Interrupting())
sys.argv = ["classmark", "dataset", "sample", "--papers", "50", "--output", "out"]
from classmark.__main__ import main
main()
"""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("module", ["typer", "classmark.cli.dataset.command", "numpy", "polars"])
def test_control_c_while_it_still_loads_is_one_line(tmp_path: Path, module: str) -> None:
    done = press_while_loading(module, tmp_path)
    assert done.stderr == "interrupted: nothing is left half-written.\n"
    assert done.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_sigint_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt.handle_first_interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_counts_when_cleaning_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now)
    handler = interrupt.FirstInterrupt()
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
    handler(signal.SIGINT, None)
    now += interrupt.CLEANING_SECONDS
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
