"""A bundle as a model of MLflow: logged with its run, and answering where MLflow serves it.

MLflow keeps the folder of the bundle and the name of this module, whose ``_load_pyfunc`` it calls:
no pickle. It is imported in a process of its own, as for a fit.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from classmark import __version__
from classmark.bundle import load_bundle
from classmark.errors import BundleIncompatible, MissingExtra, RunNotFound
from classmark.kernels import kernel_of
from classmark.records import RunRecord
from classmark.runtime import Classifier
from classmark.tracking.config import has_mlflow
from classmark.tracking.mlflow import MlflowStore, answer_parent, ask_child
from classmark.tracking.mlflow_writer import check_sqlite

MODEL = "model"
"""Name of the model within its run."""
_TEXT_COLUMNS = ("id", "title", "abstract")
_OPTIONS = {"top": ("long", 5), "threshold": ("double", None), "explain": ("boolean", False)}


def log_model(store: MlflowStore, run_name: str, record: RunRecord, bundle: Path) -> str:
    """Return the address of a bundle that was logged with its run: ``runs:/ID/model``.

    Args:
        store: where the run is.
        run_name: of the run, in that store.
        record: of the run, to compare.
        bundle: folder that ``export`` made of the run.

    Raises:
        MissingExtra: MLflow is not installed.
        BundleNotFound, BundleCorrupt: there is no sound bundle.
        BundleIncompatible: it was made of another run, or is a cascade.
        RunNotFound: the store has no run of that name.
        TrackerDown: the store cannot be used.
    """
    if not has_mlflow():
        raise MissingExtra("logging a model", "track")
    asked = {
        "store": asdict(store),
        "run_name": run_name,
        "bundle": str(bundle.resolve()),
        "requirement": _check_bundle(bundle, run_name, record),
    }
    said = ask_child(__name__, store.uri, asked)
    if not said:
        raise RunNotFound(
            f"MLflow at {store.uri} has no run {run_name!r}. Train with tracker=mlflow, or say "
            "where it is with --mlflow-uri."
        )
    return said


def _check_bundle(bundle: Path, run_name: str, record: RunRecord) -> str:
    """Return the package that a bundle of this run needs where it is served."""
    manifest = load_bundle(bundle).manifest
    made_of = {key: manifest.provenance.get(key) for key in ("dataset_digest", "date", "seed")}
    if made_of != {key: getattr(record, key) for key in made_of}:
        raise BundleIncompatible(
            f"{bundle} was not made of the run {run_name}: it is of {made_of['date']}, the run "
            f"of {record.date}. Give the bundle that `classmark export` made of this run."
        )
    kernel = kernel_of(manifest)
    if kernel.has_members:
        raise BundleIncompatible(
            f"{bundle} is a cascade, which names two bundles; MLflow keeps one. Log one of the two."
        )
    extra = f"[{kernel.extra}]" if kernel.extra else ""
    return f"classmark{extra}=={__version__}"


class ServedModel:
    """What MLflow asks: papers in, the answers of the service out."""

    def __init__(self, bundle: str) -> None:
        self._classifier = Classifier(Path(bundle))

    def predict(
        self,
        papers: Any,  # noqa: ANN401 - of pandas, which only MLflow needs
        params: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the published JSON of each paper; a paper that cannot be read gives its error.

        Args:
            papers: a table of pandas with ``title`` and/or ``abstract``, or a list of papers as
                ``Classifier.classify`` takes it.
            params: ``top``, ``threshold``, ``explain``.
        """
        rows = papers.to_dict("records") if hasattr(papers, "to_dict") else list(papers)
        answers = self._classifier.classify(rows, errors="return", **(params or {}))
        return [answer.to_dict() for answer in answers]


def _load_pyfunc(path: str) -> ServedModel:
    """Return the model of a bundle; MLflow calls this by its name."""
    return ServedModel(path)


def _log(store: dict[str, str], run_name: str, bundle: str, requirement: str) -> str:
    """Return the address of the logged model; "" if there is no such run."""
    check_sqlite(store["uri"])
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    mlflow.set_tracking_uri(store["uri"])
    found = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"attributes.run_name = '{run_name}'",
        max_results=1,
        output_format="list",
    )
    if not found:
        return ""
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", name, required=False) for name in _TEXT_COLUMNS]),
        params=ParamSchema([ParamSpec(k, kind, value) for k, (kind, value) in _OPTIONS.items()]),
    )
    mlflow.set_experiment(experiment_id=found[0].info.experiment_id)
    run_id = str(found[0].info.run_id)
    Model.log(
        artifact_path=None,
        name=MODEL,
        flavor=mlflow.pyfunc,
        run_id=run_id,
        loader_module=__spec__.name,
        data_path=bundle,
        pip_requirements=[requirement],
        signature=signature,
    )
    return f"runs:/{run_id}/{MODEL}"


def main() -> int:
    """Log what stdin asks for; print the address, or what failed in one line and return 1."""
    return answer_parent(_log)


if __name__ == "__main__":
    sys.exit(main())
