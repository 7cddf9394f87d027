"""Deploying to Cloud Run: revisions, traffic, jobs, secrets, and taking all of it down."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
import yaml
from compute_service import Machines
from google.cloud import aiplatform_v1, artifactregistry_v1, run_v2, scheduler_v1, secretmanager_v1
from google.cloud.devtools import cloudbuild_v1
from google_server import GoogleServer
from serving_service import Images, Jobs, Scheduler, Secrets, Services
from training_service import TrainingJobs
from typer.main import get_command
from typer.testing import CliRunner, Result
from watch_service import WatchService

from bucket_server import BucketServer
from classmark.cli.app import app as classmark_app
from classmark.cli.cloud.command import app
from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import GRPC_VARIABLE, HTTP_VARIABLE, Google
from classmark.cloud.serving.manifests import KINDS, Wanted, filled
from classmark.cloud.serving.services import find_service, update
from classmark.errors import ClassmarkError, CloudNotFound, CloudRefused, UsageError
from make_targets import make, needs_make

ROOT = Path(__file__).parents[2]
ENVIRONMENT = CloudEnvironment(project="papers-test-1", region="europe-west4", bucket="papers")
_REPOSITORY = f"{ENVIRONMENT.parent}/repositories/classmark"
_CODE = grpc.StatusCode


@dataclass
class Cloud:
    """What is in the project, and the command that changes it."""

    server: GoogleServer
    services: Services
    jobs: Jobs
    schedules: Scheduler
    secrets: Secrets
    file: Path
    bucket: BucketServer

    def run(self, *words: str, given: bytes | None = None) -> Result:
        """Run a command of ``classmark cloud``."""
        words = (*words, "--environment", str(self.file))
        return CliRunner().invoke(app, [*words], input=given)

    def shares(self) -> list[int]:
        """Return the shares of the revisions, the largest first."""
        (service,) = self.services.kept.values()
        return sorted((t.percent for t in service.traffic if t.percent), reverse=True)

    def serving(self) -> str:
        """Return the revision with the most requests."""
        (service,) = self.services.kept.values()
        return str(max(service.traffic, key=lambda t: t.percent).revision)


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    services, jobs, schedules, secrets, images = (
        Services(),
        Jobs(),
        Scheduler(),
        Secrets(),
        Images(),
    )
    training, watch = TrainingJobs(), WatchService()
    server = GoogleServer(
        {
            run_v2.ServicesClient: services,
            run_v2.RevisionsClient: services,
            run_v2.JobsClient: jobs,
            scheduler_v1.CloudSchedulerClient: schedules,
            secretmanager_v1.SecretManagerServiceClient: secrets,
            artifactregistry_v1.ArtifactRegistryClient: images,
            aiplatform_v1.JobServiceClient: training,
            **watch.clients(),
        }
    )
    services.server = jobs.server = training.server = watch.server = server
    for number in (1, 2, 3):
        images.push(_REPOSITORY, "service", f"v{number}", f"sha256:{number}{number}")
    images.push(_REPOSITORY, "train", "v1", "sha256:aa")
    file = tmp_path / "cloud.yaml"
    file.write_text("project: papers-test-1\nregion: europe-west4\nbucket: papers\n")
    bucket = BucketServer()
    with bucket.running(), server.running() as address, Machines().running() as machines:
        for name, value in bucket.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(GRPC_VARIABLE, address)
        monkeypatch.setenv(HTTP_VARIABLE, machines)
        yield Cloud(server, services, jobs, schedules, secrets, file, bucket)


def test_a_canary_is_promoted_and_rolled_back(cloud: Cloud) -> None:
    assert cloud.run("deploy", "service", "--image", "v1").exit_code == 0
    first = cloud.serving()
    done = cloud.run("deploy", "service", "--image", "v2", "--no-traffic", "--tag", "canary")
    assert done.exit_code == 0, done.output
    assert (cloud.serving(), cloud.shares()) == (first, [100])
    assert cloud.run("canary", "--percent", "10").exit_code == 0
    assert (cloud.serving(), cloud.shares()) == (first, [90, 10])
    assert cloud.run("promote").exit_code == 0
    assert cloud.serving() != first
    assert cloud.run("rollback").exit_code == 0
    assert (cloud.serving(), cloud.shares()) == (first, [100])
    again = cloud.run("rollback")
    assert isinstance(again.exception, CloudNotFound)
    assert cloud.serving() == first


def test_a_rollback_during_a_canary_ends_it(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    first = cloud.serving()
    cloud.run("deploy", "service", "--image", "v2", "--no-traffic", "--tag", "canary")
    cloud.run("canary", "--percent", "60")
    cloud.run("rollback")
    assert (cloud.serving(), cloud.shares()) == (first, [100])


def test_a_deployment_repeated_makes_no_second_revision(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    made = cloud.serving()
    done = cloud.run("deploy", "service", "--image", "v1", "--json")
    assert json.loads(done.stdout)["traffic"] == [{"revision": made, "percent": 100, "tag": ""}]
    assert not cloud.server.called("UpdateService")


def test_a_deployment_whose_answer_was_lost_is_finished_when_repeated(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    first = cloud.serving()
    cloud.server.fail("UpdateService", _CODE.UNAVAILABLE, after=True)
    assert cloud.run("deploy", "service", "--image", "v2").exit_code == 1
    assert cloud.serving() == first
    assert cloud.run("deploy", "service", "--image", "v2").exit_code == 0
    assert cloud.serving() != first


def test_an_image_deployed_before_gets_its_revision_back(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    first = cloud.serving()
    cloud.run("deploy", "service", "--image", "v2")
    assert cloud.run("deploy", "service", "--image", "v1").exit_code == 0
    assert cloud.serving() == first
    assert len(cloud.services.revisions) == 2


def test_of_two_changes_at_once_one_is_refused(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    google = Google(ENVIRONMENT)
    one, other = find_service(google, "service"), find_service(google, "service")
    update(google, one)
    with pytest.raises(CloudRefused, match="met another change"):
        update(google, other)


def test_a_revision_that_does_not_start_gets_no_requests(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    first = cloud.serving()
    cloud.services.broken.add(f"{ENVIRONMENT.images}/service@sha256:22")
    done = cloud.run("deploy", "service", "--image", "v2")
    assert "did not become ready" in str(done.exception)
    assert (cloud.serving(), cloud.shares()) == (first, [100])


def test_an_image_that_does_not_exist_changes_nothing(cloud: Cloud) -> None:
    done = cloud.run("deploy", "service", "--image", "v9")
    assert isinstance(done.exception, CloudNotFound)
    assert "finding the image" in str(done.exception)
    assert not cloud.services.kept


def test_a_missing_permission_names_the_role(cloud: Cloud) -> None:
    cloud.server.fail("CreateService", _CODE.PERMISSION_DENIED)
    done = cloud.run("deploy", "service", "--image", "v1")
    assert "roles/run.developer" in str(done.exception)


@pytest.mark.parametrize("image", ["v1", "sha256:11"])
def test_an_image_is_deployed_by_its_digest(cloud: Cloud, image: str) -> None:
    cloud.run("deploy", "service", "--image", image)
    (service,) = cloud.services.kept.values()
    assert service.template.containers[0].image == f"{ENVIRONMENT.images}/service@sha256:11"


def test_a_job_gets_a_schedule_that_may_start_it(cloud: Cloud) -> None:
    for schedule in ("0 6 * * *", "0 7 * * *"):
        done = cloud.run("deploy", "monitor-job", "--image", "v1", "--schedule", schedule)
        assert done.exit_code == 0, done.output
    (trigger,) = cloud.schedules.kept.values()
    assert trigger.schedule == "0 7 * * *"
    assert trigger.http_target.uri.endswith("/jobs/classmark-monitor-job:run")
    assert trigger.http_target.oauth_token.service_account_email == ENVIRONMENT.account("watch")


def test_a_secret_is_rotated_and_its_value_is_in_one_request_only(cloud: Cloud) -> None:
    assert cloud.run("secret", "set", "api-keys", given=b"first\n").output == "api-keys version 1\n"
    assert cloud.run("secret", "set", "api-keys", given=b"second").output == "api-keys version 2\n"
    assert list(cloud.secrets.values.values()) == [[b"first", b"second"]]
    carrying = {call.method for call in cloud.server.calls if "second" in str(call.request)}
    assert carrying == {"AddSecretVersion"}
    assert cloud.run("secret", "list").output == "classmark-production-api-keys\n"


def test_destroy_removes_what_is_its_own_and_says_what_is_left(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    cloud.run("deploy", "retrain-job", "--image", "v1", "--dataset", "papers")
    cloud.run("secret", "set", "wandb-key", given=b"value")
    foreign = f"{ENVIRONMENT.parent}/services/other"
    cloud.services.kept[foreign] = run_v2.Service(name=foreign)
    assert "service" in cloud.run("destroy", "--dry-run").output
    cloud.server.fail("DeleteService", _CODE.PERMISSION_DENIED)
    assert cloud.run("destroy", "--yes").exit_code == 1
    assert cloud.run("destroy", "--yes").exit_code == 0
    assert list(cloud.services.kept) == [foreign]
    assert [cloud.jobs.kept, cloud.schedules.kept, cloud.secrets.kept] == [{}, {}, {}]
    assert cloud.run("destroy", "--yes").output == ""


def test_a_dry_run_sends_nothing(cloud: Cloud) -> None:
    for kind in KINDS:
        words = ("deploy", kind, "--image", "v1", "--dataset", "papers", "--dry-run")
        assert json.loads(cloud.run(*words).stdout)
    assert not cloud.server.calls


@pytest.mark.parametrize("sql", ["", "papers-test-1:europe-west4:journal"])
@pytest.mark.parametrize("has_keys", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_is_one_of_googles_messages(kind: str, sql: str, has_keys: bool) -> None:
    environment = CloudEnvironment(project="papers-1", region="europe-west4", bucket="b12", sql=sql)
    message = run_v2.Job if kind.endswith("-job") else run_v2.Service
    wanted = Wanted(kind=kind, image="i@sha256:0", has_keys=has_keys, dataset="papers")
    made = filled(environment, wanted, message)
    assert made.labels == environment.labels
    assert "${" not in str(made)
    assert ("/cloudsql" in str(made)) == bool(sql)


def test_concurrency_is_what_was_measured() -> None:
    report = json.loads((ROOT / "benchmarks/reports/service.json").read_text())
    made = filled(ENVIRONMENT, Wanted(kind="service", image="i"), run_v2.Service)
    single = report["headline"]["single_concurrency"]
    assert made.template.max_instance_request_concurrency == single
    assert made.template.containers[0].resources.limits["cpu"] == str(report["workers"])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ClassmarkError, match="service, monitor"):
        filled(ENVIRONMENT, Wanted(kind="page", image="i"), run_v2.Service)


def test_the_build_is_one_of_googles_messages_and_pushes_what_it_builds() -> None:
    text = (ROOT / "deploy" / "gcp" / "cloudbuild.yaml").read_text("utf-8")
    fields = json.dumps(yaml.safe_load(text))
    build = cloudbuild_v1.Build.from_json(fields, ignore_unknown_fields=False)
    built = [
        step.args[step.args.index("--tag") + 1] for step in build.steps if "--tag" in step.args
    ]
    assert list(build.images) == built
    # The Dockerfile has mounts, which only BuildKit knows; that of `train` is a folder not in git.
    assert "DOCKER_BUILDKIT=1" in build.options.env
    (train,) = [step for step in build.steps if "train" in step.args]
    before = [step for step in build.steps if step.id in train.wait_for]
    assert [(step.entrypoint, *step.args) for step in before] == [("mkdir", "-p", "build/wheels")]
    verified = cloudbuild_v1.BuildOptions.VerifyOption.VERIFIED
    assert build.options.requested_verify_option == verified


@pytest.mark.parametrize(
    ("places", "is_near"),
    [
        (("EUROPE-WEST4",), True), (("EU",), True), (("EUR4",), True), (("EUROPE-WEST40",), False),
        (("EU", "EUROPE-WEST1", "EUROPE-WEST4"), True), (("US",), False), (("NAM4",), False),
    ],
)  # fmt: skip
def test_a_bucket_that_is_elsewhere_is_refused_before_anything_is_asked(
    cloud: Cloud, places: tuple[str, ...], is_near: bool
) -> None:
    cloud.bucket.move(*places)
    done = cloud.run("deploy", "service", "--image", "v1")
    if is_near:
        assert done.exit_code == 0, done.output
        return
    assert isinstance(done.exception, UsageError)
    assert f"is in {places[0]}, and the environment in europe-west4" in str(done.exception)
    assert cloud.server.calls == []


def test_the_bucket_whose_region_may_not_be_seen_names_the_role(cloud: Cloud) -> None:
    cloud.bucket.fail("GET", r"/b/papers\?", 403)
    done = cloud.run("deploy", "service", "--image", "v1")
    assert "Give the account roles/storage.bucketViewer on the bucket" in str(done.exception)


def test_each_kind_runs_as_the_account_that_the_stack_gives_its_rights_to() -> None:
    for kind, account in (("service", "serve"), ("monitor", "watch")):
        wanted = Wanted(kind=kind, image="i@sha256:1")
        made = filled(ENVIRONMENT, wanted, run_v2.Service).template
        assert made.service_account == ENVIRONMENT.account(account)
    for kind in ("monitor-job", "retrain-job"):
        wanted = Wanted(kind=kind, image="i@sha256:1", dataset="papers")
        made = filled(ENVIRONMENT, wanted, run_v2.Job).template
        assert made.template.service_account == ENVIRONMENT.account("watch")
    grants = runpy.run_path(str(ROOT / "deploy/gcp/infra/permissions.py"))["GRANTS"]
    journal, registry = [g.prefix for g in grants if g.account == "serve" and g.prefix]
    service = filled(ENVIRONMENT, Wanted(kind="service", image="i@sha256:1"), run_v2.Service)
    env = {entry.name: entry.value for entry in service.template.containers[0].env}
    copies = env["CLASSMARK_SERVE_JOURNAL_COPIES"]
    assert f"{copies}/".startswith(ENVIRONMENT.address(journal))
    # In which it ends a canary.
    assert f"{env['CLASSMARK_SERVE_REGISTRY']}/" == ENVIRONMENT.address(registry)


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_runs_a_command_with_options_that_it_has(kind: str) -> None:
    papers = ("gs://papers/new/one.jsonl", "gs://papers/new/two.jsonl")
    wanted = Wanted(kind=kind, image="i@sha256:0", dataset="papers", papers=papers)
    if kind.endswith("-job"):
        template = filled(ENVIRONMENT, wanted, run_v2.Job).template.template
    else:
        template = filled(ENVIRONMENT, wanted, run_v2.Service).template
    command: Any = get_command(classmark_app)
    words = list(template.containers[0].args)
    while hasattr(command, "get_command"):
        command = command.get_command(click.Context(command), words.pop(0))
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= known
    if kind == "retrain-job":
        assert [w for i, w in enumerate(words) if words[i - 1] == "--papers"] == list(papers)
        assert words[words.index("--dataset") + 1] == "gs://papers/datasets/papers"


def test_retraining_needs_a_dataset(cloud: Cloud) -> None:
    done = cloud.run("deploy", "retrain-job", "--image", "v1")
    assert "Give --dataset" in str(done.exception)
    assert cloud.jobs.kept == {}


def test_status_shows_the_monitor_and_when_jobs_ran_and_run_next(cloud: Cloud) -> None:
    cloud.run("deploy", "service", "--image", "v1")
    alone = json.loads(cloud.run("status", "--json").stdout)
    assert (alone["monitor"], alone["jobs"]) == (None, [])
    cloud.run("deploy", "monitor", "--image", "v1")
    cloud.run("deploy", "monitor-job", "--image", "v1")
    cloud.run("deploy", "retrain-job", "--image", "v1", "--dataset", "papers")
    (monitor, retrain) = (cloud.jobs.kept[name] for name in sorted(cloud.jobs.kept))
    began, due = datetime(2026, 5, 1, 6, tzinfo=UTC), datetime(2026, 5, 2, 6, tzinfo=UTC)
    monitor.latest_created_execution = run_v2.ExecutionReference(
        name="one", create_time=began,
        completion_status=run_v2.ExecutionReference.CompletionStatus.EXECUTION_FAILED,
    )  # fmt: skip
    cloud.schedules.kept[monitor.name].schedule_time = due
    del cloud.schedules.kept[retrain.name]
    found = json.loads(cloud.run("status", "--json").stdout)
    assert found["monitor"]["name"].endswith("services/classmark-monitor")
    assert found["jobs"][0] == {
        "name": "classmark-monitor-job", "schedule": "0 6 * * *", "last": "failed",
        "last_utc": "2026-05-01T06:00:00Z", "next_utc": "2026-05-02T06:00:00Z",
    }  # fmt: skip
    lines = cloud.run("status").stdout.splitlines()
    assert lines[-2].startswith("classmark-monitor-job  failed 2026-05-01T06:00:00Z  at 0 6 * * *")
    assert lines[-1] == "classmark-retrain-job  never ran"


@needs_make
def test_the_targets_of_the_workflow_deploy_and_roll_back(cloud: Cloud) -> None:
    environment = cloud.file.read_text("utf-8")
    for image in ("v1", "v2"):
        done = make("deploy", f"IMAGE={image}", CLOUD_ENVIRONMENT=environment)
        assert done.returncode == 0, done.stderr
    second = cloud.serving()
    done = make("rollback", CLOUD_ENVIRONMENT=environment)
    assert done.returncode == 0, done.stderr
    assert cloud.serving() != second
    assert cloud.shares() == [100]
