"""The process that MLflow lives in; ``child`` says how a fit and it talk."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classmark.tracking.child import Writer, run_writer
from classmark.tracking.tracker import SQLITE

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_LOCKED_SECONDS = 5.0
_METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
_LONGEST_PARAM = 6000
_LONGEST_DIGEST = 36


class MlflowWriter(Writer):
    """Gives the messages of a fit to MLflow, one run."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run_id = ""

    def _take_start(self, store: Mapping[str, str], run: Mapping[str, Any]) -> None:
        check_sqlite(store["uri"])
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=store["uri"])
        experiment = self._experiment(store["experiment"], store["artifacts"])
        created = self._client.create_run(experiment, run_name=run["name"], tags=run["tags"])
        self._run_id = created.info.run_id
        self._log_params(run["params"])
        self._log_dataset(run["dataset"], run["dataset_digest"])

    def _experiment(self, name: str, artifacts: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifacts or None))
            except MlflowException:  # another fit was first
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        listed = [Param(key, value[:_LONGEST_PARAM]) for key, value in params.items()]
        for first in range(0, len(listed), _PARAMS_AT_ONCE):
            self._client.log_batch(self._run_id, params=listed[first : first + _PARAMS_AT_ONCE])

    def _log_dataset(self, dataset: str, digest: str) -> None:
        if not digest:
            return
        from mlflow.entities import Dataset, DatasetInput

        entity = Dataset(Path(dataset).name, digest[:_LONGEST_DIGEST], "local", dataset)
        self._client.log_inputs(self._run_id, [DatasetInput(entity)])

    def _take_metrics(self, rows: list[tuple[int, int, dict[str, float]]]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, now_ms, step)
            for now_ms, step, values in rows
            for name, value in values.items()
        ]
        for first in range(0, len(metrics), _METRICS_AT_ONCE):
            self._client.log_batch(self._run_id, metrics[first : first + _METRICS_AT_ONCE])

    def _take_artifact(self, path: str, folder: str) -> None:
        self._client.log_artifact(self._run_id, path, folder or None)

    def _take_finish(self, status: str) -> None:
        if self._run_id:
            self._client.set_terminated(self._run_id, STATUS[status])
            self._run_id = ""

    def close(self) -> None:
        """End a run whose fit went away without a word."""
        self._take_finish("stopped")


def check_sqlite(uri: str) -> None:
    """Raise at once what MLflow would try for minutes: locked, read-only, no database.

    Raises:
        sqlite3.Error: says which.
    """
    if not uri.startswith(SQLITE):
        return
    file = Path(uri.removeprefix(SQLITE))
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=_LOCKED_SECONDS)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(run_writer(MlflowWriter()))
