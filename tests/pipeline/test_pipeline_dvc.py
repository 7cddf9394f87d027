"""The stages in a real DVC repository: nothing runs twice, and other clones get the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from classmark.registry import Registry
from emulated_bucket import emulated_bucket

pytestmark = [
    pytest.mark.slow,  # each call of DVC takes seconds
    pytest.mark.skipif(find_spec("dvc") is None, reason="needs the extra dvc: make test-dvc"),
]
STAGES = ["build", "train", "export", "evaluate", "gate", "register"]
OUTPUTS = ("dataset", "run", "bundle", "evaluation", "plots", "metrics.json", "gate")
BIN = str(Path(sys.executable).parent)


def call(folder: Path, *words: str, **environment: str) -> str:
    """Return what a program prints in a folder, both streams together."""
    done = attempt(folder, *words, **environment)
    assert done.returncode == 0, f"{words}: {done.stdout}"
    return done.stdout


def attempt(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, which may fail."""
    return subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={
            **os.environ, "PATH": BIN + os.pathsep + os.environ["PATH"], "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(folder), "DVC_SYSTEM_CONFIG_DIR": str(folder),
            "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "tmp" / "site"), **environment,
        },
    )  # fmt: skip


def commit(folder: Path) -> None:
    call(folder, "git", "add", "--all")
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")
    call(folder, "git", *who, "commit", "--quiet", "--message", "a version")


def running(printed: str) -> list[str]:
    """Return the stages that DVC ran."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def content(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every output file."""
    files = [file for name in OUTPUTS for file in (folder / name, *(folder / name).rglob("*"))]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def edit(folder: Path, before: str, after: str) -> None:
    params = folder / "params.yaml"
    text = params.read_text("utf-8")
    assert text.count(before) == 1
    params.write_text(text.replace(before, after), "utf-8")


