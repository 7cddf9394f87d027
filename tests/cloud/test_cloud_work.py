"""What runs inside a job: the run is kept in the bucket while it is fitted, and restored."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import grpc
import pytest
from training_project import Project, project
from typer.testing import CliRunner

from classmark.cli.cloud.command import app
from classmark.cloud.serving.secrets import set_secret
from classmark.cloud.training.places import FolderPlace, place_of
from classmark.cloud.training.work import Fit, Mirror, Work, parse_secrets, reachable, read_secret
from classmark.dataset import SampleConfig, sample_dataset
from classmark.errors import CloudNotFound, CloudRefused, UsageError

__all__ = ["project"]
RUN = "transformer-1.unfinished"


class Recorded(FolderPlace):
    """A folder that remembers in which order it was written, and may fail."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.written: list[str] = []
        self.failures = 0

    def put(self, source: Path, name: str) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("the mount does not answer")
        self.written.append(name)
        super().put(source, name)


def _write(folder: Path, *names: str, text: str = "1") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _work(lines: list[str]) -> Work:
    return Work(dataset="d", run="r", overrides=(), secrets={}, every_s=0.1, say=lines.append)


@pytest.fixture
def place(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "bucket")


def test_a_mirror_copies_what_changes_and_records_last(place: Recorded, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    mirror = Mirror(folder, place)
    _write(folder, f"{RUN}/run.json", f"{RUN}/metrics.csv", f"{RUN}/.hidden")
    _write(folder, f"{RUN}/checkpoints/step-1/state.json", f"{RUN}/checkpoints/step-1/tensors")
    mirror.push()
    assert place.written[-2:] == [f"{RUN}/checkpoints/step-1/state.json", f"{RUN}/run.json"]
    assert f"{RUN}/.hidden" not in place.names()
    place.written.clear()
    _write(folder, f"{RUN}/metrics.csv", text="12")
    (folder / RUN / "checkpoints/step-1/tensors").unlink()
    mirror.push()
    assert place.written == [f"{RUN}/metrics.csv"]
    assert f"{RUN}/checkpoints/step-1/tensors" not in place.names()


def test_a_mirror_restores_what_a_killed_machine_left_but_no_half_copied_run(
    place: Recorded, tmp_path: Path
) -> None:
    _write(tmp_path / "bucket", f"{RUN}/run.json", "transformer-1/weights", "exit")
    folder = tmp_path / "runs"
    mirror = Mirror(folder, place)
    mirror.restore()
    assert [path.name for path in folder.iterdir()] == [RUN]
    mirror.push()
    assert place.names() == ["exit", f"{RUN}/run.json"]
    assert place.written == []


def test_a_machine_that_is_taken_away_lets_the_fit_end_itself(
    place: Recorded, tmp_path: Path
) -> None:
    program = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): pathlib.Path('runs/r').mkdir(parents=True);"
        " pathlib.Path('runs/r/run.json').write_text('{}'); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "print('ready', flush=True)\n"
        "pathlib.Path('ready').touch()\n"
        "while True: time.sleep(0.01)\n"
    )
    fit = Fit([sys.executable, "-c", program], dict(os.environ), tmp_path)
    mirror = Mirror(tmp_path / "runs", place)
    ended = threading.Event()

    def warn() -> None:
        while not (tmp_path / "ready").exists() and not ended.wait(0.01):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=warn)
    thread.start()
    before = signal.getsignal(signal.SIGTERM)
    code = fit.watch(mirror, _work([]))
    ended.set()
    thread.join()
    assert (code, fit.was_stopped) == (130, True)
    assert signal.getsignal(signal.SIGTERM) is before
    mirror.push()
    assert place.names() == ["r/run.json"]


