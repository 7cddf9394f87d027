"""Vertex AI and Cloud Logging: jobs whose command runs as a process of this machine."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.cloud import aiplatform_v1 as vertex
from google.cloud.logging_v2.types import ListLogEntriesResponse, LogEntry
from google.protobuf import empty_pb2
from google_server import Call, GoogleServer, Refusal

from classmark.storage import BucketPath

CODE = grpc.StatusCode
STATE = vertex.JobState
RUNNING, ENDED = STATE.JOB_STATE_RUNNING, (
    STATE.JOB_STATE_SUCCEEDED, STATE.JOB_STATE_FAILED, STATE.JOB_STATE_CANCELLED,
)  # fmt: skip
_TERM = re.compile(r'([\w.]+(?:\."[^"]+")?)(=|:|>=)("[^"]*"|[^\s"]+)')
_STEP_S = 0.02
_GCS = "/gcs/"


def terms(text: str) -> list[tuple[str, str, str]]:
    """Return the conditions of a filter, all of which must hold; others than these are refused."""
    found = []
    for part in text.split(" AND "):
        match = _TERM.fullmatch(part)
        if match is None:
            raise Refusal(CODE.INVALID_ARGUMENT, f"the filter has {part!r}")
        found.append((match[1], match[2], match[3].strip('"')))
    return found


def has_labels(labels: Any, text: str) -> bool:
    """Return whether labels fit a filter such as ``labels.app=classmark AND labels.job:*``."""
    for field, how, value in terms(text):
        name = field.removeprefix("labels.")
        if name == field:
            raise Refusal(CODE.INVALID_ARGUMENT, f"the filter has {field!r}")
        if (name not in labels) if (how, value) == (":", "*") else labels.get(name) != value:
            return False
    return True


class Log:
    """Cloud Logging.

    Attributes:
        entries: what was written.
        page_size: the largest page.
    """

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.page_size = 3
        self.server: GoogleServer | None = None

    def add(self, **fields: Any) -> None:
        """Write an entry."""
        number, now = len(self.entries), datetime.now(UTC)
        self.entries.append(LogEntry(insert_id=f"line-{number}", timestamp=now, **fields))

    def list_log_entries(self, request: Any, _: Call) -> ListLogEntriesResponse:
        if request.order_by != "timestamp asc":
            raise Refusal(CODE.INVALID_ARGUMENT, f"order_by {request.order_by!r}")
        found = [entry for entry in list(self.entries) if self._fits(entry, request.filter)]
        start = int(request.page_token or 0)
        end = start + min(request.page_size, self.page_size)
        more = str(end) if end < len(found) else ""
        return ListLogEntriesResponse(entries=found[start:end], next_page_token=more)

    def _fits(self, entry: LogEntry, text: str) -> bool:
        values = {
            "resource.type": entry.resource.type,
            "logName": entry.log_name,
            **{f"resource.labels.{key}": value for key, value in entry.resource.labels.items()},
            **{f'jsonPayload."{key}"': value for key, value in (entry.json_payload or {}).items()},
        }
        for field, how, value in terms(text):
            if field == "timestamp" and how == ">=":
                if entry.timestamp < datetime.fromisoformat(value):
                    return False
            elif how != "=" or values.get(field) != value:
                return False
        return True


class Mount:
    """Buckets below a folder, as Vertex AI mounts them below ``/gcs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    def pull(self, bucket: str) -> None:
        """Copy a bucket to the folder."""
        with self._lock:
            for version in BucketPath(bucket).below():
                target = self.folder / bucket / version.key
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(BucketPath(bucket, version.key).read_bytes())

    def push(self, bucket: str) -> None:
        """Make the bucket as the folder is; a file that was not closed is not in the bucket."""
        with self._lock:
            files = {
                path.relative_to(self.folder / bucket).as_posix(): path
                for path in (self.folder / bucket).rglob("*")
                if path.is_file() and not path.name.endswith(".part")
            }
            there = {version.key for version in BucketPath(bucket).below()}
            for name, path in files.items():
                (BucketPath(bucket) / name).write(path)
            for name in there - files.keys():
                (BucketPath(bucket) / name).unlink()


