"""The job for a GPU, run dry on a CPU: papers and encoder in pieces, a fit, what it writes."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
sys.path.append(str(Path(__file__).parents[2] / "deploy" / "gpu"))

import pieces
import torch

from classmark.dataset import SampleConfig, load_manifest, read_split, sample_dataset
from classmark.kernels.tokens import PairTokenizer
from classmark.pipeline import ExportOptions, export_run
from classmark.records import ScoreTable
from classmark.runtime import Classifier
from deep_models import tiny_encoder  # noqa: F401 - a fixture

GPU = Path(__file__).parents[2] / "deploy" / "gpu"
QUICK = ("epochs=1", "batch_tokens=2048", "compile=false", "max_length=48")
pytestmark = pytest.mark.slow  # reason: processes that import torch


def call(script: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script as ``python SCRIPT`` does, in this process: it has imported torch already."""
    words = [str(GPU / script), *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                err.write(f"{ended.code}\n")
    assert status == code, err.getvalue()
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def call_alone(script: str, *arguments: str | Path) -> None:
    """Run a script in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(GPU / script), *map(str, arguments)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Compute with one thread: on a busy machine two wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "dataset"
    sample_dataset(folder, SampleConfig(papers=1600), periods=("2017-12-31", "2019-12-31"))
    return folder


@pytest.fixture(scope="module")
def prepared(dataset: Path, tiny_encoder: Path) -> Path:  # noqa: F811
    """Return the folder with ``data`` and the configuration beside it."""
    place = dataset.parent
    call_alone(
        "prepare.py", "--dataset", dataset, "--encoder", tiny_encoder, "--output", place / "data",
        "--max-length", "64",
    )  # fmt: skip
    (place / "minilm.json").write_bytes((GPU / "minilm.json").read_bytes())
    return place


def run_job(
    prepared: Path, output: Path, *changes: str, share: str = "0.04", run: Any = call
) -> dict[str, Any]:
    run("job.py", prepared / "minilm.json", *QUICK, *changes, "--share", share, "--output", output)
    report: dict[str, Any] = json.loads((output / "report.json").read_text())
    return report


def test_the_pieces_hold_the_tokens_and_labels_of_every_paper(
    dataset: Path,
    prepared: Path,
    tiny_encoder: Path,  # noqa: F811
) -> None:
    meta = json.loads((prepared / "data" / "meta.json").read_text())
    manifest = load_manifest(dataset)
    split = read_split(dataset, "test", manifest)
    read = pieces.read_split(prepared / "data", meta["splits"]["test"]["files"], 64)
    encoded = PairTokenizer(tiny_encoder / "tokenizer.json", 64).encode(
        list(zip(split.titles, split.abstracts, strict=True))
    )
    assert read.lengths.tolist() == [len(paper) for paper in encoded]
    assert read.tokens.tolist() == np.concatenate([paper.ids for paper in encoded]).tolist()
    assert read.labels.tolist() == split.labels.tolist()
    listed = read.listed.numpy()
    for i in range(len(split)):
        stored = split.listed_indices[split.listed_indptr[i] : split.listed_indptr[i + 1]]
        assert {*listed[i][listed[i] >= 0], split.labels[i]} == {*stored, split.labels[i]}


def test_training_papers_are_shuffled_and_none_is_lost(dataset: Path, prepared: Path) -> None:
    meta = json.loads((prepared / "data" / "meta.json").read_text())
    read = pieces.read_split(prepared / "data", meta["splits"]["train"]["files"], 64)
    labels = read_split(dataset, "train").labels.tolist()
    assert read.labels.tolist() != labels
    assert sorted(read.labels.tolist()) == sorted(labels)


def test_a_dry_run_on_few_papers_fits_measures_and_writes(prepared: Path, tmp_path: Path) -> None:
    report = run_job(prepared, tmp_path / "out", run=call_alone)
    fitted = report["fit"]
    assert fitted["status"] == "finished"
    assert fitted["papers"] == 64
    assert report["machine"]["precision"] == "float32"
    assert report["accuracy"]["test"]["all"]["papers"] == 64
    scores = np.load(tmp_path / "out" / "scores-test.npy")
    assert scores.shape == (64, 28)
    assert np.isfinite(scores).all()
    assert all(path.stat().st_size <= 16 << 20 for path in (tmp_path / "out").iterdir())


def test_it_learns_and_the_same_seed_gives_the_same_numbers(prepared: Path, tmp_path: Path) -> None:
    changes = ("epochs=12", "encoder_rate=0.003", "head_rate=0.02", "average_decay=0.9")
    first = run_job(prepared, tmp_path / "a", *changes, share="0.4")
    again = run_job(prepared, tmp_path / "b", *changes, share="0.4")
    assert first["accuracy"]["test"]["all"]["top_1"] > 0.5
    assert first["accuracy"] == again["accuracy"]
    assert first["fit"]["log"] == again["fit"]["log"]


def test_what_comes_back_becomes_a_run_that_can_be_exported(
    dataset: Path, prepared: Path, tmp_path: Path
) -> None:
    changes = ("epochs=1", "encoder_rate=0.003", "head_rate=0.02", "average_decay=0.9")
    run_job(prepared, tmp_path / "out", *changes, share="1")
    seen = ("--prepared", prepared / "data", "--results", tmp_path / "out", "--dataset", dataset)
    done = call("collect.py", *seen, "--runs-dir", tmp_path / "runs")
    run = Path(done.stdout.splitlines()[-1])
    table = ScoreTable.read(run / "scores" / "model-test.npz")
    assert table.ids == read_split(dataset, "test").ids
    bundle = tmp_path / "deep-1.0"
    export_run(run, bundle, ExportOptions(name="deep", version="1.0", quantize="fp32"))
    answer = Classifier(bundle).classify("Colouring sparse graphs\nWe colour sparse graphs.")
    assert answer.model.name == "deep"


def test_the_results_of_a_dry_run_are_refused(
    dataset: Path, prepared: Path, tmp_path: Path
) -> None:
    run_job(prepared, tmp_path / "out")
    seen = ("--prepared", prepared / "data", "--results", tmp_path / "out", "--dataset", dataset)
    done = call("collect.py", *seen, "--runs-dir", tmp_path / "runs", code=1)
    assert "is a dry run on a share of 0.04 of the papers. Run the job on all" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_time_limit_ends_the_fit_and_the_results_are_written(
    prepared: Path, tmp_path: Path
) -> None:
    report = run_job(prepared, tmp_path / "out", "time_limit_s=0", share="0.4")
    assert report["fit"]["status"] == "stopped by time_limit_s"
    assert report["fit"]["steps"] == 1
    assert (tmp_path / "out" / "scores-valid.npy").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["epoch=1"], "minilm.json: epoch is unknown. It has: average_decay, batch_tokens"),
        (["epochs"], "'epochs' is not KEY=VALUE, e.g. epochs=1."),
        (["pooling=sum"], "pooling is 'sum'; choose mean, cls or max."),
        (["encoder_rate=1e30"], "Lower encoder_rate or head_rate."),
    ],
)
def test_what_cannot_be_run_is_one_line_and_leaves_the_last_results(
    prepared: Path, tmp_path: Path, changes: Sequence[str], line: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    done = call(
        "job.py", prepared / "minilm.json", *QUICK, *changes,
        "--share", "0.2", "--output", tmp_path / "out", code=1,
    )  # fmt: skip
    assert line in done.stderr.splitlines()[-1]
    assert (tmp_path / "out" / "report.json").read_text() == "{}"


@given(
    lengths=st.lists(st.integers(2, 300), min_size=1, max_size=80),
    budget=st.integers(300, 4000),
    seed=st.none() | st.integers(0, 9),
)
def test_batches_hold_every_paper_once_within_the_budget(
    lengths: list[int], budget: int, seed: int | None
) -> None:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = pieces.make_batches(torch.tensor(lengths), budget, generator)
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == list(
        range(len(lengths))
    )
    for batch in batches:
        assert batch.longest % pieces.LENGTH_STEP == 0
        assert batch.longest >= max(lengths[row] for row in batch.rows.tolist())
        assert len(batch.rows) == 1 or len(batch.rows) * batch.longest <= budget


@settings(max_examples=20)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), room=st.integers(64, 4000))
def test_weights_come_back_in_half_precision_from_small_files(
    rows: int, columns: int, room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    state = {"a.weight": torch.randn(rows, columns), "a.bias": torch.randn(columns)}
    pieces.write_weights(folder, state, piece_bytes=room)
    read = pieces.read_weights(folder)
    for name, tensor in state.items():
        assert torch.equal(read[name], tensor.half().float())
