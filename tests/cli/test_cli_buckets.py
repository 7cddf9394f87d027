"""Every command that takes a file or folder takes one in a bucket, or says that it does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.models import TyperPath
from typer.testing import CliRunner, Result

from bucket_fixtures import bucket, needs_bucket
from classmark.cli.app import VERBS, app, load_verb
from classmark.cli.places import HERE, PlaceType
from classmark.records import RunRecord
from classmark.storage import BucketPath, local_copy

__all__ = ["bucket"]
AT = "gs://papers"


def run(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


def options(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield all options and arguments below a command, with their names."""
    for inner, found in getattr(command, "commands", {}).items():
        yield from options(found, f"{name} {inner}")
    yield from ((f"{name} {param.opts[0]}", param) for param in command.params)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, in which no command makes one that is called ``gs:``."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.rglob("gs:"))


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_takes_an_address_for_a_folder_of_this_machine(verb: str) -> None:
    paths = [param for _, param in options(load_verb(verb), verb)]
    assert all(isinstance(p.type, PlaceType) for p in paths if isinstance(p.type, TyperPath))


def test_help_names_where_an_address_is_taken() -> None:
    stats = dict(options(load_verb("dataset"), "dataset"))
    assert stats["dataset stats directory"].metavar == "DIR|gs://..."
    assert stats["dataset download --output"].metavar == "FILE"
    assert stats["dataset download --output"].type is HERE


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("keys", "list", "--file", f"{AT}/keys.json"), "--file"),
        (("harvest", "--output", f"{AT}/harvest"), "--output"),
        (("sweep", "report", f"{AT}/sweep"), "STUDY"),
        (("demo", "--output", f"{AT}/demo"), "--output"),
        (("pipeline", "run", "--folder", f"{AT}/pipeline"), "--folder"),
    ],
)
def test_what_has_to_be_on_this_machine_says_so(
    words: tuple[str, ...], option: str, here: Path
) -> None:
    done = run(*words, code=2)
    assert done.stderr.startswith(f"error: {option} {words[-1]} is in a bucket, but has to be on")
    assert "gcloud storage cp" in done.stderr


def test_keys_that_name_a_folder_of_this_machine_say_so(here: Path) -> None:
    done = run("train", "dataset.path=none", "profiler=cpu", f"profiler.folder={AT}/x", code=2)
    assert f"error: {AT}/x is in a bucket, but has to be on this machine" in done.stderr


@needs_bucket
def test_a_dataset_in_a_bucket_is_made_counted_and_fetched_once(bucket: Any, here: Path) -> None:
    made = run("dataset", "sample", "--papers", 300, "--output", f"{AT}/data")
    assert made.stdout.splitlines()[-1] == f"{AT}/data"
    assert "data/manifest.json" in bucket.names()
    again = run("dataset", "sample", "--papers", 300, "--output", f"{AT}/data", code=1)
    assert again.stderr.startswith(f"error: {AT}/data already exists.")
    run("dataset", "stats", f"{AT}/data", "--html", f"{AT}/stats.html")
    assert b"</html>" in bucket.content("stats.html")
    n_before = len(bucket.requests)
    run("dataset", "stats", f"{AT}/data")
    asked = [address for _, address in bucket.requests[n_before:]]
    assert len(asked) == 1, asked
    assert "prefix=data" in asked[0]


@needs_bucket
def test_what_is_not_in_a_bucket_is_one_clear_error(bucket: Any, here: Path) -> None:
    done = run("dataset", "stats", f"{AT}/none", code=1)
    assert (
        done.stderr == f"error: {AT}/none is not there: nothing has that name. Check the address.\n"
    )
    done = run("dataset", "stats", "gs://other/none", code=1)
    assert "there is no bucket 'other'" in done.stderr
    done = run("dataset", "stats", "s3://other/none", code=2)
    assert "is not an address in a bucket" in done.stderr
    for command in (
        ("dataset", "sample", "--papers", 10, "--csv"),
        ("classify", "A text", "--output"),
    ):
        done = run(*command, "gs://other/x.csv", code=1)
        assert "there is no bucket 'other'" in done.stderr


@needs_bucket
def test_papers_in_a_bucket_are_built_extended_classified_and_indexed(
    bucket: Any, here: Path
) -> None:
    run("dataset", "sample", "--papers", 400, "--csv", f"{AT}/papers.csv")
    run("dataset", "sample", "--papers", 40, "--seed", 9, "--csv", f"{AT}/more.csv")
    words = ("--min-papers", 5, "--output", f"{AT}/data")
    assert run("dataset", "build", f"{AT}/papers.csv", *words).stdout.endswith(f"{AT}/data\n")
    run("dataset", "extend", f"{AT}/data", f"{AT}/more.csv", "--output", f"{AT}/grown")
    assert {"data/manifest.json", "grown/manifest.json"} <= set(bucket.names())
    run("classify", f"{AT}/more.csv", "--output", f"{AT}/answers.jsonl")
    assert bucket.content("answers.jsonl").count(b"\n") == 40
    done = run("classify", f"{AT}/more.csv", "--workers", 1, "--output", f"{AT}/b.jsonl", code=2)
    assert "with --engine ray only" in done.stderr
    run("index", "build", f"{AT}/more.csv", "--output", f"{AT}/index")
    assert not [name for name in bucket.names("index/") if "lock" in name or "/." in name]
    assert json.loads(run("index", "info", f"{AT}/index", "--json").stdout)["papers"] == 40
    found = run("similar", "A text about nothing.", "--index", f"{AT}/index", "--jsonl")
    assert json.loads(found.stdout)["similar"]


