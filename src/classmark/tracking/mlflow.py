"""MLflow as a tracker; MLflow itself is imported in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classmark.errors import TrackerDown
from classmark.tracking.config import SQLITE, flat
from classmark.tracking.process import WriterProcess
from classmark.tracking.tracker import RunInfo, Status

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"
FIGURES = "figures"
# Who has failed or pressed Ctrl-C is not made to wait for the start of MLflow.
_SHORT_PATIENCE_S = 5.0
_ROWS_AT_ONCE = 1000
_SECONDS_BETWEEN = 1.0


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


class MlflowTracker:
    """Keeps a run in MLflow: every call only queues, ``finish`` waits.

    Args:
        store: where to.
        patience_s: longest that ``finish`` waits, in seconds.
    """

    def __init__(self, store: MlflowStore, patience_s: float) -> None:
        self._store = store
        self._patience_s = patience_s
        self._process: WriterProcess | None = None
        self._rows: list[tuple[str, float, int, int]] = []
        self._sent_at = 0.0

    @property
    def name(self) -> str:
        """Return MLflow's place."""
        return f"MLflow at {self._store.uri.removeprefix(SQLITE)}"

    def start(self, run: RunInfo) -> None:
        """Start MLflow's process; it hears of the run when it is up."""
        self._process = WriterProcess()
        described = {
            "name": run.name,
            "tags": dict(_tags(run)),
            "params": _params(run.config),
            "dataset": run.dataset,
            "dataset_digest": run.dataset_digest,
        }
        self._send({"call": "start", "store": asdict(self._store), "run": described})

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        """Queue numbers of one step; they go on together with those of the same second."""
        now_ms = time.time_ns() // 1_000_000
        named = values if epoch is None else {**values, "epoch": epoch}
        self._rows += [(name, float(value), now_ms, step) for name, value in named.items()]
        waited_s = time.monotonic() - self._sent_at
        if waited_s >= _SECONDS_BETWEEN or len(self._rows) >= _ROWS_AT_ONCE:
            self._send_rows()

    def artifact(self, path: Path, folder: str = "") -> None:
        """Queue a file."""
        self._send({"call": "artifact", "path": str(path.resolve()), "folder": folder})

    def figure(self, name: str, svg_or_png: Path) -> None:  # noqa: ARG002 - the file has the name
        """Queue a picture; MLflow's page shows it."""
        self.artifact(svg_or_png, FIGURES)

    def finish(self, status: Status) -> None:
        """End the run; what MLflow has not taken within its patience is given up."""
        self._send_rows()
        self._send({"call": "finish", "status": status})
        patience_s = self._patience_s
        if status != "finished":
            patience_s = min(patience_s, _SHORT_PATIENCE_S)
        self._started().end(patience_s)

    def _send_rows(self) -> None:
        self._sent_at = time.monotonic()
        if self._rows:
            self._send({"call": "metrics", "rows": self._rows})
            self._rows = []

    def _send(self, message: Mapping[str, Any]) -> None:
        self._started().send(message)

    def _started(self) -> WriterProcess:
        if self._process is None:
            raise TrackerDown("the run was never started")
        return self._process


def _tags(run: RunInfo) -> Iterator[tuple[str, str]]:
    yield "mlflow.source.name", run.command
    yield "kind", run.kind
    yield "dataset", run.dataset
    yield "dataset_digest", run.dataset_digest
    if run.commit is not None:
        commit = run.commit.removesuffix("+")
        yield "mlflow.source.git.commit", commit
        yield "git_commit", commit
        yield "git_dirty", str(run.commit != commit).lower()
    for key, value in run.hardware.items():
        yield f"hardware.{key}", value


def _params(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the configuration without the trackers' own keys."""
    return dict(flat({key: value for key, value in config.items() if key != "tracker"}))
