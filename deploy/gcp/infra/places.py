"""Services of the project that are switched on, the bucket and the registry of images."""

from __future__ import annotations

import pulumi
import pulumi_gcp as gcp

from classmark.cloud.environment import MANAGED, CloudEnvironment

APIS = (
    "aiplatform", "artifactregistry", "billingbudgets", "cloudbuild", "cloudresourcemanager",
    "cloudscheduler", "compute", "iam", "iamcredentials", "logging", "monitoring",
    "ondemandscanning", "run", "secretmanager", "sqladmin", "sts", "storage",
)  # fmt: skip
_OLD_VERSION_DAYS, _KEPT_VERSIONS, _PARTIAL_DAYS = 30, 3, 7
_Services = list[gcp.projects.Service]


def declare_services(environment: CloudEnvironment) -> _Services:
    """Switch on the APIs; they stay on when the stack is destroyed, others may need them."""
    return [
        gcp.projects.Service(
            f"api-{api}",
            project=environment.project,
            service=f"{api}.googleapis.com",
            disable_on_destroy=False,
        )
        for api in APIS
    ]


def declare_bucket(environment: CloudEnvironment, services: _Services) -> gcp.storage.Bucket:
    """Declare the bucket: nothing in it is public, and what is overwritten is kept a while."""
    rule = gcp.storage.BucketLifecycleRuleArgs
    when = gcp.storage.BucketLifecycleRuleConditionArgs
    action = gcp.storage.BucketLifecycleRuleActionArgs
    return gcp.storage.Bucket(
        "bucket",
        name=environment.bucket,
        project=environment.project,
        location=environment.region.upper(),
        labels=environment.labels,
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        force_destroy=False,
        versioning=gcp.storage.BucketVersioningArgs(enabled=True),
        lifecycle_rules=[
            rule(
                action=action(type="Delete"),
                condition=when(
                    days_since_noncurrent_time=_OLD_VERSION_DAYS,
                    num_newer_versions=_KEPT_VERSIONS,
                    with_state="ARCHIVED",
                ),
            ),
            rule(
                action=action(type="AbortIncompleteMultipartUpload"),
                condition=when(age=_PARTIAL_DAYS),
            ),
        ],
        opts=pulumi.ResourceOptions(depends_on=services, protect=True),
    )


def declare_registry(
    environment: CloudEnvironment, services: _Services
) -> gcp.artifactregistry.Repository:
    """Declare the repository of images; a tag that was pushed can never mean another image."""
    return gcp.artifactregistry.Repository(
        "registry",
        project=environment.project,
        location=environment.region,
        repository_id=MANAGED,
        format="DOCKER",
        description="Images of classmark",
        labels=environment.labels,
        docker_config=gcp.artifactregistry.RepositoryDockerConfigArgs(immutable_tags=True),
        opts=pulumi.ResourceOptions(depends_on=services),
    )