@pytest.fixture(scope="module")
def versioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a committed repository whose stages have run, with a remote in a local folder."""
    root = tmp_path_factory.mktemp("dvc")
    folder = root / "papers"
    folder.mkdir()
    call(folder, "git", "init", "--quiet")
    call(folder, "dvc", "init", "--quiet")
    call(folder, "dvc", "remote", "add", "--default", "local", str(root / "store"))
    call(folder, "classmark", "dataset", "sample", "--papers", "500", "--csv", "papers.csv")
    call(folder, "dvc", "add", "papers.csv")
    words = ("papers=[papers.csv]", "build.min_papers=5", "model.epochs=1", "evaluate.draws=20")
    call(folder, "classmark", "pipeline", "init", *words)
    assert running(call(folder, "dvc", "repro")) == STAGES
    commit(folder)
    return folder


@pytest.fixture
def clone(versioned: Path, tmp_path: Path) -> Path:
    """Return a clone that has pulled everything from the local remote."""
    call(versioned, "dvc", "push")
    call(tmp_path, "git", "clone", "--quiet", str(versioned), "clone")
    call(tmp_path / "clone", "dvc", "pull")
    return tmp_path / "clone"


def test_repro_a_second_time_runs_nothing_and_leaves_nothing_to_commit(versioned: Path) -> None:
    before = content(versioned)
    printed = call(versioned, "dvc", "repro")
    assert running(printed) == []
    assert "Data and pipelines are up to date." in printed
    assert content(versioned) == before
    assert call(versioned, "git", "status", "--short") == ""


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ("min_papers: 5\n  small", "min_papers: 6\n  small", ["build"]),
        ("  rate: 0.1\n", "  rate: 0.2\n", ["train"]),
        ("  version: '1.0'", "  version: '1.1'", ["export"]),
        ("  registry: registry", "  registry: shelf", ["gate", "register"]),
        ("  level: 0.95", "  level: 0.9", ["evaluate"]),
        ("  noise: 0.05", "  noise: 0.1", []),  # of the sample, which is not used
    ],
)
def test_a_changed_parameter_concerns_its_stage_and_no_other(
    versioned: Path, before: str, after: str, again: list[str]
) -> None:
    edit(versioned, before, after)
    try:
        changed = json.loads(call(versioned, "dvc", "status", "--json"))
        assert list(changed) == again
    finally:
        edit(versioned, after, before)


def test_push_clone_and_pull_give_the_same_bytes_and_the_clone_goes_on(
    versioned: Path, clone: Path
) -> None:
    assert content(clone) == content(versioned)
    assert (clone / "papers.csv").read_bytes() == (versioned / "papers.csv").read_bytes()
    assert running(call(clone, "dvc", "repro")) == []
    edit(clone, "  version: '1.0'", "  version: '1.1'")
    assert running(call(clone, "dvc", "repro")) == STAGES[2:]
    assert json.loads((clone / "bundle/bundle.json").read_bytes())["version"] == "1.1"


def test_a_dataset_that_was_not_pulled_names_the_command_that_gets_it(
    versioned: Path, tmp_path: Path
) -> None:
    call(versioned, "dvc", "push")
    call(tmp_path, "git", "clone", "--quiet", str(versioned), "clone")
    clone = tmp_path / "clone"
    orders = ("retrain", "run", "--folder", "orders", "--registry", str(versioned / "registry"))
    registry = ("--registry", str(versioned / "registry"))
    if not Registry.open(versioned / "registry").pointer().channels.champion:
        call(versioned, "classmark", "registry", "promote", "mine@1.0", *registry)
    refused = attempt(clone, "classmark", *orders, "--dataset", "dataset", "--why", "a test")
    assert refused.returncode == 1
    assert "DVC keeps it; get it with `dvc pull dataset`" in refused.stdout
    assert not list((clone / "orders").glob("orders/*"))
    call(clone, "dvc", "pull", "dataset")
    decided = call(clone, "classmark", *orders, "--dataset", "dataset", "--why", "a test")
    assert "0 new papers have a label" in decided


def test_a_remote_that_is_down_is_an_error_and_the_next_push_is_whole(
    versioned: Path, tmp_path: Path
) -> None:
    store, blocked = tmp_path / "store", tmp_path / "file"
    blocked.write_text("not a folder")
    call(versioned, "dvc", "remote", "add", "--force", "down", str(blocked / "store"))
    failed = attempt(versioned, "dvc", "push", "--remote", "down")
    assert failed.returncode != 0
    assert str(blocked) in failed.stdout
    assert blocked.read_text() == "not a folder"
    call(versioned, "dvc", "remote", "modify", "down", "url", str(store))
    call(versioned, "dvc", "push", "--remote", "down")
    call(tmp_path, "git", "clone", "--quiet", str(versioned), "clone")
    shutil.copy(versioned / ".dvc" / "config", tmp_path / "clone" / ".dvc" / "config")
    call(tmp_path / "clone", "dvc", "pull", "--remote", "down")
    assert content(tmp_path / "clone") == content(versioned)


def test_metrics_and_plots_of_two_versions_can_be_compared(clone: Path) -> None:
    edit(clone, "  max_features: 485000", "  max_features: 50")
    assert running(call(clone, "dvc", "repro")) == STAGES[1:]
    (changed,) = json.loads(call(clone, "dvc", "metrics", "diff", "--json")).values()
    assert {"old", "new", "diff"} <= changed["top_1"].keys()
    printed = call(clone, "dvc", "plots", "diff", "--json")
    plots = json.loads(printed[printed.index("{") :])
    assert not plots.get("errors")
    assert set(plots["data"]) == {
        *("accuracy by year", "loss"),
        *("plots/confusion.svg", "plots/reliability.svg"),
    }
    for found in plots["data"].values():
        assert {rev for each in found for rev in each["revisions"]} >= {"workspace", "HEAD"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield the variables by which clients of Google Cloud Storage find a store on this machine."""
    if find_spec("gcp_storage_emulator") is None:
        pytest.skip("needs gcp-storage-emulator: make test-dvc")
    with emulated_bucket(tmp_path_factory.mktemp("bucket") / "log") as variables:
        yield variables