@needs_bucket
def test_a_run_on_a_dataset_in_a_bucket_becomes_a_bundle_in_the_bucket(
    bucket: Any, here: Path
) -> None:
    run("dataset", "sample", "--papers", 600, "--output", f"{AT}/data")
    words = ("train", "--json", "--once", "tracker=csv", f"dataset.path={AT}/data")
    folder = Path(json.loads(run(*words).stdout)["run"])
    assert RunRecord.read(folder).dataset == f"{AT}/data"
    assert Path(json.loads(run(*words).stdout)["run"]) == folder
    run("export", folder, "--output", f"{AT}/models/mine-1.0", "--report", f"{AT}/report.json")
    assert f"--output {AT}/models/mine-1.0" in json.loads(bucket.content("report.json"))["command"]
    model = ("--model", f"{AT}/models/mine-1.0", "--dataset", f"{AT}/data")
    run("evaluate", *model, "--output", f"{AT}/e.json", "--write-scores", f"{AT}/e.npz")
    assert f"--dataset {AT}/data" in json.loads(bucket.content("e.json"))["command"]
    run("evaluate", "compare", f"{AT}/e.npz", f"{AT}/e.npz", "--output", f"{AT}/c.json")
    assert json.loads(bucket.content("c.json"))["command"].count(f"{AT}/e.npz") == 2


@needs_bucket
def test_a_run_is_kept_in_a_bucket_listed_compared_and_exported_from_there(
    bucket: Any, here: Path
) -> None:
    run("dataset", "sample", "--papers", 600, "--output", f"{AT}/data")
    words = ("train", "--json", "tracker=csv", f"dataset.path={AT}/data", f"runs_dir={AT}/runs")
    first, second = (json.loads(run(*words, f"seed={n}").stdout)["run"] for n in (1, 2))
    assert first.startswith(f"{AT}/runs/linear-")
    assert f"{first.removeprefix('gs://papers/')}/{RunRecord.FILE}" in bucket.names("runs/")
    listed = json.loads(run("runs", "list", "--runs-dir", f"{AT}/runs", "--json").stdout)
    assert {one["folder"] for one in listed} == {first, second}
    names = [one["name"] for one in listed]
    both = run("runs", "compare", *names, "--runs-dir", f"{AT}/runs", "--json")
    assert set(json.loads(both.stdout)["config"]) == {"seed"}
    assert json.loads(run("runs", "show", first, "--json").stdout)["config"]["seed"] == "1"
    run("export", first, "--output", "mine-1.0")
    assert [path.name for path in here.iterdir() if path.name != "home"] == ["mine-1.0"]
    assert not list((here / "home").rglob("linear-*.unfinished"))
    refused = run("runs", "log-model", first, "mine-1.0", code=2)
    assert "Give --mlflow-uri URI" in refused.stderr


@needs_bucket
def test_a_run_that_cannot_be_sent_is_kept_here_and_named(bucket: Any, here: Path) -> None:
    run("dataset", "sample", "--papers", 600, "--output", "data")
    words = ("train", "tracker=csv", "dataset.path=data", f"runs_dir={AT}/runs")
    bucket.fail("POST", RunRecord.FILE, 403)
    done = run(*words, code=1)
    assert "permission denied" in done.stderr
    kept = Path(done.stderr.rpartition("The run is kept in ")[2].strip().rstrip("."))
    assert (kept / RunRecord.FILE).is_file()
    assert json.loads(run("runs", "list", "--runs-dir", f"{AT}/runs", "--json").stdout) == []
    run("runs", "show", kept)


@needs_bucket
def test_what_needs_a_folder_of_runs_on_this_machine_says_so(bucket: Any, here: Path) -> None:
    words = ("dataset.path=data", f"runs_dir={AT}/runs")
    assert "use `classmark cloud train`" in run("train", "--once", *words, code=2).stderr
    for command in ("open", "sync"):
        assert (
            "has to be on this machine"
            in run("runs", command, "--runs-dir", f"{AT}/runs", code=2).stderr
        )


@needs_bucket
@pytest.mark.skipif(find_spec("optuna") is None, reason="Optuna is not installed")
def test_a_study_needs_a_folder_of_this_machine(bucket: Any, here: Path) -> None:
    words = ("dataset.path=data", f"runs_dir={AT}/runs")
    sweep = run("sweep", "run", "model=linear", *words, code=2)
    assert "a study needs a folder of this machine" in sweep.stderr


@needs_bucket
def test_other_machines_of_a_fit_find_the_dataset_in_the_bucket_themselves(
    bucket: Any, here: Path
) -> None:
    from classmark.pipeline import compose_config

    run("dataset", "sample", "--papers", 600, "--output", f"{AT}/data")
    config = compose_config(["model=transformer", f"dataset.path={AT}/data"])
    there = copy.deepcopy(config)  # by what a pickle, which Ray sends, is made of
    assert str(there.dataset) == f"{AT}/data"
    assert (local_copy(there.dataset) / "manifest.json").is_file()


@needs_bucket
def test_retraining_that_another_machine_does_is_left_alone(bucket: Any, here: Path) -> None:
    lease = BucketPath.parse(f"{AT}/retrain/lease")
    lease.write(b"another machine 17")
    words = ("retrain", "run", "--folder", "orders", "--lease")
    assert "is held by 'another machine 17'" in run(*words, lease, code=1).stderr
    assert list(here.iterdir()) == []
    assert "Give gs://BUCKET/OBJECT" in run(*words, "lease", code=2).stderr
