"""The database of the journal: reachable by Google's connector alone, and hard to lose."""

from __future__ import annotations

import pulumi
import pulumi_gcp as gcp
from settings import Settings

from classmark.cloud.environment import MANAGED

_VERSION = "POSTGRES_17"
_BACKUPS, _LOG_DAYS = 14, 7


def declare_database(
    settings: Settings, services: list[gcp.projects.Service], secret: gcp.secretmanager.Secret
) -> pulumi.Output[str]:
    """Declare the instance, its database and user, and the password as a version of the secret.

    Returns:
        the connection name, PROJECT:REGION:INSTANCE.
    """
    environment = settings.environment
    kind = gcp.sql
    instance = kind.DatabaseInstance(
        "journal",
        name=f"{MANAGED}-{environment.name}",
        project=environment.project,
        region=environment.region,
        database_version=_VERSION,
        deletion_protection=True,
        settings=kind.DatabaseInstanceSettingsArgs(
            tier=settings.tier,
            edition="ENTERPRISE",
            availability_type="ZONAL",
            disk_autoresize=True,
            disk_type="PD_SSD",
            deletion_protection_enabled=True,
            # The connector signs in with IAM; a connection without it is refused.
            connector_enforcement="REQUIRED",
            user_labels=environment.labels,
            ip_configuration=kind.DatabaseInstanceSettingsIpConfigurationArgs(
                ipv4_enabled=True, authorized_networks=[], ssl_mode="ENCRYPTED_ONLY"
            ),
            backup_configuration=kind.DatabaseInstanceSettingsBackupConfigurationArgs(
                enabled=True,
                point_in_time_recovery_enabled=True,
                transaction_log_retention_days=_LOG_DAYS,
                backup_retention_settings=(
                    kind.DatabaseInstanceSettingsBackupConfigurationBackupRetentionSettingsArgs(
                        retained_backups=_BACKUPS
                    )
                ),
            ),
        ),
        opts=pulumi.ResourceOptions(depends_on=services, protect=True),
    )
    project = environment.project
    kind.Database("journal-database", project=project, instance=instance.name, name=MANAGED)
    kind.User(
        "journal-user",
        project=project,
        instance=instance.name,
        name=MANAGED,
        password=settings.password,
    )
    gcp.secretmanager.SecretVersion(
        "journal-password-version", secret=secret.id, secret_data=settings.password
    )
    return instance.connection_name
