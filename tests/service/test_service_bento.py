"""A bento: what BentoML serves is what our service answers, and what cannot be served is refused.

`make test-bento` runs this in an environment of its own; elsewhere only what needs no BentoML runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from classmark import Classifier
from classmark.bundle import describe_files, find_bundle, load_bundle
from classmark.cli.app import app
from classmark.client import Client
from classmark.dataset import SampleConfig, sample_dataset
from classmark.errors import BundleCorrupt, StorageFailed
from classmark.export.bento import write_bento
from classmark.records import BadRecord, Paper
from classmark.service import make_settings
from classmark.service.answering.answerer import Answerer, AnswerOptions, Question
from classmark.service.metrics import Metrics

HAS_BENTOML = find_spec("bentoml") is not None
needs_bentoml = pytest.mark.skipif(not HAS_BENTOML, reason="needs the extra bentoml")
slow = pytest.mark.slow  # reason: BentoML takes seconds to build, and to start
ROOT = Path(__file__).parents[2]
START_S = 200.0
PAPER = {"id": "1", "title": "Colouring sparse graphs", "abstract": "We prove a bound."}
BODIES: dict[str, Any] = {
    "one paper": PAPER,
    "a text": {"text": "Galaxies\nWe look at galaxies.", "top": 2},
    "explained": {**PAPER, "explain": True, "top": 3},
    "another threshold": {**PAPER, "threshold": 0.01},
    "the category of the author": {**PAPER, "author_category": "math.CO"},
    "a batch": {"papers": [PAPER, {"title": ""}, {"id": 7, "text": "Stars."}], "top": 1},
    "authors": {**PAPER, "authors": ["Ada Sieve"]},
    "authors left out": {**PAPER, "authors": False},
    "authors of a batch left out": {"papers": [{**PAPER, "authors": "A. Sieve"}], "authors": False},
    "authors that are no names": {**PAPER, "authors": True},
    "names beside papers": {"papers": [PAPER], "authors": "A. Sieve"},
    "two kinds of text": {**PAPER, "text": "Stars."},
    "no text": {"title": " "},
    "an unknown field": {**PAPER, "titel": "x"},
    "top out of range": {**PAPER, "top": 0},
    "an unknown category": {**PAPER, "author_category": "math.XX"},
    "papers beside a paper": {**PAPER, "papers": [PAPER]},
    "too many papers": {"papers": [{"title": "x"}] * 1001},
    "too long a text": {"text": "x" * 200_001},
    "too large a body": {"text": "x" * 9_000_000},
}


@dataclass
class Served:
    """A bento that is served: its address, and the file that holds what BentoML said."""

    url: str
    log: Path


def export(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, words)])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("fitted")
    sample_dataset(work / "papers", SampleConfig(papers=300, categories=24))
    words = ("experiment=debug", f"dataset.path={work / 'papers'}", "model.min_papers=3")
    trained = CliRunner().invoke(app, ["train", *words, f"runs_dir={work / 'runs'}"])
    assert trained.exit_code == 0, trained.output
    return Path(trained.stdout.strip())


@pytest.fixture(scope="module")
def bento(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "mine-1.0"
    result = export(run_folder, "--format", "bento", "--output", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith("mine-1.0")
    return folder


def start(bento: Path, log: Path, port: int, **settings: object) -> subprocess.Popen[bytes]:
    own = {f"CLASSMARK_BENTO_{name.upper()}": str(value) for name, value in settings.items()}
    kept = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(log.parent / "bentoml")}
    command = ["-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as said:
        return subprocess.Popen(
            [sys.executable, *command],
            stdout=said,
            stderr=said,
            cwd=log.parent,
            env={**os.environ, **kept, **own},
        )


@contextmanager
def served(bento: Path, folder: Path, **settings: object) -> Iterator[Served]:
    """Serve a bento with BentoML for the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Served(f"http://127.0.0.1:{port}", folder / "served.txt")
    process = start(bento, server.log, port, **settings)
    try:
        deadline = time.monotonic() + START_S
        while not is_up(server.url):
            assert process.poll() is None, server.log.read_text("utf-8")
            assert time.monotonic() < deadline, server.log.read_text("utf-8")
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()  # its workers are in groups of their own, and end with it
        process.wait(START_S)


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, verify=False).status_code == 200
    except httpx.TransportError:
        return False


def comparable(reply: httpx.Response) -> tuple[int, str, Any]:
    """Return a reply without the names that differ in every request."""
    text = re.sub(r'"(prediction_id|instance)":"[^"]*"', r'"\1":""', reply.text)
    return reply.status_code, reply.headers["content-type"].partition(";")[0], json.loads(text)


