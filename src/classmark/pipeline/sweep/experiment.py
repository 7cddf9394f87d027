"""A sweep as files for others: the best values for ``classmark train``, the space for W&B."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from classmark.pipeline.config import compose
from classmark.pipeline.kinds import DEFAULT_KIND, KINDS
from classmark.pipeline.sweep.config import SweepPlan
from classmark.pipeline.sweep.space import Range
from classmark.records import SweepReport
from classmark.tracking.tracker import flat

BEST_FILE = "best.yaml"
_HEADER = """\
# {metric} on the valid split, from sweep={name}: W&B chooses the values, `classmark train` fits.
# wandb sweep FILE, and on each machine: wandb agent ENTITY/PROJECT/ID
"""
_FIRST_EPOCH = 1


def experiment_text(plan: SweepPlan, report: SweepReport) -> str:
    """Return an experiment file that asks for the fit of the best trial; there is one."""
    best, default = report.best, report.default
    assert best is not None  # noqa: S101 - as the docstring says
    than = "" if default is None else f" ({default.value:.4f} without the sweep)"
    head = [
        "# @package _global_",
        f"# Trial {best.number} of {report.command}",
        f"# {report.metric} {best.value:.4f} on the {report.n_valid:,} papers of valid{than}:",
        f"# classmark train experiment={shlex.quote(str(plan.folder / BEST_FILE))} "
        "dataset.path=DIR",
    ]
    if plan.base.kind != DEFAULT_KIND:
        head += ["defaults:", f"  - override /model: {plan.base.kind}", ""]
    changed = _changed(plan, plan.trial(best.values).composed)
    return "\n".join(head) + "\n" + _yaml(changed)


def wandb_text(plan: SweepPlan) -> str:
    """Return a file for ``wandb sweep`` with the same space, metric and budget.

    The command is one that W&B's agent starts where the folder of the dataset is.
    """
    fixed = dict(flat(_changed(plan, plan.base.composed)))
    fixed = {key: v for key, v in fixed.items() if key not in {"model", *plan.sweep.space}}
    words = [f"{key}={_spelled(value)}" for key, value in fixed.items()]
    command = [
        *("${env}", "classmark", "train", f"model={plan.base.kind}", *words),
        *(f"dataset.path={plan.base.dataset}", "tracker=wandb", "${args_no_hyphens}"),
    ]
    file: dict[str, Any] = {
        "name": plan.sweep.name,
        "method": "bayes",
        "metric": {"name": f"valid/{plan.sweep.metric}", "goal": "maximize"},
        "command": command,
        "parameters": {key: _distribution(where) for key, where in plan.sweep.space.items()},
    }
    if plan.sweep.trials is not None:
        file["run_cap"] = plan.sweep.trials
    # Where the valid split is measured once, at the end, W&B could end no fit early.
    if plan.sweep.first_share < 1 and KINDS[plan.base.kind].measures_epochs:
        reduction = plan.sweep.reduction
        file["early_terminate"] = {"type": "hyperband", "min_iter": _FIRST_EPOCH, "eta": reduction}
    return _HEADER.format(metric=plan.sweep.metric, name=plan.sweep.name) + _yaml(file, escape=True)


def _changed(plan: SweepPlan, composed: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a fit asks for besides its kind: seed and model, nested."""
    plain = compose("train", [f"model={plan.base.kind}", "dataset.path=DIR"])
    model = {k: v for k, v in composed["model"].items() if plain["model"][k] != v}
    seed = {} if composed["seed"] == plain["seed"] else {"seed": composed["seed"]}
    return {**seed, "model": model}


def _distribution(where: Range) -> dict[str, Any]:
    """Return a range in W&B's words."""
    if where.choices:
        return {"values": list(where.choices)}
    limits = {"min": where.low, "max": where.high}
    if where.is_whole:
        return _whole_distribution(where, limits)
    if where.log:
        return {"distribution": "log_uniform_values", **limits}
    if where.step is not None:
        return {"distribution": "q_uniform", "q": where.step, **limits}
    return {"distribution": "uniform", **limits}


def _whole_distribution(where: Range, limits: Mapping[str, Any]) -> dict[str, Any]:
    if where.log:
        return {"distribution": "q_log_uniform_values", "q": where.step or 1, **limits}
    if where.step not in (None, 1):
        return {"distribution": "q_uniform", "q": where.step, **limits}
    return {"distribution": "int_uniform", **limits}


def _spelled(value: object) -> str:
    """Return a value as an override has it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _yaml(content: Mapping[str, Any], *, escape: bool = False) -> str:
    """Return YAML; with ``escape``, ``${...}`` is text and not a reference of OmegaConf's."""
    import yaml
    from omegaconf import OmegaConf

    if escape:
        return str(yaml.safe_dump(dict(content), sort_keys=False))
    return OmegaConf.to_yaml(OmegaConf.create(dict(content)))
