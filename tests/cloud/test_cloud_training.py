"""Training on Google Cloud: real fits in jobs that are taken away, and what can go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_project import Project, mounted, project

from classmark.dataset import SampleConfig, sample_dataset
from classmark.pipeline import compose_config, train
from deep_models import tiny_encoder

__all__ = ["project", "tiny_encoder"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    sample_dataset(folder, SampleConfig(papers=300, categories=12), command="a test")
    return folder


def words_of(encoder: Path) -> list[str]:
    return [
        "model=transformer", f"model.encoder={encoder}", "model.max_length=32",
        "model.threads=1", "model.epochs=3", "model.max_samples=96", "model.max_held_out=20",
        "model.device=cpu", "model.checkpoint_minutes=0", "tracker=csv",
    ]  # fmt: skip


@pytest.mark.slow  # reason: three processes that import Lightning
def test_a_job_that_is_taken_away_resumes_and_gives_the_run_of_a_local_fit(
    project: Project, dataset: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    project.upload(dataset)
    mounted(project, tmp_path / "gcs")
    project.jobs.preempt_at = "papers/runs/*/*.unfinished/checkpoints/step-*/state.json"

    done = project.train("--spot", "--output", tmp_path / "runs", *words_of(tiny_encoder))

    assert done.exit_code == 0, done.output
    run = Path(done.stdout.splitlines()[-1])
    (starts,) = project.jobs.starts.values()
    assert len(starts) == 2
    assert starts[0] == starts[1]
    words = [*words_of(tiny_encoder), f"dataset.path={dataset}", f"runs_dir={tmp_path / 'local'}"]
    local = train(compose_config(words), command="a test")
    for name in ("weights/model.safetensors", "scores/model-test.npz"):
        assert (run / name).read_bytes() == (local / name).read_bytes()
    lines = done.stderr.splitlines()
    assert sum("resuming transformer-" in line for line in lines) == 1
    assert sum(line.startswith("fitting ") for line in lines) == 2
    assert [line.split()[-1] for line in lines if line.startswith("vertex-")][1:] == [
        "QUEUED", "PENDING", "RUNNING", "PENDING", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip
    assert json.loads((run / "provenance.json").read_text())["dataset"] == "../../datasets/sample"