def test_a_bucket_that_does_not_answer_for_a_while_ends_no_fit(
    place: Recorded, tmp_path: Path
) -> None:
    _write(tmp_path / "runs", f"{RUN}/run.json")
    place.failures, lines = 1, []
    done = tmp_path / "bucket" / RUN / "run.json"
    program = (
        f"import pathlib, time\nwhile not pathlib.Path({str(done)!r}).exists(): time.sleep(0.01)"
    )
    fit = Fit([sys.executable, "-c", program], dict(os.environ), tmp_path)

    assert fit.watch(Mirror(tmp_path / "runs", place), _work(lines)) == 0
    assert lines == ["warning: copying to r failed, and is tried again: the mount does not answer"]


def test_a_fit_that_a_signal_ends_has_the_code_of_a_shell(place: Recorded, tmp_path: Path) -> None:
    program = "import os; os.kill(os.getpid(), 9)"
    fit = Fit([sys.executable, "-c", program], dict(os.environ), tmp_path)
    assert fit.watch(Mirror(tmp_path / "runs", place), _work([])) == 137


def test_the_last_copy_is_tried_again(place: Recorded, tmp_path: Path) -> None:
    _write(tmp_path / "runs", f"{RUN}/run.json")
    mirror = Mirror(tmp_path / "runs", place)
    place.failures, lines = 1, []
    mirror.push_last(lines.append, tries=2)
    assert place.names() == [f"{RUN}/run.json"]
    assert lines == [
        "warning: copying the run failed, and is tried again: the mount does not answer"
    ]
    _write(tmp_path / "runs", f"{RUN}/metrics.csv")
    place.failures = 9
    with pytest.raises(OSError, match="the mount does not answer"):
        mirror.push_last(lines.append, tries=1)


@pytest.mark.slow  # reason: a process that fits
def test_a_secret_is_read_by_the_job_itself_into_its_environment(
    project: Project, tmp_path: Path
) -> None:
    """The variable is one that a fit shows that it has read: an unknown tracker is refused."""
    set_secret(project.google, "wandb-key", b"unknown-tracker\n")
    sample_dataset(tmp_path / "sample", SampleConfig(papers=300), command="a test")
    version = "projects/papers-test-1/secrets/classmark-production-wandb-key/versions/latest"
    words = ["--dataset", tmp_path / "sample", "--run", tmp_path / "kept"]

    done = CliRunner().invoke(
        app, ["work", *map(str, words), "--secret", f"CLASSMARK_TRACKER={version}"]
    )

    assert done.exit_code == 2
    assert (tmp_path / "kept" / "exit").read_text() == "2\n"


def test_a_secret_that_cannot_be_read_names_it_and_the_role(project: Project) -> None:
    version = "projects/papers-test-1/secrets/other/versions/latest"
    with pytest.raises(CloudNotFound, match="reading the secret projects/papers-test-1/secr"):
        read_secret(version)
    project.server.fail("AccessSecretVersion", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(CloudRefused, match=r"roles/secretmanager\.secretAccessor"):
        read_secret(version)
    assert parse_secrets([f"A={version}"]) == {"A": version}
    for wrong in ("A", "=projects/x", "A=value"):
        with pytest.raises(UsageError, match="is not NAME=projects"):
            parse_secrets([wrong])


def test_a_place_is_a_folder_or_a_bucket(project: Project, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("1")
    for text in (str(tmp_path / "folder"), "gs://papers/runs/x"):
        place = place_of(text)
        assert place.names() == []
        place.put(source, "b/c")
        place.put(source, "b/c")
        place.fetch("b/c", tmp_path / "new" / "d")
        assert (tmp_path / "new" / "d").read_text() == "1"
        assert place.names() == ["b/c"]
        place.remove("b/c")
        place.remove("b/c")
        assert place.names() == []
    with pytest.raises(UsageError):
        place_of("gs://")
    assert reachable("/gcs/papers/runs/x") == "gs://papers/runs/x"  # nothing is mounted here
    assert reachable(str(tmp_path)) == str(tmp_path)
