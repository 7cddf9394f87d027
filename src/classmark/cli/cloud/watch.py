"""``classmark cloud alerts`` and ``alert-test``: what watches, from the rules of Prometheus."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.cloud.options import DryRun, Environment, environment_of, google_of
from classmark.cli.options import AsJson
from classmark.cli.output import table
from classmark.cloud.watch.dashboards import GRAFANA_FOLDER
from classmark.cloud.watch.rules import RULES_FOLDER, read_rule_files
from classmark.cloud.watch.samples import DEFAULT_ALERT, Pace, sample_of
from classmark.errors import UsageError
from classmark.storage import check_apart

if TYPE_CHECKING:
    from classmark.cloud.watch.apply import Outcome

_DIFFERS = 3
_PACE = Pace()

RulesFolder = Annotated[
    Path,
    typer.Option("--rules", metavar="DIR", help="Folder of Prometheus' rules, of a checkout."),
]


def alerts(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Create, update and remove in the project.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Change nothing; exit 3 where the project, or the files of --output, differ.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write a file for each policy and the like."),
    ] = None,
    rules: RulesFolder = RULES_FOLDER,
    dashboards: Annotated[
        Path,
        typer.Option(
            "--dashboards", metavar="DIR", help="Grafana's dashboards, for files of --output."
        ),
    ] = GRAFANA_FOLDER,
    environment: Environment = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """List the alerts of the rules, or create them in Cloud Monitoring.

    Alert policies, objectives, an uptime check, log-based metrics and the notification channel are
    found by their labels, so --apply can be repeated at any time.
    """
    if apply and (check or output is not None):
        raise UsageError("--apply excludes --check and --output. Give one of them.")
    if output is not None:
        _files(output, rules, dashboards, environment, check=check, as_json=as_json)
    elif dry_run:
        _requests(rules, environment)
    elif apply or check:
        _project(rules, environment, is_trial=check, as_json=as_json)
    else:
        _list(rules, as_json=as_json)


def alert_test(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Alert that compares one metric with a number.")
    ] = DEFAULT_ALERT,
    *,
    rules: RulesFolder = RULES_FOLDER,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="Longest time to wait.")
    ] = _PACE.timeout_s,
    every: Annotated[
        float, typer.Option("--every", min=0, metavar="SECONDS", help="Between two samples.")
    ] = _PACE.every_s,
    environment: Environment = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make an alert fire: write a sample that its rule looks for, and wait for the incident.

    The channel of the environment gets a real notification. The sample has the instance alert-test,
    and ends with a calm value, on Ctrl-C too.
    """
    found = read_rule_files(rules)
    sample = sample_of(found, name)
    google = google_of(environment)

    from classmark.cloud.watch.fire import fire, series_of
    from classmark.cloud.watch.plan import json_of

    if dry_run:
        where = google.environment
        series = json_of(series_of(sample, sample.firing, where, at=0))
        request = {"name": f"projects/{where.project}", "timeSeries": [series]}
        typer.echo(json.dumps(request, indent=2))
        return
    pace = Pace(timeout_s=timeout, every_s=every, gap_s=min(every, _PACE.gap_s))
    fired = fire(google, found, name, pace=pace, report=_report)
    if as_json:
        typer.echo(json.dumps(asdict(fired), indent=2))
        return
    typer.echo(f"{fired.alert} fired after {fired.seconds:.0f} s: {fired.incident}")


def _report(line: str) -> None:
    typer.echo(line, err=True)


def _list(folder: Path, *, as_json: bool) -> None:
    found = read_rule_files(folder)
    if as_json:
        typer.echo(json.dumps([asdict(alert) for alert in found.alerts], indent=2))
        return
    typer.echo(table((a.name, a.severity, f"{a.seconds} s", a.group) for a in found.alerts))


def _requests(folder: Path, environment: Path | None) -> None:
    where = environment_of(environment)

    from classmark.cloud.watch.plan import plan_of, requests_of

    typer.echo(json.dumps(requests_of(plan_of(where, folder)), indent=2, ensure_ascii=False))


def _files(
    output: Path,
    rules: Path,
    dashboards: Path,
    environment: Path | None,
    *,
    check: bool,
    as_json: bool,
) -> None:
    inputs = (environment, rules, dashboards)
    check_apart([output] if output.is_file() else [], inputs)
    where = environment_of(environment)

    from classmark.cloud.watch.plan import files_of, plan_of, stale_files, write_files

    files = files_of(plan_of(where, rules), dashboards)
    check_apart({output / name.partition("/")[0] for name in files}, inputs)
    stale = stale_files(files, output)
    if not check:
        write_files(files, output)
    if as_json:
        typer.echo(json.dumps({"files": sorted(files), "stale": stale}, indent=2))
    elif check:
        typer.echo("\n".join(f"stale: {name}" for name in stale) or f"{len(files)} files agree")
    else:
        typer.echo(f"{output}: {len(files)} files, {len(stale)} of them changed")
    if check and stale:
        raise typer.Exit(_DIFFERS)


def _project(rules: Path, environment: Path | None, *, is_trial: bool, as_json: bool) -> None:
    google = google_of(environment)

    from classmark.cloud.watch.apply import apply_plan
    from classmark.cloud.watch.plan import plan_of

    plan = plan_of(google.environment, rules)
    outcome = apply_plan(google, plan, is_trial=is_trial, report=_report)
    typer.echo(json.dumps(asdict(outcome), indent=2) if as_json else _counts(outcome))
    if is_trial and outcome.changes:
        raise typer.Exit(_DIFFERS)


def _counts(outcome: Outcome) -> str:
    verbs = ("created", "updated", "unchanged", "removed")
    rows = [
        (name, *(str(getattr(counts, verb)) for verb in verbs), str(counts.wanted))
        for name, counts in outcome.kinds.items()
    ]
    return table([("", *verbs, "now"), *rows])
