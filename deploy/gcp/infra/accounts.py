"""Service accounts, and what ``permissions.GRANTS`` lets each of them do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_gcp as gcp
from permissions import ACCOUNTS, GRANTS, VANISH, VANISH_PERMISSIONS, Account, Grant
from settings import Settings

from classmark.cloud.environment import MANAGED, CloudEnvironment

_Services = list[gcp.projects.Service]
_Accounts = Mapping[Account, gcp.serviceaccount.Account]


@dataclass(frozen=True)
class _Things:
    environment: CloudEnvironment
    bucket: gcp.storage.Bucket
    registry: gcp.artifactregistry.Repository
    secrets: Mapping[str, gcp.secretmanager.Secret]
    accounts: _Accounts
    vanish: gcp.projects.IAMCustomRole


def declare_accounts(
    environment: CloudEnvironment,
    services: _Services,
    *,
    bucket: gcp.storage.Bucket,
    registry: gcp.artifactregistry.Repository,
    secrets: Mapping[str, gcp.secretmanager.Secret],
) -> _Accounts:
    """Declare the accounts and their roles; returns role of an account -> account."""
    options = pulumi.ResourceOptions(depends_on=services)
    accounts: _Accounts = {
        name: gcp.serviceaccount.Account(
            f"account-{name}",
            project=environment.project,
            account_id=environment.account(name).partition("@")[0],
            display_name=f"{MANAGED} {name}",
            description=f"For {about}",
            opts=options,
        )
        for name, about in ACCOUNTS.items()
    }
    vanish = gcp.projects.IAMCustomRole(
        "role-vanish",
        project=environment.project,
        role_id=VANISH,
        title="A machine of classmark removes itself",
        permissions=list(VANISH_PERMISSIONS),
        opts=options,
    )
    things = _Things(environment, bucket, registry, secrets, accounts, vanish)
    for grant in GRANTS:
        _give(grant, things)
    return accounts


def declare_github(
    settings: Settings, services: _Services, build: gcp.serviceaccount.Account
) -> None:
    """Let workflows of one repository of GitHub act as ``build``, without a key."""
    pool = gcp.iam.WorkloadIdentityPool(
        "github",
        project=settings.environment.project,
        workload_identity_pool_id=f"{MANAGED}-github",
        display_name="Workflows of GitHub",
        opts=pulumi.ResourceOptions(depends_on=services),
    )
    gcp.iam.WorkloadIdentityPoolProvider(
        "github-provider",
        project=settings.environment.project,
        workload_identity_pool_id=pool.workload_identity_pool_id,
        workload_identity_pool_provider_id="github",
        attribute_mapping={
            "google.subject": "assertion.sub",
            "attribute.repository": "assertion.repository",
            "attribute.ref": "assertion.ref",
        },
        attribute_condition=f'assertion.repository == "{settings.repository}" && '
        'assertion.ref.startsWith("refs/tags/v")',
        oidc=gcp.iam.WorkloadIdentityPoolProviderOidcArgs(
            issuer_uri="https://token.actions.githubusercontent.com"
        ),
    )
    gcp.serviceaccount.IAMMember(
        "github-acts-as-build",
        service_account_id=build.name,
        role="roles/iam.workloadIdentityUser",
        member=pool.name.apply(
            lambda name: (
                f"principalSet://iam.googleapis.com/{name}/attribute.repository/"
                f"{settings.repository}"
            )
        ),
    )


def _give(grant: Grant, things: _Things) -> None:
    member = things.accounts[grant.account].email.apply(lambda email: f"serviceAccount:{email}")
    what, _, target = grant.on.partition(" ")
    role = grant.role.removeprefix("roles/").replace(".", "-")
    name = "-".join(["grant", grant.account, role, *filter(None, [target, grant.prefix[:-1]])])
    if what == "project":
        given = things.vanish.name if grant.role == VANISH else grant.role
        project = things.environment.project
        gcp.projects.IAMMember(name, project=project, role=given, member=member)
    elif what == "bucket":
        gcp.storage.BucketIAMMember(
            name,
            bucket=things.bucket.name,
            role=grant.role,
            member=member,
            condition=_below(grant.prefix, things.environment.bucket),
        )
    elif what == "registry":
        gcp.artifactregistry.RepositoryIamMember(
            name,
            project=things.environment.project,
            location=things.environment.region,
            repository=things.registry.name,
            role=grant.role,
            member=member,
        )
    elif what == "secret":
        secret = things.secrets[target].secret_id
        project = things.environment.project
        gcp.secretmanager.SecretIamMember(
            name, project=project, secret_id=secret, role=grant.role, member=member
        )
    else:
        account: Account = next(known for known in ACCOUNTS if known == target)
        gcp.serviceaccount.IAMMember(
            name,
            service_account_id=things.accounts[account].name,
            role=grant.role,
            member=member,
        )


def _below(prefix: str, bucket: str) -> gcp.storage.BucketIAMMemberConditionArgs | None:
    if not prefix:
        return None
    start = f"projects/_/buckets/{bucket}/objects/{prefix}"
    return gcp.storage.BucketIAMMemberConditionArgs(
        title=f"below {prefix}", expression=f'resource.name.startsWith("{start}")'
    )
