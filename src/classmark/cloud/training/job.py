"""A training job as it is asked for, and how far one is."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Protocol

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.templates import filled_template
from classmark.errors import UsageError

ENGINES, MACHINES = ("vertex", "compute"), ("cpu", "gpu")
JOB_LABEL = "job"
"""Label of a job with its name, by which it is found when the answer to its creation was lost."""
LONGEST_HOURS = 168.0
MOUNT = "/gcs/"
"""Where a job of Vertex AI finds the buckets."""
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PREEMPTED")
_OWN_KEYS = ("dataset.path", "runs_dir", "resume")
_ADDRESS = re.compile(r"gs://[a-z0-9][a-z0-9._-]+/[^\s]+")
_NAME = re.compile(rf"({'|'.join(ENGINES)})-\d{{8}}-\d{{6}}-[0-9a-f]{{4}}")
_WANDB_KEY = "wandb-key"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is submitted.

    Attributes:
        name: of the job and of its run folder in the bucket.
        machine: one of ``MACHINES``.
        is_spot: on machines that may be taken away, and cost less.
        image: address with a digest.
        dataset: ``gs://`` address of the folder.
        hours: after which it is ended.
        overrides: what `classmark train` is given.
        zone: in which a machine of Compute Engine is made.
    """

    name: str
    machine: str
    is_spot: bool
    image: str
    dataset: str
    hours: float
    overrides: tuple[str, ...]
    zone: str = ""

    def __post_init__(self) -> None:
        if self.machine not in MACHINES:
            raise UsageError(f"--machine {self.machine!r} is unknown. Give cpu or gpu.")
        if not 0 < self.hours <= LONGEST_HOURS:
            raise UsageError(f"--timeout {self.hours} is not above 0 and up to {LONGEST_HOURS:g}.")
        if not _ADDRESS.fullmatch(self.dataset):
            raise UsageError(f"--dataset {self.dataset!r} is not gs://BUCKET/FOLDER or a name.")
        for word in self.overrides:
            if word.partition("=")[0] in _OWN_KEYS:
                raise UsageError(f"{word}: the job sets this key itself. Leave it out.")

    @property
    def engine(self) -> str:
        """Which of ``ENGINES`` runs it."""
        return engine_of(self.name)

    @property
    def seconds(self) -> int:
        """After which it is ended."""
        return max(1, round(self.hours * 3600))

    @property
    def has_wandb(self) -> bool:
        """Whether its run is tracked at Weights & Biases."""
        return any(w.startswith("tracker") and "wandb" in w for w in self.overrides)

    def labels(self, environment: CloudEnvironment) -> dict[str, str]:
        """Return the labels of what is made for it."""
        return {**environment.labels, JOB_LABEL: self.name, "machine": self.machine}

    def arguments(self, environment: CloudEnvironment) -> list[str]:
        """Return the arguments of the image's command, the same at each start of the job.

        Vertex AI mounts buckets; a machine of Compute Engine does not. A secret is named, and the
        job reads its value itself: no request and no list of jobs shows it.
        """
        places = [self.dataset, run_place(environment, self.name)]
        if self.engine == "vertex":
            places = [MOUNT + place.removeprefix("gs://") for place in places]
        words = ["cloud", "work", "--dataset", places[0], "--run", places[1]]
        if self.has_wandb:
            words += ["--secret", f"WANDB_API_KEY={wandb_secret(environment)}/versions/latest"]
        return [*words, "--", *self.overrides]


def new_name(engine: str) -> str:
    """Return a name for a job that no other one has.

    Raises:
        UsageError: the engine is unknown.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is unknown. Give vertex or compute.")
    return f"{engine}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def engine_of(name: str) -> str:
    """Return which engine runs the job of a name.

    Raises:
        UsageError: no job has such a name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(f"{name!r} is not the name of a job. `classmark cloud jobs` lists them.")
    return found[1]


def run_place(environment: CloudEnvironment, name: str) -> str:
    """Return the address of the folder of a job's runs."""
    return environment.address("runs", name)


def wandb_secret(environment: CloudEnvironment) -> str:
    """Return the name of the secret that holds the key of Weights & Biases."""
    return f"projects/{environment.project}/secrets/{environment.secret(_WANDB_KEY)}"


def read_request(file: str, values: dict[str, Any]) -> Any:  # noqa: ANN401 - YAML has any type
    """Return a request of the package, filled in."""
    return filled_template(files("classmark.cloud.training") / "requests" / file, values)


def message_text(message: Any) -> str:  # noqa: ANN401 - a message of Google's
    """Return a message as JSON, without the fields that are not set."""
    kind: Any = type(message)
    return str(
        kind.to_json(
            message, use_integers_for_enums=False, always_print_fields_with_no_presence=False
        )
    )


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A job as its engine shows it.

    Attributes:
        name: of the job.
        state: ``QUEUED``, ``PENDING``, ``RUNNING``, or one of ``ENDED``, among others.
        path: name for the engine's own requests, "" if nothing is there any more.
        created: when, as RFC 3339.
        message: why it failed, "" if it did not.
    """

    name: str
    state: str
    path: str
    created: str
    message: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED


class Engine(Protocol):
    """Who runs jobs."""

    def request_text(self, job: Job) -> str:
        """Return the exact request that submits a job, as JSON; nothing is sent."""

    def submit(self, job: Job) -> JobState:
        """Submit a job once, although the answer may be lost and the request repeated.

        Raises:
            CloudRefused: a permission, the quota, or an argument.
            CloudFailed: Google does not answer.
        """

    def find(self, name: str) -> JobState:
        """Return a job.

        Raises:
            CloudNotFound: there is none of that name.
        """

    def refresh(self, state: JobState) -> JobState:
        """Return a job as it is now."""

    def jobs(self) -> list[JobState]:
        """Return the jobs of the environment, the newest first."""

    def cancel(self, state: JobState) -> None:
        """End a job; its run folder stays."""

    def log_filter(self, state: JobState) -> str:
        """Return the filter of Cloud Logging that gives a job's lines."""
