"""Training on Google Cloud: real fits in jobs that are taken away, and what can go wrong."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from compute_service import container_of
from google.cloud import aiplatform_v1, compute_v1
from training_project import ENVIRONMENT, Project, mounted, project

from classmark.cli.cloud.train import follow_to_end
from classmark.cloud.serving.destroy import KINDS, remove_all
from classmark.cloud.serving.secrets import set_secret
from classmark.cloud.training.compute import Compute
from classmark.cloud.training.follow import Follow
from classmark.cloud.training.job import Job, JobState
from classmark.cloud.training.logs import LogTail
from classmark.cloud.training.prices import (
    CAUTION,
    Hourly,
    check_budget,
    price_of,
    read_training_prices,
)
from classmark.cloud.training.vertex import Vertex
from classmark.dataset import SampleConfig, sample_dataset
from classmark.errors import (
    ClassmarkError,
    CloudFailed,
    CloudNotFound,
    CloudRefused,
    Interrupted,
    UsageError,
)
from classmark.pipeline import compose_config, train
from deep_models import tiny_encoder

CODE = grpc.StatusCode
__all__ = ["project", "tiny_encoder"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    sample_dataset(folder, SampleConfig(papers=300), command="a test")
    return folder


def job_of(engine: str) -> Job:
    return Job(
        name=f"{engine}-20260101-000000-abcd", machine="cpu", is_spot=False,
        image="europe-west4-docker.pkg.dev/papers-test-1/classmark/train@sha256:1",
        dataset="gs://papers/datasets/sample", hours=2.0, overrides=(), zone="europe-west4-b",
    )  # fmt: skip


def words_of(encoder: Path) -> list[str]:
    return [
        "model=transformer", f"model.encoder={encoder}", "model.max_length=32",
        "model.threads=1", "model.epochs=3", "model.max_samples=96", "model.max_held_out=20",
        "model.device=cpu", "model.checkpoint_minutes=0", "tracker=csv",
    ]  # fmt: skip


@pytest.mark.slow  # reason: three processes that import Lightning
def test_a_job_that_is_taken_away_resumes_and_gives_the_run_of_a_local_fit(
    project: Project, dataset: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    project.upload(dataset)
    mounted(project, tmp_path / "gcs")
    project.jobs.preempt_at = "papers/runs/*/*.unfinished/checkpoints/step-*/state.json"

    done = project.train("--spot", "--output", tmp_path / "runs", *words_of(tiny_encoder))

    assert done.exit_code == 0, done.output
    run = Path(done.stdout.splitlines()[-1])
    (starts,) = project.jobs.starts.values()
    assert len(starts) == 2
    assert starts[0] == starts[1]
    words = [*words_of(tiny_encoder), f"dataset.path={dataset}", f"runs_dir={tmp_path / 'local'}"]
    local = train(compose_config(words), command="a test")
    for name in ("weights/model.safetensors", "scores/model-test.npz"):
        assert (run / name).read_bytes() == (local / name).read_bytes()
    lines = done.stderr.splitlines()
    assert sum("resuming transformer-" in line for line in lines) == 1
    written = [dict(entry.json_payload)["message"] for entry in project.log.entries]
    assert [line for line in lines if not line.startswith("vertex-")] == written
    assert [line.split()[-1] for line in lines if line.startswith("vertex-")][1:] == [
        "QUEUED", "PENDING", "RUNNING", "PENDING", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip
    assert json.loads((run / "provenance.json").read_text())["dataset"] == "../../datasets/sample"


LINEAR = ("experiment=debug", "model.max_features=500", "tracker=csv")


@pytest.mark.slow  # reason: processes that fit
def test_a_machine_that_is_taken_away_is_made_again_and_deletes_itself(
    project: Project, dataset: Path, tmp_path: Path
) -> None:
    project.upload(dataset)
    taken: list[str] = []

    def is_first(machine: compute_v1.Instance) -> bool:
        if taken or not project.log.entries:
            return False
        taken.append(machine.name)
        return True

    project.machines.preempt_when = is_first

    words = ("--engine", "compute", "--spot", "--output", tmp_path / "runs", *LINEAR)
    done = project.train(*words)

    assert done.exit_code == 0, done.output
    assert len(project.machines.inserts) == 2
    assert not project.machines.machines
    first, second = project.machines.inserts
    assert first.name == second.name == taken[0]
    assert f"{first.name} PREEMPTED" in done.stderr
    run = Path(done.stdout.splitlines()[-1])
    assert json.loads((run / "provenance.json").read_text())["kind"] == "linear"
    assert second.scheduling.max_run_duration.seconds <= first.scheduling.max_run_duration.seconds
    assert project.run("fetch", first.name, "--output", tmp_path / "again").exit_code == 0
    assert project.run("cancel", first.name).stdout == f"{first.name} SUCCEEDED\n"
    shown = project.run("logs", first.name).stdout.splitlines()
    assert shown == [dict(entry.json_payload)["message"] for entry in project.log.entries]


@pytest.mark.slow  # reason: a process that fits
@pytest.mark.parametrize("engine", ["vertex", "compute"])
def test_a_fit_that_fails_is_said_with_its_exit_code_and_leaves_no_machine(
    project: Project, dataset: Path, tmp_path: Path, engine: str
) -> None:
    project.upload(dataset)
    mounted(project, tmp_path / "gcs")

    done = project.train("--engine", engine, "model.max_features=500", "seed=-1")

    assert isinstance(done.exception, CloudFailed)
    assert "ended as FAILED: " in str(done.exception)
    assert "seed must be a whole number" in done.stderr
    assert not project.machines.machines
    name = str(done.exception).split()[2]
    missing = project.run("fetch", name)
    assert isinstance(missing.exception, CloudNotFound)
    assert "no run is in gs://papers/runs/" in str(missing.exception)


def test_a_dry_run_prints_the_request_and_asks_google_nothing(project: Project) -> None:
    done = project.train("--dry-run", "--machine", "gpu", "--spot", "tracker=wandb", "--json")

    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    request = aiplatform_v1.CreateCustomJobRequest.from_json(
        json.dumps(shown["request"]), ignore_unknown_fields=False
    )
    spec = request.custom_job.job_spec
    pool = spec.worker_pool_specs[0]
    assert pool.machine_spec.accelerator_type == aiplatform_v1.AcceleratorType.NVIDIA_L4
    assert spec.scheduling.strategy == aiplatform_v1.Scheduling.Strategy.SPOT
    assert spec.scheduling.restart_job_on_worker_restart
    assert spec.scheduling.timeout.total_seconds() == 12 * 3600
    assert spec.service_account == ENVIRONMENT.account("train")
    assert "/gcs/papers/datasets/sample" in pool.container_spec.args
    secret = "projects/papers-test-1/secrets/classmark-production-wandb-key/versions/latest"
    assert f"WANDB_API_KEY={secret}" in pool.container_spec.args
    assert shown["price"]["caution"] == CAUTION
    assert project.server.calls == []
    plain = project.train("--dry-run", "--engine", "compute", "--zone", "europe-west4-c")
    assert "machineTypes/n2-standard-8" in plain.stdout
    assert CAUTION in plain.stderr


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("machine", ["cpu", "gpu"])
@pytest.mark.parametrize("engine", ["vertex", "compute"])
def test_every_request_parses_and_has_a_price(
    project: Project, engine: str, machine: str, spot: bool
) -> None:
    words = ["--engine", engine, "--machine", machine, *(["--spot"] if spot else [])]

    shown = json.loads(project.train("--dry-run", "--json", *words).stdout)

    assert 0 < shown["price"]["low"] < shown["price"]["high"]
    if engine == "compute":
        content = json.dumps(shown["request"]["instanceResource"])
        instance = compute_v1.Instance.from_json(content, ignore_unknown_fields=False)
        assert container_of(instance)[:3] == ["classmark", "cloud", "work"]
        assert instance.scheduling.instance_termination_action == "DELETE"
        assert instance.scheduling.provisioning_model == ("SPOT" if spot else "STANDARD")


def test_a_job_above_the_budget_is_not_submitted(project: Project, dataset: Path) -> None:
    project.upload(dataset)

    done = project.train("--budget", "2", "--machine", "gpu", "--timeout", "10")

    assert isinstance(done.exception, CloudRefused)
    assert "the budget is 2 USD. Nothing was submitted" in str(done.exception)
    assert not project.jobs.jobs
    assert project.train("--budget", "2", "--timeout", "1", "--no-wait").exit_code == 0
    assert len(project.jobs.jobs) == 1


def test_an_answer_that_is_lost_submits_no_second_job(project: Project, dataset: Path) -> None:
    project.upload(dataset)
    project.server.fail("CreateCustomJob", CODE.UNAVAILABLE, after=True)
    project.server.fail("ListCustomJobs", CODE.UNAVAILABLE)

    done = project.train("--no-wait", "--json")

    assert done.exit_code == 0, done.output
    (job,) = project.jobs.jobs.values()
    assert json.loads(done.stdout)["name"] == job.display_name
    assert job.labels["job"] == job.display_name


def test_a_request_that_did_not_arrive_is_sent_again(project: Project, dataset: Path) -> None:
    project.upload(dataset)
    project.server.fail("CreateCustomJob", CODE.UNAVAILABLE)

    assert project.train("--no-wait").exit_code == 0
    assert len(project.jobs.jobs) == 1


@pytest.mark.parametrize("forgets", [False, True])
def test_a_machine_whose_answer_was_lost_is_made_once(
    project: Project, dataset: Path, forgets: bool
) -> None:
    project.upload(dataset)
    project.machines.runs, project.machines.forgets = False, forgets
    project.machines.fail("POST", 503, after=True)
    project.machines.fail("GET", 503)

    done = project.train("--no-wait", "--engine", "compute")

    assert done.exit_code == 0, done.output
    assert len(project.machines.inserts) == 1


def test_a_job_of_a_name_that_a_machine_has_is_refused(project: Project) -> None:
    project.machines.runs = False
    engine = Compute(project.google)
    state = engine.submit(job_of("compute"))
    with pytest.raises(CloudRefused, match="already exists"):
        engine.submit(job_of("compute"))
    engine.remove(state.path)
    engine.remove(state.path)
    ended = engine.refresh(state)
    assert (ended.state, "before its container ran" in ended.message) == ("FAILED", True)


def test_a_google_that_never_answers_is_an_error_after_a_few_tries(project: Project) -> None:
    project.server.fail("CreateCustomJob", CODE.UNAVAILABLE, times=9)
    with pytest.raises(CloudFailed, match="submitting the training job failed"):
        Vertex(project.google).submit(job_of("vertex"))
    project.machines.fail("POST", 503, times=9)
    with pytest.raises(CloudFailed, match="submitting the training job failed"):
        Compute(project.google).submit(job_of("compute"))


@pytest.mark.parametrize(
    ("method", "code", "says"),
    [
        ("CreateCustomJob", CODE.RESOURCE_EXHAUSTED, "exceeds a quota"),
        ("CreateCustomJob", CODE.PERMISSION_DENIED, "roles/aiplatform.user, and roles/iam.serv"),
        ("GetTag", CODE.NOT_FOUND, "finding the image .*/train:v1 failed"),
        ("GetTag", CODE.PERMISSION_DENIED, "roles/artifactregistry.reader"),
    ],
)
def test_a_refusal_is_one_error_and_nothing_is_submitted(
    project: Project, dataset: Path, method: str, code: grpc.StatusCode, says: str
) -> None:
    project.upload(dataset)
    project.server.fail(method, code, times=9)

    done = project.train()

    assert isinstance(done.exception, ClassmarkError)
    assert re.search(says, str(done.exception))
    assert not project.jobs.jobs


def test_a_quota_or_a_zone_without_machines_says_where_to_go(
    project: Project, dataset: Path
) -> None:
    project.upload(dataset)
    project.machines.fail("POST", 429)
    assert "exceeds a quota" in str(project.train("--engine", "compute").exception)
    project.machines.fail("POST", 403)
    denied = project.train("--engine", "compute")
    assert "roles/compute.instanceAdmin.v1" in str(denied.exception)
    project.machines.no_capacity = True
    full = project.train("--engine", "compute")
    assert "cannot be made in europe-west4-b: no machine is left. Try another --zone" in str(
        full.exception
    )
    assert not project.machines.machines


def test_a_dataset_or_a_secret_that_is_missing_is_named_before_anything_is_submitted(
    project: Project, dataset: Path
) -> None:
    assert "no dataset is in gs://papers/datasets/sample" in str(project.train().exception)
    project.upload(dataset)
    missing = project.train("tracker=wandb", "--no-wait")
    assert "classmark cloud secret set wandb-key" in str(missing.exception)
    assert not project.jobs.jobs
    set_secret(project.google, "wandb-key", b"a key of W&B")
    assert project.train("tracker=wandb", "--no-wait").exit_code == 0
    (request,) = project.server.called("CreateCustomJob")
    assert "a key" not in str(request)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--engine", "abacus"), "--engine 'abacus'"),
        (("--machine", "tpu"), "--machine 'tpu'"),
        (("--timeout", "0"), "--timeout 0"),
        (("--dataset", "gs://papers"), "is not gs://BUCKET/FOLDER"),
        (("runs_dir=elsewhere",), "the job sets this key itself"),
        (("model.epoch=3",), "model.epoch is unknown"),
    ],
)
def test_what_cannot_be_submitted_is_a_usage_error(
    project: Project, words: tuple[str, ...], says: str
) -> None:
    done = project.train(*words)

    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)
    assert project.server.calls == []


def test_jobs_are_listed_shown_and_cancelled(project: Project, dataset: Path) -> None:
    project.upload(dataset)
    project.machines.runs = False
    name = project.train("--no-wait").stdout.strip()
    machine = project.train("--no-wait", "--engine", "compute").stdout.strip()
    foreign = aiplatform_v1.CustomJob(display_name="other", labels={"app": "another"})
    project.jobs.jobs["other"] = foreign

    listed = project.run("jobs").stdout.splitlines()
    assert [line.split()[:2] for line in listed[:1]] == [[name, "QUEUED"]]
    assert len(listed) == 2
    found = json.loads(project.run("jobs", "--json", "--engine", "compute").stdout)
    assert [one["name"] for one in found] == [machine]
    assert project.run("cancel", name).stdout == f"{name} CANCELLING\n"
    assert project.run("cancel", name).stdout == f"{name} CANCELLED\n"
    assert project.run("cancel", machine).exit_code == 0
    assert project.run("cancel", machine).stdout == f"{machine} CANCELLED\n"
    followed = project.run("logs", name, "--follow", "--poll", "0.05")
    assert f"{name} ended as CANCELLED" in str(followed.exception)
    for wrong in ("mine", "vertex-20260101-000000-abcd", "compute-20260101-000000-abcd"):
        assert isinstance(project.run("logs", wrong).exception, (UsageError, CloudNotFound))


def test_ctrl_c_leaves_the_job_running_and_says_how_to_follow_it(project: Project) -> None:
    state = JobState(name="vertex-20260101-000000-abcd", state="QUEUED", path="p", created="")

    def press(_: str) -> None:
        raise KeyboardInterrupt

    follow = Follow(google=project.google, engine=Vertex(project.google), say=press, every_s=0.0)
    with pytest.raises(Interrupted, match=r"keeps running.*logs vertex-.* --follow.*cancel vert"):
        follow_to_end(follow, state)


def test_each_line_is_shown_once_although_lines_come_late_and_questions_are_repeated(
    project: Project,
) -> None:
    wanted = 'resource.type="ml_job" AND resource.labels.job_id="7"'
    tail = LogTail(project.google, wanted, "")
    resource = {"type": "ml_job", "labels": {"job_id": "7"}}
    for text in ("a", "b\nc", "d", "e"):
        project.log.add(resource=resource, text_payload=text)
    project.log.add(resource={"type": "ml_job", "labels": {"job_id": "8"}}, text_payload="x")
    project.server.fail("ListLogEntries", CODE.UNAVAILABLE)
    assert list(tail.new_lines()) == ["a", "b", "c", "d", "e"]
    late = datetime.now(UTC) - timedelta(seconds=30)
    project.log.add(resource=resource, json_payload={"message": "late"})
    project.log.entries[-1].timestamp = late
    assert list(tail.new_lines()) == ["late"]
    assert list(tail.new_lines()) == []
    project.server.fail("ListLogEntries", CODE.PERMISSION_DENIED)
    with pytest.raises(CloudRefused, match=r"roles/logging\.viewer"):
        list(tail.new_lines())


def test_the_price_is_from_the_data_and_a_budget_is_compared_with_its_high_end() -> None:
    price = price_of(job_of("vertex"))
    hourly = read_training_prices().machines["vertex"]["n2-standard-8"]["standard"]
    assert (price.low, price.high) == (2 * hourly.low, 2 * hourly.high)
    check_budget(price, price.high)
    check_budget(price, None)
    with pytest.raises(CloudRefused, match="lower --timeout"):
        check_budget(price, price.high - 0.01)
    with pytest.raises(UsageError, match="not a range"):
        Hourly(low=2.0, high=1.0)


def test_destroy_ends_and_removes_what_trains(project: Project, dataset: Path) -> None:
    project.upload(dataset)
    project.machines.runs = False
    project.train("--no-wait")
    project.train("--no-wait", "--engine", "compute")
    own = [kind for kind in KINDS if kind.word in ("training", "machine")]
    found = [thing for kind in own for thing in kind.found(project.google)]
    assert len(found) == 2

    assert remove_all(found) == []
    assert not project.jobs.jobs
    assert not project.machines.machines