def test_a_project_of_the_template_keeps_versions_beside_it(tmp_path: Path) -> None:
    template = str(Path(__file__).parents[2] / "templates" / "project")
    folder = tmp_path / "marks"
    copied = ("copier", "copy", "--defaults", "--data", "name=marks", template, str(folder))
    call(tmp_path, *copied)
    call(folder, "git", "init", "--quiet")
    call(folder, "make", "sample", "params.yaml", f"VENV={sys.prefix}")
    call(folder, "dvc", "add", "data/papers.csv")
    assert running(call(folder, "dvc", "repro")) == STAGES
    call(folder, "dvc", "push")
    assert len(list((tmp_path / "marks-versions").rglob("*"))) > len(STAGES)
    commit(folder)
    tracked = set(call(folder, "git", "ls-files").split())
    assert {"dvc.yaml", "dvc.lock", "params.yaml", "metrics.json", "registered.json"} <= tracked
    assert "data/papers.csv.dvc" in tracked
    assert not {path for path in tracked if path.startswith("registry/")}
    assert not {path for path in tracked if path.startswith(tuple(f"{o}/" for o in OUTPUTS))}


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/version-data.md").read_text("utf-8")
    folder, digests = tmp_path / "plain", []
    folder.mkdir()
    # A user's own name and address for git.
    who = {f"GIT_{role}_{key}": "tester@x" for role in ("AUTHOR", "COMMITTER") for key in _WHO}
    for block in re.findall(r"^```console\n(\$ .*?)^```", page, re.DOTALL | re.MULTILINE):
        for command, *shown in (
            each.split("\n") for each in re.split(r"^\$ ", block, flags=re.M)[1:]
        ):
            if "git init" in command:
                folder = Path(shutil.copytree(folder, tmp_path / "papers", ignore=_all_but_papers))
            printed = call(folder, "bash", "-c", f"{command} 2>{tmp_path}/errors", **who)
            assert masked(printed) == masked("\n".join(shown)), command
            digests.append(re.findall(r"\b[0-9a-f]{64}\b", printed))
    assert len({digest for found in digests[:8] for digest in found}) == 1


_WHO = ("NAME", "EMAIL")


def _all_but_papers(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name != "papers.csv"]


def masked(printed: str) -> list[str]:
    """Return what is printed, without times and digests."""
    return re.sub(r"\d+\.\d s\b|\b[0-9a-f]{64}\b", "…", printed).strip().split("\n")


def in_bucket(folder: Path, *, version_aware: bool) -> None:
    """Make a bucket the default remote of a repository."""
    call(folder, "dvc", "remote", "add", "--default", "bucket", "gs://papers/classmark")
    # Google's own store wants credentials; the one on this machine has none.
    call(folder, "dvc", "remote", "modify", "bucket", "allow_anonymous_login", "true")
    if version_aware:
        call(folder, "dvc", "remote", "modify", "bucket", "version_aware", "true")


def test_a_bucket_keeps_versions_that_a_clone_can_go_back_to(
    versioned: Path, bucket: dict[str, str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(versioned, tmp_path / "papers"))
    in_bucket(folder, version_aware=False)
    call(folder, "dvc", "push", **bucket)
    commit(folder)
    first = content(folder)
    edit(folder, "  level: 0.95", "  level: 0.9")
    assert running(call(folder, "dvc", "repro")) == ["evaluate"]
    call(folder, "dvc", "push", **bucket)
    commit(folder)

    call(tmp_path, "git", "clone", "--quiet", str(folder), "clone")
    call(tmp_path / "clone", "dvc", "pull", **bucket)
    assert content(tmp_path / "clone") == content(folder) != first
    call(tmp_path / "clone", "git", "checkout", "--quiet", "HEAD~1")
    call(tmp_path / "clone", "dvc", "pull", **bucket)
    assert content(tmp_path / "clone") == first


@pytest.mark.skipif(find_spec("gcp_storage_emulator") is None, reason="make test-dvc")
def test_a_bucket_with_versions_of_its_own_holds_files_under_their_names(
    versioned: Path, tmp_path: Path
) -> None:
    from bucket_server import BucketServer

    folder = Path(shutil.copytree(versioned, tmp_path / "papers"))
    in_bucket(folder, version_aware=True)
    with BucketServer().running() as server:
        server.storage.versioned = True
        call(folder, "dvc", "push", **server.variables)
        assert "version_id" in (folder / "dvc.lock").read_text("utf-8")
        commit(folder)
        first = content(folder)
        assert "classmark/dataset/train.parquet" in server.names()
        edit(folder, "  level: 0.95", "  level: 0.9")
        call(folder, "dvc", "repro")
        call(folder, "dvc", "push", **server.variables)
        commit(folder)

        call(tmp_path, "git", "clone", "--quiet", str(folder), "clone")
        call(tmp_path / "clone", "dvc", "pull", **server.variables)
        assert content(tmp_path / "clone") == content(folder) != first
        call(tmp_path / "clone", "git", "checkout", "--quiet", "HEAD~1")
        call(tmp_path / "clone", "dvc", "pull", **server.variables)
        assert content(tmp_path / "clone") == first
