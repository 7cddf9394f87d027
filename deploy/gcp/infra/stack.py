"""Everything that a stack holds, in order."""

from __future__ import annotations

from dataclasses import asdict

import pulumi
from accounts import declare_accounts, declare_github
from database import declare_database
from operations import declare_budget, declare_dashboards, declare_secrets, declare_trigger
from places import declare_bucket, declare_registry, declare_services
from settings import Settings


def declare(settings: Settings) -> dict[str, pulumi.Input[str]]:
    """Declare the resources of a stack; returns the content of ``cloud.yaml``.

    What changes with a release is not here: `classmark cloud deploy` owns services, jobs and
    schedules, `classmark cloud alerts` policies, objectives, checks and the channel.
    """
    environment = settings.environment
    services = declare_services(environment)
    bucket = declare_bucket(environment, services)
    registry = declare_registry(environment, services)
    secrets = declare_secrets(environment, services)
    accounts = declare_accounts(
        environment, services, bucket=bucket, registry=registry, secrets=secrets
    )
    declare_dashboards(environment, services)
    connection: pulumi.Input[str] = ""
    if settings.tier:
        connection = declare_database(settings, services, secrets["journal-password"])
    if settings.repository:
        declare_github(settings, services, accounts["build"])
        declare_trigger(settings, services, accounts["build"])
    if settings.billing_account:
        declare_budget(settings, services)
    return {**asdict(environment), "sql": connection}
