"""What a study found: its report, a page, and the best values as an experiment file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from classmark.evaluation.report import describe_machine
from classmark.pages.sweep import sweep_page
from classmark.pipeline.config import compose
from classmark.pipeline.run_folder import describe_environment
from classmark.pipeline.sweep.config import SweepPlan
from classmark.pipeline.sweep.study import DEFAULT, OpenStudy, retried, tried_values
from classmark.records import DatasetManifest, SweepReport, SweepTrial
from classmark.records.sweep import TrialState as State
from classmark.storage import write_json, write_text
from classmark.tracking.tracker import flat

REPORT_FILE, PAGE_FILE, BEST_FILE = "sweep.json", "report.html", "best.yaml"
_LEAST_COMPLETE = 8
_BEST_SHARE = 0.25
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write_outputs(study: OpenStudy, manifest: DatasetManifest, command: str) -> SweepReport:
    """Return the report of a study; its folder gets it as JSON and as a page, and the best values.

    Args:
        study: its trials so far.
        manifest: of its dataset.
        command: the command line that began it.
    """
    report, folder = make_report(study, manifest, command), study.plan.folder
    write_json(folder / REPORT_FILE, report.to_dict())
    write_text(folder / PAGE_FILE, sweep_page(report))
    if report.best is not None:
        write_text(folder / BEST_FILE, experiment_text(study.plan, report))
    return report


def make_report(study: OpenStudy, manifest: DatasetManifest, command: str) -> SweepReport:
    """Return the report of a study as it is now."""
    sweep = study.plan.sweep
    return SweepReport(
        name=sweep.name,
        kind=study.plan.base.kind,
        metric=sweep.metric,
        n_valid=manifest.splits["valid"].papers,
        n_train=manifest.splits["train"].papers,
        dataset_digest=manifest.digest,
        generated=manifest.generated,
        budget=sweep.trials,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        command=command,
        packages=describe_environment(("optuna",))["packages"],
        space={key: where.to_dict() for key, where in sweep.space.items()},
        importance=_importance(study),
        trials=tuple(_trial(study.plan, trial) for trial in study.trials()),
    )


def _trial(plan: SweepPlan, trial: FrozenTrial) -> SweepTrial:
    history = retried(trial)
    facts = trial.user_attrs
    has_ended = trial.state.is_finished()
    return SweepTrial(
        number=trial.number,
        state=_STATES[trial.state],
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        values=tried_values(plan.sweep.space, trial.params),
        measured={str(step): value for step, value in sorted(trial.intermediate_values.items())},
        seconds=facts.get("seconds") if has_ended else None,
        cpu_seconds=facts.get("cpu_seconds") if has_ended else None,
        is_default=bool(facts.get(DEFAULT)),
        retry_of=history[-1] if history else None,
        error=str(facts.get("error", "")),
    )


def _importance(study: OpenStudy) -> dict[str, float]:
    complete = [t for t in study.trials() if t.state == TrialState.COMPLETE]
    if len(complete) < _LEAST_COMPLETE or len({t.value for t in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE)
    found = optuna.importance.get_param_importances(study.optuna, evaluator=evaluator)
    return {key: round(float(share), 6) for key, share in found.items()}


def experiment_text(plan: SweepPlan, report: SweepReport) -> str:
    """Return an experiment file that asks for the fit of the best trial."""
    from omegaconf import OmegaConf

    best, default = report.best, report.default
    assert best is not None  # noqa: S101 - the caller knows
    than = "" if default is None else f"; without the sweep {default.value:.4f}"
    head = [
        "# @package _global_",
        f"# {report.metric} {best.value:.4f} on the {report.n_valid:,} papers of the valid split"
        f"{than}. Found in trial {best.number} by: {report.command}",
        f"# classmark train experiment={plan.folder / BEST_FILE} dataset.path=DIR",
    ]
    if plan.base.kind != "linear":
        head += ["defaults:", f"  - override /model: {plan.base.kind}", ""]
    changed = _changed(plan, plan.trial(best.values).composed)
    return "\n".join(head) + "\n" + OmegaConf.to_yaml(OmegaConf.create(changed))


def _changed(plan: SweepPlan, composed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fit asks for besides its kind: seed and model, nested."""
    plain = compose("train", [f"model={plan.base.kind}", "dataset.path=DIR"])
    before = dict(flat(plain))
    model = {
        key: value
        for key, value in composed["model"].items()
        if before.get(f"model.{key}") != value
    }
    seed = {} if composed["seed"] == plain["seed"] else {"seed": composed["seed"]}
    return {**seed, "model": model}


def read_report(folder: Path) -> SweepReport:
    """Return the report in the folder of a study.

    Raises:
        RunNotFound: there is none.
        InvalidReport: it is damaged.
    """
    import json

    from classmark.errors import InvalidReport, RunNotFound

    file = folder / REPORT_FILE
    if not file.is_file():
        raise RunNotFound(
            f"{folder} has no {REPORT_FILE}. Give the folder that `classmark sweep` printed."
        )
    try:
        return SweepReport.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InvalidReport(f"{file} is damaged ({error}). Write it again with `classmark sweep report`.") from error
