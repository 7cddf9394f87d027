"""From data in a bucket to a service that is watched, replaced and taken down, in one project."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2, scheduler_v1
from running_service import RunningJobs, RunningServices
from serving_service import Scheduler, Secrets
from training_project import ENVIRONMENT, Project, mounted, running_project
from watch_service import WatchService

from classmark.client import Client
from classmark.dataset import SampleConfig
from classmark.dataset.sample.sample import sample_papers
from classmark.journal.reading import summarise
from classmark.records import Paper
from classmark.storage import folder_place
from classmark.wire import Answer
from deep_models import tiny_encoder

__all__ = ["tiny_encoder"]
pytestmark = pytest.mark.slow  # reason: fits, services and a monitor are really run

_PATIENCE_S = 240
_REGISTRY = ENVIRONMENT.address("registry")
_JOURNAL = ENVIRONMENT.address("journal")
_RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"


@dataclass
class Place:
    """The project with what runs in it."""

    project: Project
    services: RunningServices
    jobs: RunningJobs
    schedules: Scheduler
    watch: WatchService
    folder: Path
    encoder: Path
    papers: Sequence[Paper] = field(
        default_factory=lambda: list(sample_papers(SampleConfig(papers=100, seed=11)))
    )

    def cloud(self, *words: str | Path) -> str:
        """Run a command of ``classmark cloud`` that must succeed; return what it prints."""
        ran = self.project.run(*words)
        assert ran.exit_code == 0, (ran.output, ran.exception)
        return ran.stdout

    def url(self) -> str:
        """Return the address of the service."""
        return str(json.loads(self.cloud("status", "--json"))["url"])

    def ask(self, papers: Sequence[Paper]) -> Counter[str]:
        """Return how many papers each model has answered."""
        with Client(self.url()) as client:
            answers = [client.classify([paper])[0] for paper in papers]
        assert all(isinstance(answer, Answer) for answer in answers)
        return Counter(a.model.name for a in answers if isinstance(a, Answer))


def done(*words: object) -> str:
    """Run a command of classmark that must succeed; return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-m", "classmark", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=_PATIENCE_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition, however busy the machine is."""
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"did not happen: {what}"
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    secrets, schedules, watch = Secrets(), Scheduler(), WatchService()
    services = RunningServices(tmp_path / "containers", secrets)
    jobs = RunningJobs(tmp_path / "containers", secrets, schedules)
    more = {
        run_v2.ServicesClient: services,
        run_v2.RevisionsClient: services,
        run_v2.JobsClient: jobs,
        scheduler_v1.CloudSchedulerClient: schedules,
        **watch.clients(),
    }
    with running_project(tmp_path, monkeypatch, more) as project:
        services.server = jobs.server = watch.server = project.server
        repository = f"{ENVIRONMENT.parent}/repositories/classmark"
        for version in ("v1", "v2"):
            project.images.push(repository, "service", version, f"sha256:{version}")
        mounted(project, tmp_path / "gcs")
        yield Place(project, services, jobs, schedules, watch, tmp_path, tiny_encoder)
        services.finish()


def trained(place: Place) -> Path:
    """Train in a job that is taken away once, and resumes; return the run that was fetched."""
    data = ENVIRONMENT.address("datasets", "sample")
    done("dataset", "sample", "--output", data, "--papers", 3_000)
    place.project.jobs.preempt_at = "papers/runs/*/*.unfinished/checkpoints/step-*/state.json"
    fit = [
        "model=transformer", f"model.encoder={place.encoder}", "model.max_length=32",
        "model.threads=1", "model.epochs=3", "model.max_samples=96", "model.max_held_out=200",
        "model.device=cpu", "model.checkpoint_minutes=0", "tracker=csv",
    ]  # fmt: skip
    ran = place.project.train("--spot", "--output", place.folder / "runs", *fit)
    assert ran.exit_code == 0, (ran.output, ran.exception)
    (starts,) = place.project.jobs.starts.values()
    assert len(starts) == 2
    assert "resuming transformer-" in ran.stderr
    return Path(ran.stdout.splitlines()[-1])


