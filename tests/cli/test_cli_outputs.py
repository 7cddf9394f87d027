"""No command writes onto what it reads, under whatever name that is given."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import VERBS, app, load_verb
from classmark.dataset import SampleConfig, sample_csv, sample_dataset
from classmark.journal import Journal, JournalConfig

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights there")


class Clash(NamedTuple):
    """A command with {} for its output, and the input that it must not harm."""

    command: str
    input: str


CLASHES = {
    "classify --output": Clash("classify papers.jsonl --output {}", "papers.jsonl"),
    "classify --output, workers": Clash(
        "classify papers.jsonl --workers 1 --output {}", "papers.jsonl"
    ),
    "classify --output, model": Clash(
        "classify papers.jsonl --model ./mine-1.0 --output {}", "mine-1.0/bundle.json"
    ),
    "dataset build --output": Clash(
        "dataset build papers.jsonl --overwrite --output {}", "papers.jsonl"
    ),
    "dataset build --output, ids": Clash(
        "dataset build papers.jsonl --split ids --test-ids ids --valid-ids ids --overwrite "
        "--output {}",
        "ids",
    ),
    "dataset download --output": Clash(
        "dataset download papers.jsonl --output out.jsonl --unpack {} --overwrite", "papers.jsonl"
    ),
    "dataset download --unpack": Clash(
        "dataset download papers.jsonl --unpack {} --overwrite", "papers.jsonl"
    ),
    "dataset extend --output": Clash(
        "dataset extend dataset papers.jsonl --overwrite --output {}", "papers.jsonl"
    ),
    "dataset extend --output, dataset": Clash(
        "dataset extend dataset papers.jsonl --overwrite --output {}", "dataset/train.parquet"
    ),
    "dataset stats --html": Clash("dataset stats dataset --html {}", "dataset/test.parquet"),
    "dataset stats --markdown": Clash(
        "dataset stats dataset --markdown {}", "dataset/manifest.json"
    ),
    "index build --output": Clash(
        "index build papers.jsonl --overwrite --output {}", "papers.jsonl"
    ),
    "index build --output, dataset": Clash(
        "index build dataset --overwrite --output {}", "dataset/train.parquet"
    ),
    "evaluate --output": Clash("evaluate --scores scores.npz --output {}", "scores.npz"),
    "evaluate --html": Clash("evaluate --scores scores.npz --html {}", "scores.npz"),
    "evaluate --write-scores": Clash(
        "evaluate --model ./mine-1.0 --dataset dataset --write-scores {}", "dataset/test.parquet"
    ),
    "evaluate compare --output": Clash(
        "evaluate compare scores.npz scores.npz --output {}", "scores.npz"
    ),
    "evaluate compare --html": Clash(
        "evaluate compare ./mine-1.0 ./mine-1.0 --dataset dataset --html {}",
        "mine-1.0/arrays/bias.npy",
    ),
    "evaluate robustness --output": Clash(
        "evaluate robustness --model ./mine-1.0 --dataset dataset --output {}",
        "dataset/test.parquet",
    ),
    "evaluate robustness --html": Clash(
        "evaluate robustness --model ./mine-1.0 --dataset dataset --gates gates.json --html {}",
        "gates.json",
    ),
    "evaluate robustness --write-gates": Clash(
        "evaluate robustness --model ./mine-1.0 --dataset dataset --write-gates {}",
        "mine-1.0/bundle.json",
    ),
    "registry gate --output": Clash(
        "registry gate ./mine-1.0 --against fast --dataset dataset --output {}",
        "dataset/test.parquet",
    ),
    "registry gate --html": Clash(
        "registry gate fast --against ./mine-1.0 --dataset dataset --html {}",
        "mine-1.0/bundle.json",
    ),
    "registry goldens --output": Clash(
        "registry goldens papers.jsonl --model ./mine-1.0 --output {}", "papers.jsonl"
    ),
    "export --output": Clash("export run --overwrite --output {}", "run/provenance.json"),
    "export --report": Clash("export run --output out-1.0 --report {}", "run/config.yaml"),
    "export --report, about": Clash("export run --output out-1.0 --about ids --report {}", "ids"),
    "models forget-author --output": Clash(
        "models forget-author Ada --model ./mine-1.0 --overwrite --output {}",
        "mine-1.0/bundle.json",
    ),
    "sweep export --output": Clash(
        "sweep export experiment=own.yaml dataset.path=dataset --output {}", "own.yaml"
    ),
    "monitor run --output": Clash(
        "monitor run --journal journal.sqlite --history history.sqlite --output {}",
        "journal.sqlite",
    ),
    "monitor run --html": Clash(
        "monitor run --journal journal.sqlite --history history.sqlite --html {}", "journal.sqlite"
    ),
    "monitor run --evidently": Clash(
        "monitor run --journal journal.sqlite --history history.sqlite --evidently {}",
        "journal.sqlite",
    ),
    "monitor report --html": Clash(
        "monitor report --history journal.sqlite --html {}", "journal.sqlite"
    ),
    "retrain status --html": Clash(
        "retrain status --journal journal.sqlite --history monitor.sqlite --registry registry "
        "--html {}",
        "journal.sqlite",
    ),
    "cloud alerts --output": Clash("cloud alerts --environment own.yaml --output {}", "own.yaml"),
    "journal export --output": Clash(
        "journal export --journal journal.sqlite --output {}", "journal.sqlite"
    ),
}
# They read nothing that could be harmed: `demo` replaces only what it made itself. `profile` writes
# only into a new folder; `cloud train` and `cloud fetch` too, and what they read is in a bucket.
READ_NOTHING = {
    *("dataset sample --output", "dataset sample --csv", "dataset sample --dump", "demo --output"),
    *("harvest --output", "cloud train --output", "cloud fetch --output"),
    *(f"profile {command} --output" for command in ("classify", "serve", "train")),
}
OUTPUTS = ("output", "html", "evidently", "markdown", "report", "unpack", "csv", "dump")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one input of every kind."""
    work = tmp_path_factory.mktemp("work")
    sample_csv(work / "papers.csv", SampleConfig(papers=400))
    sample_dataset(work / "dataset", SampleConfig(papers=400))
    (work / "papers.jsonl").write_text('{"id": "1", "title": "Graphs", "abstract": "We colour."}\n')
    (work / "ids").write_text("1\n")
    (work / "gates.json").write_text("{}")
    (work / "own.yaml").write_text("# @package _global_\nseed: 8\n")
    data = f"dataset.path={work / 'dataset'}"
    trained = run("train", "experiment=debug", data, f"runs_dir={work}", "model.min_papers=3")
    Path(trained.stdout.strip()).rename(work / "run")
    assert run("export", work / "run", "--output", work / "mine-1.0").exit_code == 0
    (work / "scores.npz").write_bytes((work / "run" / "scores" / "model-test.npz").read_bytes())
    Journal(JournalConfig(path=work / "journal.sqlite")).close(20)
    return work


