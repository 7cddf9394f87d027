"""The process that MLflow lives in: JSON lines in from a fit, one line out if it fails.

MLflow takes seconds to import, tries for minutes to reach what is not there, and talks on stderr.
In a process of its own it costs a fit no time, and can be given up.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from classmark.tracking.tracker import SQLITE

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_LOCKED_SECONDS = 5.0
_METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
_LONGEST_PARAM = 6000
_LONGEST_DIGEST = 36


class Writer:
    """Gives the messages of a fit to MLflow, one run."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run_id = ""

    def take(self, message: Mapping[str, Any]) -> None:
        """Do what a message says; its ``call`` names the method."""
        arguments = {key: value for key, value in message.items() if key != "call"}
        getattr(self, f"_take_{message['call']}")(**arguments)

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

    def _take_metrics(self, rows: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(*row) for row in rows]
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


def write(lines: Iterable[str]) -> None:
    """Give every line to MLflow until there are no more."""
    writer = Writer()
    for line in lines:
        writer.take(json.loads(line))
    writer.close()


def main() -> int:
    """Read stdin to its end; what fails is one line on stdout, and 1."""
    answer, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    try:
        write(sys.stdin)
    except Exception as error:  # noqa: BLE001 - the parent decides what to do
        print(describe(error), file=answer, flush=True)
        return 1
    return 0


def describe(error: BaseException) -> str:
    """Return the words of the first cause on one line: MLflow's own go on for a page."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