class Container:
    """The command of an image, as a process of this machine whose lines are passed on."""

    def __init__(self, words: list[str], say: Callable[[str], None]) -> None:
        self._say = say
        self._process = subprocess.Popen(
            [sys.executable, "-m", *_hurried(words)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def wait(self, is_taken: Callable[[], bool]) -> int | None:
        """Return its exit code, None if the machine was taken away first."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            while True:
                try:
                    return self._process.wait(timeout=_STEP_S)
                except subprocess.TimeoutExpired:
                    if is_taken():
                        self.kill()
                        self._process.wait()
                        return None
        finally:
            reader.join(timeout=10)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def kill(self) -> None:
        """Kill it, with the processes that it has started."""
        os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._say(line.rstrip("\n"))


def _hurried(words: list[str]) -> list[str]:
    """Return the words of a command; ``cloud work`` copies more often than every 15 seconds."""
    if words[1:3] == ["cloud", "work"]:
        return [*words[:3], "--every", "0.1", *words[3:]]
    return words


class TrainingJobs:
    """Vertex AI: jobs go on when they are looked at.

    Attributes:
        jobs: by name.
        log: that their lines go to.
        mount: what they find below ``/gcs``; their command does not run without it.
        looks: at each state before RUNNING: a slow start.
        preempt_at: pattern of a file of the mount; when it is there, the machine is taken away,
            once.
        starts: commands that were started, by job.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, vertex.CustomJob] = {}
        self.log = Log()
        self.mount: Mount | None = None
        self.looks = 1
        self.preempt_at = ""
        self.starts: dict[str, list[list[str]]] = {}
        self.server: GoogleServer | None = None
        self._looked: dict[str, int] = {}
        self._cancelled: set[str] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []

    def create_custom_job(self, request: vertex.CreateCustomJobRequest, _: Call) -> Any:
        job = vertex.CustomJob(request.custom_job)
        job.name = f"{request.parent}/customJobs/{next(self._numbers)}"
        job.state, job.create_time = STATE.JOB_STATE_QUEUED, datetime.now(UTC)
        self.jobs[job.name] = job
        return job

    def get_custom_job(self, request: vertex.GetCustomJobRequest, _: Call) -> Any:
        with self._lock:
            job = self._get(request.name)
            self._advance(job)
            return vertex.CustomJob(job)

    def list_custom_jobs(self, request: vertex.ListCustomJobsRequest, _: Call) -> Any:
        found = [job for job in self.jobs.values() if has_labels(job.labels, request.filter)]
        return vertex.ListCustomJobsResponse(custom_jobs=found)

    def cancel_custom_job(self, request: vertex.CancelCustomJobRequest, _: Call) -> Any:
        with self._lock:
            job = self._get(request.name)
            self._cancelled.add(job.name)
            if job.state not in ENDED:
                running = job.state == RUNNING
                job.state = STATE.JOB_STATE_CANCELLING if running else STATE.JOB_STATE_CANCELLED
        return empty_pb2.Empty()

    def delete_custom_job(self, request: vertex.DeleteCustomJobRequest, _: Call) -> Any:
        assert self.server is not None
        del self.jobs[self._get(request.name).name]
        return self.server.operation(empty_pb2.Empty(), empty_pb2.Empty())

    def finish(self) -> None:
        """Cancel what runs and wait for it."""
        self._cancelled |= self.jobs.keys()
        for thread in self._threads:
            thread.join(timeout=60)

    def _get(self, name: str) -> vertex.CustomJob:
        if name not in self.jobs:
            raise Refusal(CODE.NOT_FOUND, f"{name} does not exist")
        return self.jobs[name]

    def _advance(self, job: vertex.CustomJob) -> None:
        self._looked[job.name] = self._looked.get(job.name, 0) + 1
        if self._looked[job.name] <= self.looks:
            return
        self._looked[job.name] = 0
        if job.state == STATE.JOB_STATE_QUEUED:
            job.state = STATE.JOB_STATE_PENDING
        elif job.state == STATE.JOB_STATE_PENDING:
            job.state = RUNNING
            thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, job: vertex.CustomJob) -> None:
        if self.mount is None:
            self._end(job, 0)
            return
        spec = job.job_spec.worker_pool_specs[0].container_spec
        words = [*spec.command, *spec.args]
        self.starts.setdefault(job.name, []).append(words)
        buckets = {word.split("/")[2] for word in words if word.startswith(_GCS)}
        for bucket in buckets:
            self.mount.pull(bucket)
        at = f"{self.mount.folder}/"
        local = [at + word.removeprefix(_GCS) if word.startswith(_GCS) else word for word in words]
        container = Container(local, lambda line: self._say(job, line))
        code = container.wait(lambda: self._is_taken(job))
        for bucket in buckets:
            self.mount.push(bucket)
        self._end(job, code)

    def _say(self, job: vertex.CustomJob, line: str) -> None:
        resource = {"type": "ml_job", "labels": {"job_id": job.name.rpartition("/")[2]}}
        self.log.add(resource=resource, json_payload={"message": line})

    def _is_taken(self, job: vertex.CustomJob) -> bool:
        if job.name in self._cancelled:
            return True
        assert self.mount is not None
        if self.preempt_at and any(self.mount.folder.glob(self.preempt_at)):
            self.preempt_at = ""
            return True
        return False

    def _end(self, job: vertex.CustomJob, code: int | None) -> None:
        with self._lock:
            if job.name in self._cancelled:
                job.state = STATE.JOB_STATE_CANCELLED
            elif code is None:
                job.state = STATE.JOB_STATE_PENDING  # Vertex AI starts it again
                self._looked[job.name] = 0
            elif code:
                job.state = STATE.JOB_STATE_FAILED
                job.error.message = f"The replica workerpool0-0 exited with status {code}."
            else:
                job.state = STATE.JOB_STATE_SUCCEEDED
