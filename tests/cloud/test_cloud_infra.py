"""The stack of deploy/gcp/infra: what it would make, without Google and without Pulumi's engine."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from google.cloud import run_v2

from classmark.cloud.environment import CloudEnvironment, read_environment
from classmark.cloud.serving.manifests import Wanted, filled

# The package of Google's provider warns of its own names as it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:gcp.*has been deprecated:DeprecationWarning")

FOLDER = Path(__file__).parents[2] / "deploy" / "gcp" / "infra"
PRIMITIVE = {"roles/owner", "roles/editor", "roles/viewer"}
ENVIRONMENT = CloudEnvironment(
    project="papers-test-1",
    region="europe-west4",
    bucket="papers-test-1-classmark",
    notify="operator@example.org",
    name="staging",
)
_UNLABELLED = {
    "gcp:projects/service:Service", "gcp:serviceaccount/account:Account",
    "gcp:projects/iAMCustomRole:IAMCustomRole", "gcp:sql/database:Database",
    "gcp:sql/user:User", "gcp:secretmanager/secretVersion:SecretVersion",
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool",
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",
    "gcp:cloudbuild/trigger:Trigger", "gcp:billing/budget:Budget",
    "gcp:monitoring/dashboard:Dashboard",
}  # fmt: skip
"""Kinds of Google's that have no labels; those that give a role have none either."""


@dataclass
class Made:
    """A resource that the program asked for."""

    kind: str
    name: str
    inputs: dict[str, Any]

    @property
    def type(self) -> str:
        """Return the last part of its kind: ``Bucket``."""
        return self.kind.rpartition(":")[2]