@pytest.fixture
def here(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that folder, which is the working directory."""
    subprocess.run(["cp", "-r", f"{work}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def spellings(path: Path) -> Iterator[Path]:
    """Yield names of a file: its own, a longer one, a link and a second name.

    A second name of a file in a folder may be replaced: the folder keeps its own.
    """
    yield path
    yield Path("dataset", "..", path)
    link, hard = Path(f"link{path.suffix}"), Path(f"hard{path.suffix}")
    link.symlink_to(path)
    yield link
    if path.parent != Path():
        return
    hard.hardlink_to(path)
    yield hard


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CLASHES if "build" not in name])
def test_an_output_that_is_an_input_is_refused_before_any_work(here: Path, name: str) -> None:
    command, victim = CLASHES[name]
    is_for_a_folder = name.startswith(("export --output", "models")) or "--unpack" in command
    names = [Path(victim).parent] if is_for_a_folder else list(spellings(Path(victim)))
    if "--unpack" in command:
        names = [Path()]
    if name.startswith("export --output"):
        Path("out-1.0").mkdir()
        Path("run").rename("out-1.0/run")
        command, names = command.replace("export run", "export out-1.0/run"), [Path("out-1.0")]
    before = content(here)
    for output in names:
        result = run(*command.format(output).split())
        *_, line = result.stderr.splitlines()
        assert result.exit_code == 1
        assert line.startswith(f"error: the output {output} is "), line
        assert "would be lost. Choose another output." in line
        assert content(here) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CLASHES if "build" in name])
@pytest.mark.parametrize("output", [".", "link", "dataset/.."])
def test_a_dataset_is_not_built_over_its_papers(here: Path, name: str, output: str) -> None:
    Path("link").symlink_to(".")
    before = content(here)
    result = run(*CLASHES[name].command.format(output).split())
    assert result.exit_code == 1
    assert f"the output {output} is a folder that holds the input" in result.stderr
    assert content(here) == before


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="standard input has no name here")
def test_standard_input_that_is_the_output_is_refused() -> None:
    code = "from classmark.__main__ import main; main()"
    words = [sys.executable, "-c", code, "classify", "-", "--jsonl", "--output", "papers.jsonl"]
    with Path("papers.jsonl").open("rb") as file:
        done = subprocess.run(words, stdin=file, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the output papers.jsonl is the input /dev/stdin, which would be lost" in done.stderr
    assert "We colour." in Path("papers.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_two_outputs_in_one_place_are_refused() -> None:
    for command in (
        "evaluate --scores scores.npz --output out --html ./out",
        "dataset stats dataset --html out --markdown out",
        "export run --output out-1.0 --report out-1.0/report.json",
    ):
        result = run(*command.split())
        assert result.exit_code == 1
        assert "are in each other's way" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "evaluate --scores scores.npz --output r.csv",
            "--output r.csv: .csv cannot be",
        ),
        ("evaluate --scores scores.npz --html r.json", "Use .html or .htm, or a name without end"),
        (
            "evaluate --model fast --dataset dataset --write-scores s.csv",
            "s.csv: .csv cannot",
        ),
        ("evaluate compare scores.npz scores.npz --html r.pdf", "--html r.pdf: .pdf cannot be"),
        (
            "evaluate robustness --model ./mine-1.0 --dataset dataset --write-gates g.yaml",
            "--write-gates g.yaml: .yaml cannot be written. Use .json, or a name without ending.",
        ),
        ("export run --output out-1.0 --report r.html", "--report r.html: .html cannot be written"),
        ("dataset stats dataset --markdown r.html", "--markdown r.html: .html cannot be written"),
        ("dataset stats dataset --html r.md", "--html r.md: .md cannot be written"),
        ("dataset sample --csv s.xlsx", "--csv s.xlsx: .xlsx cannot be written. Use .csv, or a"),
        ("dataset sample --dump s.csv", "--dump s.csv: .csv cannot be written. Use .jsonl, "),
    ],
)
def test_an_output_that_would_not_be_what_it_is_called_is_refused(
    here: Path, command: str, message: str
) -> None:
    before = sorted(here.iterdir())
    result = run(*command.split())
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert sorted(here.iterdir()) == before


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


def test_every_output_of_every_command_is_checked_here() -> None:
    found = {
        f"{path} --{option.name.replace('_', '-')}"
        for verb in VERBS
        for path, command in commands(load_verb(verb), verb)
        for option in command.params
        if option.name in OUTPUTS or (option.name or "").startswith("write_")
        if not getattr(option, "is_flag", False)
    }
    checked = {name.partition(",")[0] for name in CLASHES}
    assert found - READ_NOTHING == checked
