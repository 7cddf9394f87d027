"""Secrets without their values, the build of a release, dashboards and the budget."""

from __future__ import annotations

import json
from pathlib import Path

import pulumi
import pulumi_gcp as gcp
from permissions import SECRETS
from settings import Settings

from classmark.cloud.environment import MANAGED, CloudEnvironment
from classmark.cloud.watch.dashboards import GRAFANA_FOLDER, read_dashboards

CLOUD_BUILD_FILE = "deploy/gcp/cloudbuild.yaml"
RELEASE_TAG = "^v[0-9]+\\.[0-9]+\\.[0-9]+$"
_THRESHOLDS = ((0.5, "CURRENT_SPEND"), (0.9, "CURRENT_SPEND"), (1.0, "FORECASTED_SPEND"))
_ROOT = Path(__file__).parents[3]
_Services = list[gcp.projects.Service]


def declare_secrets(
    environment: CloudEnvironment, services: _Services
) -> dict[str, gcp.secretmanager.Secret]:
    """Declare the secrets; their values are added by people, and stay out of this program."""
    secret = gcp.secretmanager
    place = secret.SecretReplicationUserManagedReplicaArgs(location=environment.region)
    return {
        name: secret.Secret(
            f"secret-{name}",
            project=environment.project,
            secret_id=environment.secret(name),
            labels=environment.labels,
            deletion_protection=True,
            replication=secret.SecretReplicationArgs(
                user_managed=secret.SecretReplicationUserManagedArgs(replicas=[place])
            ),
            opts=pulumi.ResourceOptions(depends_on=services),
        )
        for name in SECRETS
    }


def declare_trigger(
    settings: Settings, services: _Services, build: gcp.serviceaccount.Account
) -> None:
    """Declare the build of every release tag; the app of Cloud Build must know the repository."""
    owner, _, name = settings.repository.partition("/")
    environment = settings.environment
    gcp.cloudbuild.Trigger(
        "release",
        project=environment.project,
        location=environment.region,
        name=f"{MANAGED}-release",
        description="Build, test, scan, push and sign a release",
        filename=CLOUD_BUILD_FILE,
        service_account=build.id,
        tags=[MANAGED, environment.name],
        github=gcp.cloudbuild.TriggerGithubArgs(
            owner=owner,
            name=name,
            push=gcp.cloudbuild.TriggerGithubPushArgs(tag=RELEASE_TAG),
        ),
        opts=pulumi.ResourceOptions(depends_on=services),
    )


def declare_dashboards(environment: CloudEnvironment, services: _Services) -> None:
    """Declare the dashboards, each made from one of Grafana's."""
    for name, board in read_dashboards(environment, _ROOT / GRAFANA_FOLDER).items():
        gcp.monitoring.Dashboard(
            f"dashboard-{name}",
            project=environment.project,
            dashboard_json=json.dumps(board, sort_keys=True),
            opts=pulumi.ResourceOptions(depends_on=services),
        )


def declare_budget(settings: Settings, services: _Services) -> None:
    """Declare the budget: administrators of the account get mail at half, nine tenths, forecast."""
    environment, kind = settings.environment, gcp.billing
    project = gcp.organizations.get_project_output(project_id=environment.project)
    kind.Budget(
        "budget",
        billing_account=settings.billing_account,
        display_name=f"{MANAGED} ({environment.name})",
        budget_filter=kind.BudgetBudgetFilterArgs(
            projects=[project.number.apply(lambda number: f"projects/{number}")],
        ),
        amount=kind.BudgetAmountArgs(
            specified_amount=kind.BudgetAmountSpecifiedAmountArgs(units=str(settings.budget))
        ),
        threshold_rules=[
            kind.BudgetThresholdRuleArgs(threshold_percent=share, spend_basis=basis)
            for share, basis in _THRESHOLDS
        ],
        opts=pulumi.ResourceOptions(depends_on=services),
    )