def exported(place: Place, run: Path) -> Path:
    """Return the bundle of a run."""
    bundle = place.folder / "bucket-1.0"
    done("export", run, "--output", bundle, "--dataset", ENVIRONMENT.address("datasets", "sample"))
    return bundle


def added(model: object) -> str:
    """Add a model to the registry of the bucket; return its digest."""
    said = done("registry", "add", model, "--registry", _REGISTRY, "--json")
    return str(json.loads(said)["digest"])


def promoted(digest: str) -> None:
    """Make a bundle the champion of the registry of the bucket."""
    why = ("--force", "--why", "a test", "--registry", _REGISTRY)
    done("registry", "promote", digest, *why)


def sent(place: Place, papers: Sequence[Paper]) -> None:
    """Have papers classified, and wait until the bucket has all predictions."""
    journal = folder_place(_JOURNAL)
    before = summarise(journal).predictions
    with Client(place.url()) as client:
        for start in range(0, len(papers), 50):
            assert all(isinstance(a, Answer) for a in client.classify(papers[start : start + 50]))
    wanted = before + len(papers)
    until(lambda: summarise(journal).predictions >= wanted, "the journal is in the bucket")


def looked(place: Place) -> tuple[int, str]:
    """Let the schedule start the monitor's job; return its exit code, and what it printed."""
    place.jobs.tick()
    return place.jobs.executions[-1]


@pytest.mark.timeout(900)
def test_from_data_in_a_bucket_to_nothing_left(place: Place) -> None:
    champion = _the_registry_in_the_bucket_serves_it(place)
    _a_canary_gets_its_share_and_is_rolled_back(place, champion)
    _the_registry_is_followed(place, champion)
    _the_monitor_alarms_when_papers_change(place)
    _what_watches_is_there(place)
    _nothing_is_left(place)


def _the_registry_in_the_bucket_serves_it(place: Place) -> str:
    done("registry", "init", "--registry", _REGISTRY)
    promoted(added(exported(place, trained(place))))
    place.cloud("deploy", "service", "--image", "v1")
    (model,) = place.ask(place.papers[:3])
    assert model == "bucket"
    return model


def _a_canary_gets_its_share_and_is_rolled_back(place: Place, champion: str) -> None:
    canary = ("deploy", "service", "--image", "v2", "--model", "fast")
    place.cloud(*canary, "--no-traffic", "--tag", "canary")
    assert place.ask(place.papers[:10]) == {champion: 10}
    place.cloud("canary", "--percent", "30")
    assert place.ask(place.papers[:20]) == {champion: 14, "fast": 6}
    place.cloud("rollback")
    assert place.ask(place.papers[:10]) == {champion: 10}


def _the_registry_is_followed(place: Place, champion: str) -> None:
    promoted(added("fast"))
    until(lambda: "fast" in place.ask(place.papers[:1]), "the new champion answers")
    done("registry", "rollback", "--registry", _REGISTRY)
    until(lambda: champion in place.ask(place.papers[:1]), "the champion before answers")


def _the_monitor_alarms_when_papers_change(place: Place) -> None:
    place.cloud("deploy", "monitor-job", "--image", "v1", "--schedule", "0 6 * * *")
    sent(place, list(sample_papers(SampleConfig(papers=400, seed=12))))
    code, said = looked(place)
    assert code == 0, said
    many = sample_papers(SampleConfig(papers=12_000, seed=13))
    sent(place, [paper for paper in many if paper.category_code == "math.AG"][:400])
    code, said = looked(place)
    assert code == 3, said


def _what_watches_is_there(place: Place) -> None:
    place.cloud("alerts", "--apply", "--rules", _RULES)
    policies = {policy.display_name for policy in place.watch.policies.things.values()}
    assert any("Drift" in name for name in policies), policies
    place.cloud("alerts", "--check", "--rules", _RULES)


def _nothing_is_left(place: Place) -> None:
    assert place.project.bucket.names("registry/")
    place.cloud("destroy", "--yes", "--data")
    assert place.project.bucket.names() == []
    kept = (place.services, place.jobs, place.schedules, place.project.secrets)
    assert [service.kept for service in kept] == [{}] * len(kept)
    assert not place.project.jobs.jobs
    assert set(place.watch.names().values()) == {0}
    assert place.cloud("destroy", "--data", "--dry-run") == ""
