"""A bundle as a model of MLflow: what its server answers is what our service answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from classmark import Classifier
from classmark.bundle import find_bundle
from classmark.cli.app import app
from classmark.dataset import SampleConfig, sample_dataset
from classmark.tracking import MlflowStore, pyfunc

with_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")
START_S = 240.0
PAPERS: list[dict[str, Any]] = [
    {"id": "1", "title": "Colouring sparse graphs", "abstract": "We prove a bound."},
    {"id": "2", "abstract": r"A neural network on $\mathbb{R}^n$ in the style of Poincar\'e."},
    {"id": "3", "title": "Galaxies"},
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_served_model_answers_rows_and_tables_as_the_classifier_does() -> None:
    class Table:
        """What is asked of a table of pandas."""

        def to_dict(self, orient: str) -> list[dict[str, Any]]:
            assert orient == "records"
            return [{"id": None, "title": None, "abstract": None, **paper} for paper in PAPERS]

    classifier = Classifier()
    expected = [answer.to_dict() for answer in classifier.classify(PAPERS, top=2)]
    model = pyfunc._load_pyfunc(str(find_bundle()))
    assert model.predict(PAPERS, {"top": 2}) == expected
    assert model.predict(Table(), {"top": 2}) == expected
    (bad,) = model.predict([{"title": ""}])
    assert bad["error"]["kind"] == "invalid_paper"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a run that MLflow keeps, and the bundle that was made of it."""
    work = tmp_path_factory.mktemp("logged")
    sample_dataset(work / "papers", SampleConfig(papers=300, categories=24))
    words = ("experiment=debug", f"dataset.path={work / 'papers'}", "model.min_papers=3")
    trained = run("train", *words, f"runs_dir={work / 'runs'}", "tracker=mlflow")
    assert trained.exit_code == 0, trained.output
    folder = Path(trained.stdout.strip())
    assert run("export", folder, "--output", work / "mine-1.0").exit_code == 0
    return folder, work / "mine-1.0"


@contextmanager
def served(address: str, folder: Path, store: str) -> Iterator[str]:
    """Start MLflow's own server of a model for the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", address, "-p", str(port), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "served.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            stdout=said,
            stderr=said,
            start_new_session=True,
            env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": store, "DO_NOT_TRACK": "true"},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while not is_up(url):
            words = (folder / "served.txt").read_text("utf-8")
            assert process.poll() is None, words
            assert time.monotonic() < deadline, words
            time.sleep(0.5)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping", timeout=5, verify=False).status_code == 200
    except httpx.TransportError:
        return False


def what_the_page_shows() -> tuple[Any, list[Any]]:
    """Return the request on the page about tracking, and the lines that it prints."""
    page = (Path(__file__).parents[2] / "docs/how-to/track-runs.md").read_text("utf-8")
    block = page.partition("$ curl --silent localhost:5001")[2].partition("```")[0]
    body, _, printed = block.partition("-d '")[2].partition("' |\n")
    return json.loads(body), [json.loads(line) for line in printed.splitlines()[1:]]


@with_mlflow
@pytest.mark.slow  # reason: MLflow's server takes most of a minute to start
@pytest.mark.timeout(500)
def test_mlflows_server_of_a_logged_run_answers_as_the_service_does(
    logged: tuple[Path, Path], tmp_path: Path, start: Callable[..., Any]
) -> None:
    folder, bundle = logged
    result = run("runs", "log-model", folder, bundle)
    assert result.exit_code == 0, result.output
    address = result.stdout.strip()
    assert address.startswith("runs:/")
    store = MlflowStore.beside(folder.parent, "").uri
    options = {"top": 3, "threshold": 0.01}
    with start("--workers", "1", "--model", str(bundle)) as server, server.client() as client:
        reply = client.post("/v1/classify", json={"papers": PAPERS, **options})
        expected = reply.json()["answers"]
    with served(address, tmp_path, store) as url:
        forms = {"inputs": PAPERS}, {"dataframe_records": PAPERS}
        for form in forms:
            given = httpx.post(
                f"{url}/invocations", json={**form, "params": options}, timeout=60, verify=False
            )
            assert given.status_code == 200, given.text
            assert given.json()["predictions"] == [
                {key: v for key, v in answer.items() if key != "prediction_id"}
                for answer in expected
            ]
        body, shown = what_the_page_shows()
        given = httpx.post(f"{url}/invocations", json=body, timeout=60, verify=False)
        (answer,) = given.json()["predictions"]
    assert [label["code"] for label in answer["ranked"]] == [label["code"] for label in shown]
    probabilities = [label["probability"] for label in shown]
    assert [label["probability"] for label in answer["ranked"]] == pytest.approx(
        probabilities, abs=1e-3
    )
    files = [path.name for path in (folder.parent / "mlflow-artifacts").rglob("*")]
    assert "bundle.json" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import
def test_what_cannot_be_logged_is_refused(logged: tuple[Path, Path], tmp_path: Path) -> None:
    folder, bundle = logged
    packaged = find_bundle()
    other = run("runs", "log-model", folder, packaged)
    assert other.exit_code == 1
    assert "was not made of the run" in " ".join(other.stderr.split())
    unknown = f"sqlite:///{tmp_path / 'other.db'}"
    missing = run("runs", "log-model", folder, bundle, "--mlflow-uri", unknown)
    assert missing.exit_code == 1
    assert f"has no run {folder.name!r}. Train with" in " ".join(missing.stderr.split())
    (tmp_path / "bad.db").write_text("no database" * 100)
    damaged = f"sqlite:///{tmp_path / 'bad.db'}"
    down = run("runs", "log-model", folder, bundle, "--mlflow-uri", damaged)
    assert down.exit_code == 1
    assert "file is not a database" in " ".join(down.stderr.split())
    with socket.socket() as taken:  # it is bound, and does not listen
        taken.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
        nobody = run("runs", "log-model", folder, bundle, "--mlflow-uri", server)
    assert nobody.exit_code == 1
    assert "Connection refused" in " ".join(nobody.stderr.split())


def test_without_mlflow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # Python finds none then
    record: Any = None  # not looked at
    with pytest.raises(pyfunc.MissingExtra, match=r"classmark\[track\]"):
        pyfunc.log_model(MlflowStore("", "", ""), "a", record, tmp_path)