@dataclass
class Engine(pulumi.runtime.Mocks):  # type: ignore[misc]
    """Answers for Pulumi's engine and remembers what was asked."""

    made: list[Made] = field(default_factory=list)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.custom:
            self.made.append(Made(args.typ, args.name, args.inputs))
        known = {"name": args.name, **args.inputs}
        if args.typ == "gcp:serviceaccount/account:Account":
            known["email"] = f"{args.inputs['accountId']}@papers-test-1.iam.gserviceaccount.com"
        if args.typ == "gcp:sql/databaseInstance:DatabaseInstance":
            known["connectionName"] = f"papers-test-1:europe-west4:{args.inputs['name']}"
        return f"{args.name}-id", known

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        assert args.token == "gcp:organizations/getProject:getProject"
        return {"number": "42", "projectId": "papers-test-1"}

    def of(self, kind: str) -> list[Made]:
        """Return the resources of a type."""
        return [one for one in self.made if one.type == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the inputs of the only resource of a type."""
        [found] = self.of(kind)
        return found.inputs


_kept: list[asyncio.AbstractEventLoop] = []
"""Loops that Pulumi used: one that is collected before the end would be reported as not closed."""


def current_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of events that Pulumi will ask for, which a test before may have taken."""
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter("ignore", DeprecationWarning)
        loop = asyncio.get_event_loop()
        if not loop.is_closed():
            return loop
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


@pytest.fixture(scope="module")
def program() -> Iterator[Any]:
    """Yield the modules of the program by name, and forget them afterwards."""
    names = ("settings", "permissions", "places", "accounts", "operations", "database", "stack")
    sys.path.insert(0, str(FOLDER))
    _kept.append(current_loop())
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def declared(program: Any, **more: Any) -> tuple[Engine, dict[str, Any]]:
    """Return what a stack asks for, and its outputs."""
    engine = Engine()
    outputs: dict[str, Any] = {}
    pulumi.runtime.set_mocks(engine, project="classmark", stack="staging", preview=False)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def run() -> Any:
        settings = program["settings"].Settings(environment=ENVIRONMENT, **more)
        content = program["stack"].declare(settings)
        return pulumi.Output.from_input(content).apply(outputs.update)

    run()
    return engine, outputs


FULL = {
    "tier": "db-custom-1-3840",
    "password": "a-test-password",
    "repository": "example/classmark",
    "billing_account": "000000-000000-000000",
}


@pytest.fixture(scope="module")
def full(program: Any) -> tuple[Engine, dict[str, Any]]:
    return declared(program, **FULL)


@pytest.fixture(scope="module")
def engine(full: tuple[Engine, dict[str, Any]]) -> Engine:
    return full[0]


def test_a_full_stack_holds_each_thing_once(engine: Engine) -> None:
    names = [(one.kind, one.name) for one in engine.made]
    assert len(names) == len(set(names))
    once = ("Bucket", "Repository", "DatabaseInstance", "Database", "User", "SecretVersion",
            "WorkloadIdentityPool", "WorkloadIdentityPoolProvider", "Trigger", "Budget",
            "IAMCustomRole")  # fmt: skip
    assert {kind: len(engine.of(kind)) for kind in once} == dict.fromkeys(once, 1)
    assert len(engine.of("Account")) == 4
    assert len(engine.of("Secret")) == 3


def test_a_small_stack_has_no_database_repository_or_budget(program: Any) -> None:
    engine, outputs = declared(program)

    for kind in ("DatabaseInstance", "SecretVersion", "Trigger", "WorkloadIdentityPool", "Budget"):
        assert engine.of(kind) == []
    assert outputs["sql"] == ""


def test_nothing_is_public(engine: Engine) -> None:
    text = json.dumps([one.inputs for one in engine.made])
    assert "allUsers" not in text
    assert "allAuthenticatedUsers" not in text
    assert "0.0.0.0/0" not in text
    bucket = engine.one("Bucket")
    assert bucket["publicAccessPrevention"] == "enforced"
    assert bucket["uniformBucketLevelAccess"] is True
    network = engine.one("DatabaseInstance")["settings"]["ipConfiguration"]
    assert network["authorizedNetworks"] == []
    assert network["sslMode"] == "ENCRYPTED_ONLY"
    assert engine.one("DatabaseInstance")["settings"]["connectorEnforcement"] == "REQUIRED"


def test_no_role_is_primitive_and_no_account_has_a_key(engine: Engine) -> None:
    roles = [one.inputs["role"] for one in engine.made if "role" in one.inputs]
    assert len(roles) > 25
    assert not PRIMITIVE & set(roles)
    assert engine.of("Key") == []


def test_what_holds_data_is_protected_from_deletion(engine: Engine) -> None:
    database = engine.one("DatabaseInstance")
    assert database["deletionProtection"] is True
    assert database["settings"]["deletionProtectionEnabled"] is True
    backups = database["settings"]["backupConfiguration"]
    assert backups["enabled"] is True
    assert backups["pointInTimeRecoveryEnabled"] is True
    assert all(secret.inputs["deletionProtection"] is True for secret in engine.of("Secret"))
    bucket = engine.one("Bucket")
    assert bucket["versioning"] == {"enabled": True}
    assert bucket.get("forceDestroy", False) is False
    kinds = {rule["action"]["type"] for rule in bucket["lifecycleRules"]}
    assert kinds == {"Delete", "AbortIncompleteMultipartUpload"}


def test_everything_that_can_have_labels_has_them(engine: Engine) -> None:
    for one in engine.made:
        if one.type.lower().endswith("member") or one.kind in _UNLABELLED:
            continue
        of_database = one.inputs.get("settings", {}).get("userLabels")
        assert (one.inputs.get("labels") or of_database) == ENVIRONMENT.labels, one.kind


def test_everything_is_where_the_environment_is(engine: Engine) -> None:
    for one in engine.made:
        for name in ("region", "location"):
            if name in one.inputs:
                assert one.inputs[name].lower() == ENVIRONMENT.region, one


def test_every_role_of_the_list_is_given_to_exactly_who_needs_it(
    engine: Engine, program: Any
) -> None:
    wanted = sorted(
        (ENVIRONMENT.account(grant.account), grant.role.removeprefix("roles/"), grant.on)
        for grant in program["permissions"].GRANTS
    )
    given = sorted(
        (one.inputs["member"].removeprefix("serviceAccount:"), _role(one), _target(one))
        for one in engine.made
        if one.name.startswith("grant-")
    )
    assert given == wanted
    others = [o for o in engine.made if "member" in o.inputs and not o.name.startswith("grant-")]
    assert [one.name for one in others] == ["github-acts-as-build"]


def _role(one: Made) -> str:
    role: str = one.inputs["role"]
    return "classmarkVanish" if role == "role-vanish" else role.removeprefix("roles/")


def _target(one: Made) -> str:
    if "bucket" in one.inputs:
        return "bucket"
    if "repository" in one.inputs:
        return "registry"
    if "secretId" in one.inputs:
        return "secret " + str(one.inputs["secretId"]).removeprefix(ENVIRONMENT.secret(""))
    if "serviceAccountId" in one.inputs:
        return "account " + str(one.inputs["serviceAccountId"]).removeprefix("account-")
    return "project"


def test_the_service_writes_only_journals_and_the_registry(engine: Engine) -> None:
    writes = {
        one.inputs["condition"]["expression"]
        for one in engine.of("BucketIAMMember")
        if "classmark-serve" in one.inputs["member"] and "objectUser" in one.inputs["role"]
    }
    start = f"projects/_/buckets/{ENVIRONMENT.bucket}/objects"
    assert writes == {
        f'resource.name.startsWith("{start}/{folder}/")' for folder in ("journal", "registry")
    }


def test_the_build_can_scan_the_image_that_it_has_not_pushed_yet(
    engine: Engine, program: Any
) -> None:
    steps = yaml.safe_load((FOLDER.parent / "cloudbuild.yaml").read_text("utf-8"))["steps"]
    (scan,) = [step for step in steps if step["id"] == "scan"]
    assert "gcloud artifacts docker images scan" in scan["args"][-1]
    # The slim image lacks the component local-extract, which looks into a local image.
    assert scan["name"] == "gcr.io/google.com/cloudsdktool/cloud-sdk:latest"
    apis = {one.inputs["service"] for one in engine.of("Service")}
    assert "ondemandscanning.googleapis.com" in apis
    roles = {grant.role for grant in program["permissions"].GRANTS if grant.account == "build"}
    assert "roles/ondemandscanning.admin" in roles


def test_the_service_signs_in_as_the_user_and_to_the_database_of_the_stack(engine: Engine) -> None:
    wanted = Wanted(kind="service", image="i@sha256:1")
    made = filled(replace(ENVIRONMENT, sql="p:r:i"), wanted, run_v2.Service)
    env = {one.name: one.value for one in made.template.containers[0].env}
    user, database = engine.one("User")["name"], engine.one("Database")["name"]
    at = f"postgresql://{user}@/{database}?host=/cloudsql/p:r:i"
    assert env["CLASSMARK_SERVE_JOURNAL"] == at


def test_a_machine_may_remove_itself_and_no_more(engine: Engine) -> None:
    assert engine.one("IAMCustomRole")["permissions"] == [
        "compute.instances.delete",
        "compute.instances.get",
    ]


def test_only_release_tags_of_one_repository_act_as_build(engine: Engine) -> None:
    condition = engine.one("WorkloadIdentityPoolProvider")["attributeCondition"]
    assert 'assertion.repository == "example/classmark"' in condition
    assert 'assertion.ref.startsWith("refs/tags/v")' in condition
    [acts] = [one.inputs for one in engine.made if one.name == "github-acts-as-build"]
    assert acts["member"] == (
        "principalSet://iam.googleapis.com/github/attribute.repository/example/classmark"
    )
    trigger = engine.one("Trigger")
    assert trigger["github"]["owner"] == "example"
    assert trigger["serviceAccount"] == "account-build-id"


def test_secrets_have_no_value_but_the_password_that_the_database_has(engine: Engine) -> None:
    version = engine.one("SecretVersion")
    assert version["secret"] == "secret-journal-password-id"
    for given in (engine.one("User")["password"], version["secretData"]):
        assert given["value"] == "a-test-password"
        assert len(given) == 2, "it is not kept as a secret in the state of the stack"
    assert all("secretData" not in secret.inputs for secret in engine.of("Secret"))


def test_the_dashboards_of_grafana_are_there_with_their_labels(engine: Engine) -> None:
    boards = [json.loads(one.inputs["dashboardJson"]) for one in engine.of("Dashboard")]
    assert [board["displayName"] for board in boards] == [
        "classmark: service (staging)",
        "classmark: watch (staging)",
    ]
    assert all(board["labels"] == ENVIRONMENT.labels for board in boards)


def test_the_budget_says_before_it_is_spent(engine: Engine) -> None:
    budget = engine.one("Budget")
    shares = [rule["thresholdPercent"] for rule in budget["thresholdRules"]]
    assert shares == [0.5, 0.9, 1.0]
    assert budget["budgetFilter"]["projects"] == ["projects/42"]


def test_the_output_is_a_file_of_the_environment(
    full: tuple[Engine, dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text(json.dumps(full[1]), encoding="utf-8")

    found = read_environment(file)

    assert found.sql == "papers-test-1:europe-west4:classmark-staging"
    named = [one.name for one in fields(CloudEnvironment) if one.name != "sql"]
    assert all(getattr(found, name) == getattr(ENVIRONMENT, name) for name in named)


def test_settings_come_from_the_configuration_of_the_stack(program: Any) -> None:
    pulumi.runtime.set_mocks(Engine(), project="classmark", stack="staging")
    given = {
        "gcp:project": "papers-test-1",
        "gcp:region": "europe-west4",
        "classmark:database": "true",
        "classmark:tier": "db-custom-1-3840",
        "classmark:journalPassword": "a-test-password",
        "classmark:notify": "operator@example.org",
        "classmark:budget": "50",
    }
    pulumi.runtime.set_all_config(given)

    settings = program["settings"].read_settings()

    assert settings.environment == ENVIRONMENT
    assert settings.tier == "db-custom-1-3840"
    assert settings.budget == 50
    pulumi.runtime.set_all_config(given | {"classmark:database": "false"})
    assert program["settings"].read_settings().tier == ""
    assert program["settings"].read_settings().password is None


def test_every_setting_has_its_description_and_its_default(program: Any) -> None:
    config = yaml.safe_load((FOLDER / "Pulumi.yaml").read_text("utf-8"))["config"]
    source = (FOLDER / "settings.py").read_text("utf-8")
    for name, about in config.items():
        assert about["description"]
        assert "default" in about
        assert f'"{name.removeprefix("classmark:")}"' in source


def test_the_page_of_permissions_is_made_from_the_list(program: Any) -> None:
    permissions = program["permissions"]
    assert permissions.PAGE.read_text("utf-8") == permissions.page(), (
        "run python deploy/gcp/infra/permissions.py"
    )
    assert all(grant.why for grant in permissions.GRANTS)


def test_the_program_is_a_few_lines() -> None:
    lines = (FOLDER / "__main__.py").read_text("utf-8").splitlines()
    assert len(lines) < 10
