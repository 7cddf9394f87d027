"""What a study found: its report and a page."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from classmark.evaluation.report import describe_machine
from classmark.pages.sweep import sweep_page
from classmark.pipeline.run_folder import describe_environment
from classmark.pipeline.sweep.config import SweepPlan
from classmark.pipeline.sweep.experiment import BEST_FILE, experiment_text
from classmark.pipeline.sweep.study import DEFAULT, OpenStudy, retried, tried_values
from classmark.records import DatasetManifest, SweepReport, SweepTrial
from classmark.records.experiments import TrialState as State
from classmark.storage import write_json, write_text

REPORT_FILE, PAGE_FILE = "sweep.json", "report.html"
_LEAST_COMPLETE = 8
_BEST_SHARE = 0.25
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def write_outputs(study: OpenStudy, manifest: DatasetManifest) -> SweepReport:
    """Return the report of a study; its folder gets it as JSON and as a page, and the best values.

    Args:
        study: its trials so far.
        manifest: of its dataset.
    """
    report, folder = make_report(study, manifest), study.plan.folder
    write_json(folder / REPORT_FILE, report.to_dict())
    write_text(folder / PAGE_FILE, sweep_page(report))
    if report.best is not None:
        write_text(folder / BEST_FILE, experiment_text(study.plan, report))
    return report


def make_report(study: OpenStudy, manifest: DatasetManifest) -> SweepReport:
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
        command=study.command,
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
