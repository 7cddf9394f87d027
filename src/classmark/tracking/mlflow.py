"""MLflow as a tracker; MLflow itself is imported in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classmark.errors import TrackerDown
from classmark.tracking.child import ChildTracker, first_cause
from classmark.tracking.tracker import SQLITE, RunInfo, flat

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"
FIGURES = "figures"
# A server that does not answer is given up after seconds, unless the environment says otherwise.
_SHORT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_FEW_TRIES = {name: value for name, value in _SHORT.items() if "TIMEOUT" not in name}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def ask_child(module: str, uri: str, asked: Mapping[str, Any]) -> str:
    """Return what a module's ``main`` printed, which runs in a process of its own, with MLflow.

    Args:
        module: its full name; its ``main`` calls ``answer_parent``.
        uri: of MLflow, for the error.
        asked: JSON that it reads from stdin.

    Raises:
        TrackerDown: it failed.
    """
    done = subprocess.run(
        # -P: a file of the current folder must not replace a module.
        (sys.executable, "-P", "-m", module),
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**_FEW_TRIES, **os.environ, **QUIET},
        check=False,
    )
    said = done.stdout.strip()
    if done.returncode:
        why = said.rstrip(".") or f"ended with {done.returncode}"
        raise TrackerDown(
            f"MLflow at {uri}: {why}. Check its address, start it, then run this again."
        )
    return said


def answer_parent(work: Callable[..., str]) -> int:
    """Print what the work of ``ask_child`` returns, or what failed in one line and return 1."""
    answer, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    try:
        said, code = work(**json.load(sys.stdin)), 0
    except Exception as error:  # noqa: BLE001 - the parent decides what to do
        said, code = first_cause(error), 1
    print(said, file=answer, flush=True)
    return code


@dataclass(frozen=True)
class MlflowStore:
    """Where MLflow keeps runs.

    Attributes:
        uri: ``sqlite:///PATH`` or the address of a server.
        artifacts: address of the folder for files, "" where the server decides.
        experiment: name that the runs are grouped under.
    """

    uri: str
    artifacts: str
    experiment: str

    @classmethod
    def beside(cls, runs_dir: Path, experiment: str) -> MlflowStore:
        """Return the local store of a folder of runs."""
        runs_dir = runs_dir.resolve()
        return cls(
            SQLITE + (runs_dir / DATABASE).as_posix(), (runs_dir / ARTIFACTS).as_uri(), experiment
        )


class MlflowTracker(ChildTracker):
    """Keeps a run in MLflow.

    Args:
        store: where to.
        patience_s: longest that ``finish`` waits, in seconds.
    """

    writer = "classmark.tracking.mlflow_writer"

    def __init__(self, store: MlflowStore, patience_s: float) -> None:
        super().__init__(patience_s)
        self._store = store

    @property
    def name(self) -> str:
        """Return MLflow's place."""
        return f"MLflow at {self._store.uri.removeprefix(SQLITE)}"

    def figure(self, name: str, svg_or_png: Path) -> None:  # noqa: ARG002 - the file has the name
        """Queue a picture; MLflow's page shows it."""
        self.artifact(svg_or_png, FIGURES)

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Nothing: MLflow's run has the name of the run folder, where the model is."""

    def _environment(self, run: RunInfo) -> dict[str, str]:  # noqa: ARG002 - the same for each
        return {**_SHORT, **os.environ, **QUIET}

    def _described(self, run: RunInfo) -> dict[str, Any]:
        described = {
            "name": run.name,
            "tags": dict(_tags(run)),
            "params": _params(run.config),
            "dataset": run.start.dataset,
            "dataset_digest": run.start.dataset_digest,
        }
        return {"store": asdict(self._store), "run": described}


def _tags(run: RunInfo) -> Iterator[tuple[str, str]]:
    yield "mlflow.source.name", run.start.command
    yield "kind", run.start.kind
    yield "dataset", run.start.dataset
    yield "dataset_digest", run.start.dataset_digest
    if run.start.commit is not None:
        commit = run.start.commit.removesuffix("+")
        yield "mlflow.source.git.commit", commit
        yield "git_commit", commit
        yield "git_dirty", str(run.start.commit != commit).lower()
    for key, value in run.hardware.items():
        yield f"hardware.{key}", value


def _params(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the configuration without the trackers' own keys."""
    kept = {key: value for key, value in config.items() if key != "tracker"}
    return {key: str(value) for key, value in flat(kept)}
