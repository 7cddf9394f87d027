"""Who may do what, and why: the only list of it. ``python permissions.py`` writes PERMISSIONS.md.

No account has a primitive role (owner, editor, viewer), none is public, and none has a key.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PAGE = Path(__file__).with_name("PERMISSIONS.md")
VANISH = "classmarkVanish"
"""Custom role: a machine that trains may remove itself."""
VANISH_PERMISSIONS = ("compute.instances.delete", "compute.instances.get")
SECRETS = {
    "api-keys": "the file of API keys that the service reads",
    "journal-password": "the password of the journal's database",
    "wandb-key": "the key of Weights & Biases, where runs are tracked there",
}
Account = Literal["train", "serve", "watch", "build"]
ACCOUNTS: dict[Account, str] = {
    "train": "training jobs and the machines that they run on",
    "serve": "the service and its page",
    "watch": "the look for drift, retraining, and the schedule that starts them",
    "build": "Cloud Build and releases from GitHub",
}


@dataclass(frozen=True)
class Grant:
    """A role that an account has on a thing.

    Attributes:
        account: who.
        role: of Google, or ``VANISH``.
        on: ``project``, ``bucket``, ``registry``, ``secret NAME`` or ``account NAME``.
        why: what it is needed for.
        prefix: path in the bucket that the role is limited to; "" for all of it.
    """

    account: Account
    role: str
    on: str
    why: str
    prefix: str = ""


GRANTS = (
    Grant("train", "roles/storage.objectUser", "bucket",
          "reads datasets; writes runs, checkpoints and bundles"),
    Grant("train", "roles/artifactregistry.reader", "registry", "pulls the train image"),
    Grant("train", "roles/secretmanager.secretAccessor", "secret wandb-key", "tracks its run"),
    Grant("train", "roles/logging.logWriter", "project", "a machine of Compute Engine logs"),
    Grant("train", VANISH, "project", "a machine of Compute Engine removes itself at its end"),
    Grant("serve", "roles/storage.objectViewer", "bucket", "follows the registry"),
    Grant("serve", "roles/storage.objectUser", "bucket", "ships finished files of the journal",
          prefix="journal/"),
    Grant("serve", "roles/storage.objectUser", "bucket", "ends a canary, by its rules or a request",
          prefix="registry/"),
    Grant("serve", "roles/cloudsql.client", "project", "connects to the journal's database"),
    Grant("serve", "roles/secretmanager.secretAccessor", "secret api-keys", "reads API keys"),
    Grant("serve", "roles/secretmanager.secretAccessor", "secret journal-password",
          "signs in to the journal's database"),
    Grant("serve", "roles/logging.logWriter", "project", "logs"),
    Grant("serve", "roles/monitoring.metricWriter", "project",
          "the collector beside it sends its metrics"),
    Grant("watch", "roles/storage.objectUser", "bucket",
          "reads journals; writes reports, orders and the registry"),
    Grant("watch", "roles/cloudsql.client", "project", "connects to the journal's database"),
    Grant("watch", "roles/secretmanager.secretAccessor", "secret journal-password",
          "signs in to the journal's database"),
    Grant("watch", "roles/secretmanager.secretAccessor", "secret api-keys",
          "the monitor reads API keys"),
    Grant("watch", "roles/aiplatform.user", "project", "submits the training of a new model"),
    Grant("watch", "roles/iam.serviceAccountUser", "account train",
          "the training that it submits runs as train"),
    Grant("watch", "roles/run.invoker", "project",
          "the schedule starts its job, which `classmark cloud deploy` makes"),
    Grant("watch", "roles/logging.logWriter", "project", "logs"),
    Grant("watch", "roles/monitoring.metricWriter", "project",
          "the collector beside it sends its metrics"),
    Grant("build", "roles/artifactregistry.writer", "registry", "pushes images"),
    Grant("build", "roles/ondemandscanning.admin", "project", "a build scans its image"),
    Grant("build", "roles/logging.logWriter", "project", "a build logs"),
    Grant("build", "roles/cloudbuild.builds.editor", "project", "GitHub starts a build"),
    Grant("build", "roles/run.developer", "project", "deploys a release"),
    Grant("build", "roles/run.invoker", "project", "the load test calls what was deployed"),
    Grant("build", "roles/storage.bucketViewer", "bucket", "sees in which region it is"),
    Grant("build", "roles/cloudscheduler.admin", "project", "deploys the schedule"),
    Grant("build", "roles/iam.serviceAccountUser", "account serve", "the service runs as serve"),
    Grant("build", "roles/iam.serviceAccountUser", "account watch", "jobs run as watch"),
    Grant("build", "roles/monitoring.editor", "project", "applies the alerts of a release"),
    Grant("build", "roles/logging.configWriter", "project", "applies log-based metrics"),
)  # fmt: skip


def page() -> str:
    """Return the page that shows the list."""
    lines = [
        "# Who may do what, and why",
        "",
        "Made by `python deploy/gcp/infra/permissions.py` from the list in that file.",
    ]
    for account, about in ACCOUNTS.items():
        lines += ["", f"## {account}", "", f"For {about}.", ""]
        lines += ["| role | on | why |", "| --- | --- | --- |"]
        lines += [f"| `{g.role}` | {_place(g)} | {g.why} |" for g in GRANTS if g.account == account]
    allowed = ", ".join(f"`{name}`" for name in VANISH_PERMISSIONS)
    lines += ["", f"`{VANISH}` is a role of the stack with {allowed} alone.", ""]
    return "\n".join(lines)


def _place(grant: Grant) -> str:
    return f"{grant.on}, below `{grant.prefix}`" if grant.prefix else grant.on


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE.name} is stale")
    PAGE.write_text(page(), encoding="utf-8")
