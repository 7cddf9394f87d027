"""What a stack is configured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from classmark.cloud.environment import MANAGED, CloudEnvironment


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The environment of a stack, and what only the stack needs.

    Attributes:
        environment: its names, as the commands of ``classmark cloud`` know them.
        tier: machine of Cloud SQL; "" without a database.
        password: of the database's user, a secret of the configuration; None without a database.
        repository: OWNER/NAME on GitHub that may release; "" for none.
        billing_account: whose budget is watched; "" for none.
        budget: a month, in the currency of the account.
    """

    environment: CloudEnvironment
    tier: str = ""
    password: pulumi.Input[str] | None = None
    repository: str = ""
    billing_account: str = ""
    budget: int = 200


def read_settings() -> Settings:
    """Return the settings of the stack that runs.

    Raises:
        pulumi.ConfigMissingError: the project, the region or the password is not set.
        UsageError: a name cannot be used.
    """
    google, own = pulumi.Config("gcp"), pulumi.Config(MANAGED)
    project = google.require("project")
    has_database = own.require_bool("database")
    environment = CloudEnvironment(
        project=project,
        region=google.require("region"),
        bucket=own.get("bucket") or f"{project}-{MANAGED}",
        name=pulumi.get_stack(),
        notify=own.get("notify") or "",
        docs=own.get("docs") or "",
    )
    password: Any = own.require_secret("journalPassword") if has_database else None
    return Settings(
        environment=environment,
        tier=own.require("tier") if has_database else "",
        password=password,
        repository=own.get("repository") or "",
        billing_account=own.get("billingAccount") or "",
        budget=own.require_int("budget"),
    )
