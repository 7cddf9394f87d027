"""Removes what carries the labels of the environment; a row of ``KINDS`` for each kind of thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from classmark.cloud.environment import name_of
from classmark.cloud.google import Google, google_errors
from classmark.cloud.serving.manifests import KINDS as DEPLOYED
from classmark.cloud.serving.secrets import is_own, list_secrets
from classmark.cloud.training.compute import Compute
from classmark.cloud.training.vertex import Vertex
from classmark.errors import ClassmarkError, CloudNotFound
from classmark.storage import BucketPath

DATA = ("datasets", "journal", "monitor", "registry", "retrain", "runs")
"""Folders of the bucket in which the environment keeps its data."""


@dataclass(frozen=True)
class Found:
    """A thing of the environment.

    Attributes:
        word: names its kind.
        name: as Google's requests have it.
        remove: removes it.
    """

    word: str
    name: str
    remove: Callable[[], None]


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can be removed.

    Attributes:
        word: names it.
        find: yields the names of those of the environment.
        remove: removes one by its name.
    """

    word: str
    find: Callable[[Google], Iterator[str]]
    remove: Callable[[Google, str], None]

    def found(self, google: Google) -> Iterator[Found]:
        """Yield those of the environment."""
        for name in self.find(google):
            yield Found(self.word, name, partial(self.remove, google, name))


def _schedules(google: Google) -> Iterator[str]:
    """A schedule has no labels: those of the environment are known by their names."""
    from google.cloud import scheduler_v1

    own = {f"{google.environment.parent}/jobs/{name_of(k)}" for k in DEPLOYED}
    client = google.client(scheduler_v1.CloudSchedulerClient)
    for job in client.list_jobs(parent=google.environment.parent):
        if job.name in own:
            yield job.name


def _remove_schedule(google: Google, name: str) -> None:
    from google.cloud import scheduler_v1

    google.client(scheduler_v1.CloudSchedulerClient).delete_job(name=name)


def _services(google: Google) -> Iterator[str]:
    from google.cloud import run_v2

    found = google.client(run_v2.ServicesClient).list_services(parent=google.environment.parent)
    yield from (service.name for service in found if is_own(google, service))


def _remove_service(google: Google, name: str) -> None:
    from google.cloud import run_v2

    google.client(run_v2.ServicesClient).delete_service(name=name).result(timeout=300)


def _jobs(google: Google) -> Iterator[str]:
    from google.cloud import run_v2

    found = google.client(run_v2.JobsClient).list_jobs(parent=google.environment.parent)
    yield from (job.name for job in found if is_own(google, job))


def _remove_job(google: Google, name: str) -> None:
    from google.cloud import run_v2

    google.client(run_v2.JobsClient).delete_job(name=name).result(timeout=300)


def _secrets(google: Google) -> Iterator[str]:
    yield from (secret.name for secret in list_secrets(google))


def _remove_secret(google: Google, name: str) -> None:
    from google.cloud import secretmanager_v1

    google.client(secretmanager_v1.SecretManagerServiceClient).delete_secret(name=name)


def _training(google: Google) -> Iterator[str]:
    yield from (state.path for state in Vertex(google).jobs())


def _remove_training(google: Google, name: str) -> None:
    Vertex(google).remove(name)


def _machines(google: Google) -> Iterator[str]:
    yield from (state.path for state in Compute(google).jobs())


def _remove_machine(google: Google, name: str) -> None:
    Compute(google).remove(name)


KINDS = [
    Kind("training", _training, _remove_training),
    Kind("machine", _machines, _remove_machine),
    Kind("schedule", _schedules, _remove_schedule),
    Kind("service", _services, _remove_service),
    Kind("job", _jobs, _remove_job),
    Kind("secret", _secrets, _remove_secret),
]


def find_all(google: Google) -> list[Found]:
    """Return everything of the environment, in the order in which it is removed."""
    with google_errors("listing what is deployed", role="roles/viewer"):
        deployed = [found for kind in KINDS for found in kind.found(google)]
    return [*deployed, *watching(google)]


def find_data(google: Google) -> list[Found]:
    """Return the folders of the bucket that have data of the environment; none without a bucket.

    Raises:
        StorageFailed: the bucket does not answer, or a role is missing.
    """
    folders = [BucketPath(google.environment.bucket, name) for name in DATA]
    try:
        kept = [folder for folder in folders if folder.is_dir()]
    except CloudNotFound:
        return []
    return [Found("data", str(folder), folder.clear) for folder in kept]


def watching(google: Google) -> Iterator[Found]:
    """Yield what watches; what names others comes first."""
    from classmark.cloud.watch.kinds import kinds_of

    for kind in reversed(kinds_of(google)):
        for thing in kind.found():
            yield Found("watch", str(thing.name), partial(kind.removed, thing))


def remove_all(found: list[Found]) -> list[tuple[str, ClassmarkError]]:
    """Remove everything that was found; returns what is left, each with the reason."""
    left: list[tuple[str, ClassmarkError]] = []
    for thing in found:
        try:
            with google_errors(f"removing the {thing.word} {thing.name}", role="roles/run.admin"):
                thing.remove()
        except CloudNotFound:
            continue  # somebody else has removed it
        except ClassmarkError as error:
            left.append((thing.name, error))
    return left