def test_requests_that_are_scored_together_get_what_each_gets_alone() -> None:
    answerer = Answerer(Classifier(), make_settings(journal="off"), Metrics())
    graphs, stars = Paper(id="1", title="Sparse graphs"), Paper(id="2", abstract="We see stars.")
    bad = BadRecord(id="3", kind="invalid_paper", message="it is empty")
    asked: list[tuple[list[Question | BadRecord], AnswerOptions]] = [
        ([Question(graphs, "math.CO")], AnswerOptions(top=2)),
        ([bad, Question(stars), Question(graphs)], AnswerOptions(explain=True, threshold=0.01)),
        ([bad], AnswerOptions()),
    ]
    together = answerer.answer_together(asked)
    for (questions, options), documents in zip(asked, together, strict=True):
        alone = answerer.answer_many(questions, options, lambda: None)
        assert [without_id(document) for document in documents] == list(map(without_id, alone))


def without_id(document: Any) -> dict[str, Any]:
    return {key: v for key, v in document.to_dict().items() if key != "prediction_id"}


@needs_bentoml
@slow
@pytest.mark.timeout(600)
def test_a_bento_answers_and_refuses_as_the_service_does(
    bento: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    options = ("--workers", "1", "--model", str(bento / "src" / "model"), "--journal", "off")
    with (
        start(*options) as server,
        server.client() as ours,
        served(bento, tmp_path) as peer,
        httpx.Client(base_url=peer.url, timeout=60, verify=False) as theirs,
    ):
        for name, body in BODIES.items():
            replies = [client.post("/v1/classify", json=body) for client in (ours, theirs)]
            assert comparable(replies[1]) == comparable(replies[0]), name
        for content, media_type in ((b"{", "application/json"), (b"{}", "text/plain")):
            fields = {"content-type": media_type}
            replies = [
                client.post("/v1/classify", content=content, headers=fields)
                for client in (ours, theirs)
            ]
            assert comparable(replies[1]) == comparable(replies[0]), media_type
        with Client(peer.url) as client:
            assert client.classify(PAPER).ranked == client.classify([PAPER])[0].ranked


@needs_bentoml
@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("batching", [True, False])
def test_requests_that_wait_are_answered_together_where_batching_is_on(
    bento: Path, tmp_path: Path, *, batching: bool
) -> None:
    n = 200
    titles = [{"title": f"graph {i}"} for i in range(n)]
    with (
        served(bento, tmp_path, batching=batching) as server,
        httpx.Client(base_url=server.url, timeout=60, verify=False) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        together = pool.map(lambda body: client.post("/v1/classify", json=body), titles)
        given = [reply.json()["probability"] for reply in together]
        metrics = client.get("/metrics").text
        alone = client.post("/v1/classify", json={"papers": titles}).json()
    assert given == pytest.approx([answer["probability"] for answer in alone["answers"]])
    batches = re.findall(r"adaptive_batch_size_count\{.*\} ([\d.]+)", metrics)
    assert bool(batches) == batching
    assert sum(map(float, batches)) < n


@needs_bentoml
@slow
@pytest.mark.timeout(600)
def test_more_requests_than_allowed_at_once_are_refused(bento: Path, tmp_path: Path) -> None:
    body = {"papers": [{"title": f"graph {i}"} for i in range(900)]}
    with (
        served(bento, tmp_path, batching=False, max_concurrency=1) as server,
        httpx.Client(base_url=server.url, timeout=60, verify=False) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = pool.map(lambda _: client.post("/v1/classify", json=body), range(16))
        assert {reply.status_code for reply in replies} == {200, 429}


@needs_bentoml
@slow
def test_the_folder_holds_the_bundle_and_no_pickle_and_no_place_of_this_machine(
    bento: Path, run_folder: Path, tmp_path: Path
) -> None:
    assert export(run_folder, "--output", tmp_path / "mine-1.0").exit_code == 0
    inside = load_bundle(bento / "src" / "model")
    assert inside.digest == load_bundle(tmp_path / "mine-1.0").digest
    # Python writes its caches when another test serves the folder.
    files = [path for path in bento.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle")]
    written = b"".join(path.read_bytes() for path in files)
    assert str(bento.parent).encode() not in written
    assert str(run_folder.parent).encode() not in written
    assert "classmark[bentoml]==" in (bento / "env/python/requirements.txt").read_text("utf-8")
    assert bento.stat().st_mode == tmp_path.joinpath("mine-1.0").stat().st_mode


@needs_bentoml
@slow
def test_a_bento_that_exists_is_replaced_on_request_only(bento: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bento, tmp_path / "mine-1.0"))
    (copy / "stale").touch()
    with pytest.raises(StorageFailed, match=r"mine-1\.0"):
        write_bento(bento / "src" / "model", copy)
    files = write_bento(bento / "src" / "model", copy, overwrite=True)
    assert not (copy / "stale").exists()
    assert [name for name in files if files[name] != describe_files(bento)[name]] == ["bento.yaml"]


@needs_bentoml
@slow
def test_a_build_that_fails_leaves_nothing_and_says_what_bentoml_said(
    bento: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_CONFIG", str(tmp_path / "absent.yaml"))
    with pytest.raises(StorageFailed, match=r"BentoML could not build the bento: .*absent\.yaml"):
        write_bento(bento / "src" / "model", tmp_path / "mine-1.0")
    assert not list(tmp_path.iterdir())


@needs_bentoml
@slow
def test_a_bundle_that_is_damaged_becomes_no_bento(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(find_bundle(), tmp_path / "copy"))
    with (copy / "arrays" / "bias.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleCorrupt, match=r"bias\.npy has changed"):
        write_bento(copy, tmp_path / "mine-1.0")
    assert not (tmp_path / "mine-1.0").exists()


def damage(bento: Path) -> None:
    with (bento / "src" / "model" / "arrays" / "bias.npy").open("ab") as file:
        file.write(b"x")


def half_write(bento: Path) -> None:
    (bento / "src" / "model" / "bundle.json").unlink()


def lose_description(bento: Path) -> None:
    (bento / "bento.yaml").unlink()


def keep(bento: Path) -> None:
    assert bento.is_dir()


@needs_bentoml
@slow
@pytest.mark.parametrize(
    ("spoil", "settings", "expected"),
    [
        (damage, {}, r"bias\.npy has changed since the bundle was written\. Install or export"),
        (half_write, {}, r"no model at .*: it holds no bundle\.json"),
        (lose_description, {}, r"does not contain a valid bentofile\.yaml"),
        (keep, {"workers": 0}, r"CLASSMARK_BENTO_WORKERS cannot be '0'"),
    ],
)
def test_what_cannot_be_served_ends_bentoml_with_one_line(
    bento: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    settings: dict[str, object],
    expected: str,
) -> None:
    copy = Path(shutil.copytree(bento, tmp_path / "mine-1.0"))
    spoil(copy)
    process = start(copy, tmp_path / "said.txt", 0, **settings)
    assert process.wait(START_S) == 1
    said = (tmp_path / "said.txt").read_text("utf-8")
    assert re.search(expected, said), said
    assert "Traceback" not in said


@needs_bentoml
@slow
def test_a_port_in_use_ends_bentoml_with_an_error(bento: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(bento, tmp_path / "said.txt", taken.getsockname()[1])
        assert process.wait(START_S) == 1
    assert "Address already in use" in (tmp_path / "said.txt").read_text("utf-8")


@needs_bentoml
@slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_command_of_the_page_prints_what_it_shows(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "bentoml.md"
    run = subprocess.run(
        [sys.executable, ROOT / "docs" / "tutorial_run.py", page],
        capture_output=True,
        text=True,
        env={**os.environ, "BENTOML_HOME": str(tmp_path)},
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout


@pytest.mark.skipif(HAS_BENTOML, reason="BentoML is installed")
def test_without_bentoml_the_extra_is_named_before_any_work(
    run_folder: Path, tmp_path: Path
) -> None:
    result = export(run_folder, "--format", "bento", "--output", tmp_path / "mine-1.0")
    assert result.exit_code == 1
    assert "pip install 'classmark[bentoml]'" in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


@needs_bentoml
@slow
@pytest.mark.timeout(600)
def test_servers_of_others_are_measured_under_the_same_load(tmp_path: Path) -> None:
    names = ["bentoml", "litserve"]
    report = tmp_path / "report.json"
    words = ["--parts", "loads", "--only", ";".join(names), "--tiny", "--output", str(report)]
    command = [sys.executable, str(ROOT / "benchmarks" / "servers.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())["loads"]["fast"]
    assert list(found) == names
    for server in found.values():
        assert all(point["requests_per_s"] > 0 for point in server["single"])
        assert server["overload"]["answered"] > 0
        assert server["ready_s"] > 0
        assert server["pss_mb"] > 0
