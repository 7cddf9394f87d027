"""What runs inside a job: it copies the dataset, fits, and keeps the run folder in the bucket.

Files are fitted on a disk of the machine, because a mounted bucket renames no folders and has no
locks, and copied to the bucket while the fit goes on. A job that is started again finds them there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from classmark.cloud.training.job import MOUNT
from classmark.cloud.training.places import EXIT_FILE, Place, place_of
from classmark.errors import ClassmarkError, UsageError
from classmark.records import RunRecord, RunStart
from classmark.storage import LOCK_FILE, remove

_GRACE_S = 20.0
"""From SIGTERM to SIGKILL: of the 30 seconds that a machine has when it is taken away."""
_RECORDS = ("state.json", RunStart.FILE, RunRecord.FILE)
"""Files that say that what is beside them is complete: they are copied last."""
_TRIES = 5
_SIGNALLED = 128


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a job does.

    Attributes:
        dataset: folder of the dataset, a path or an address.
        run: folder of the job's runs.
        overrides: what `classmark train` is given.
        secrets: variable of the environment -> version of a secret that it is read from.
        every_s: between two copies to the bucket.
        say: shows a line.
    """

    dataset: str
    run: str
    overrides: Sequence[str]
    secrets: dict[str, str]
    every_s: float
    say: Callable[[str], None]


def do_work(work: Work) -> int:
    """Return the exit code of `classmark train`; 128 and more if a signal ended it.

    Raises:
        CloudNotFound: the secret or the dataset is not there.
        CloudRefused: the account lacks a role.
    """
    environment = {**os.environ, **{name: read_secret(at) for name, at in work.secrets.items()}}
    place = place_of(reachable(work.run))
    place.remove(EXIT_FILE)
    with TemporaryDirectory(prefix="classmark-job-") as scratch:
        home = Path(scratch)
        name = work.dataset.rstrip("/").rpartition("/")[2]
        work.say(f"copying {work.dataset} ...")
        copy_folder(place_of(reachable(work.dataset)), home / "datasets" / name)
        mirror = Mirror(home / "runs", place)
        mirror.restore()
        command = [sys.executable, "-m", "classmark", "train", "--once", *work.overrides]
        command += [f"dataset.path=datasets/{name}", "runs_dir=runs"]
        fit = Fit(command, environment, home)
        code = fit.watch(mirror, work)
        mirror.push_last(work.say)
        if not fit.was_stopped:  # else it resumes, or its time was over
            (home / EXIT_FILE).write_text(f"{code}\n", encoding="utf-8")
            place.put(home / EXIT_FILE, EXIT_FILE)
    return code


def reachable(place: str) -> str:
    """Return a path below ``/gcs``, or its address if this user may not write to that bucket.

    The mount belongs to the platform; the image's command does not run as root.
    """
    if not place.startswith(MOUNT):
        return place
    bucket = place.removeprefix(MOUNT).partition("/")[0]
    may_write = os.access(MOUNT + bucket, os.R_OK | os.W_OK | os.X_OK)
    return place if may_write else "gs://" + place.removeprefix(MOUNT)


def parse_secrets(words: Sequence[str]) -> dict[str, str]:
    """Return variables and the versions of secrets, from ``NAME=projects/...``.

    Raises:
        UsageError: a word has another form.
    """
    found = {}
    for word in words:
        name, _, version = word.partition("=")
        if not name or not version.startswith("projects/"):
            raise UsageError(f"--secret {word!r} is not NAME=projects/.../versions/latest.")
        found[name] = version
    return found


def read_secret(version: str) -> str:
    """Return the value of a version of a secret.

    Raises:
        CloudNotFound: it is not there.
        CloudRefused: the account may not read it.
    """
    from google.cloud import secretmanager_v1

    from classmark.cloud.google import GoogleClients, google_errors

    client = GoogleClients().client(secretmanager_v1.SecretManagerServiceClient)
    with google_errors(f"reading the secret {version}", role="roles/secretmanager.secretAccessor"):
        found = client.access_secret_version(name=version)
    return str(found.payload.data.decode().strip())


def copy_folder(place: Place, target: Path) -> None:
    """Copy all files of a place to this machine."""
    for name in place.names():
        place.fetch(name, target / name)


class Mirror:
    """Keeps a place as a folder of this machine is.

    Args:
        folder: the folder.
        place: what it is copied to.
    """

    def __init__(self, folder: Path, place: Place) -> None:
        self._folder, self._place = folder, place
        self._known: dict[str, tuple[int, int]] = {}

    def restore(self) -> None:
        """Copy the place here; what was only begun to be copied there is dropped."""
        for name in self._place.names():
            if name != EXIT_FILE:
                self._place.fetch(name, self._folder / name)
                self._known[name] = _mark(self._folder / name)
        for run in self._folder.glob("*"):
            if not any((run / record.FILE).is_file() for record in (RunStart, RunRecord)):
                remove(run)

    def push(self) -> None:
        """Copy what is new or changed, then delete what has gone.

        Raises:
            OSError, ClassmarkError: the place cannot be written; what is left comes next time.
        """
        found = self._found()
        for name in sorted(found, key=lambda name: (Path(name).name in _RECORDS, name)):
            if self._known.get(name) != found[name]:
                with suppress(FileNotFoundError):  # it has just gone
                    self._place.put(self._folder / name, name)
                    self._known[name] = found[name]
        for name in sorted(self._known.keys() - found.keys()):
            self._place.remove(name)
            del self._known[name]

    def push_last(self, say: Callable[[str], None], tries: int = _TRIES) -> None:
        """Copy what is new or changed, more than once if that fails.

        Args:
            say: shows a line for each failure but the last.
            tries: after which the error is raised.

        Raises:
            OSError, ClassmarkError: the place cannot be written.
        """
        for attempt in range(1, tries + 1):
            try:
                return self.push()
            except (OSError, ClassmarkError) as error:
                if attempt == tries:
                    raise
                say(f"warning: copying the run failed, and is tried again: {error}")
                time.sleep(attempt)
        return None

    def _found(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._folder.rglob("*"):
            inside = path.relative_to(self._folder)
            if path.name == LOCK_FILE or any(part.startswith(".") for part in inside.parts):
                continue
            with suppress(FileNotFoundError):
                if path.is_file():
                    found[inside.as_posix()] = _mark(path)
        return found


class Fit:
    """The process that fits; SIGTERM of this one makes it write a last checkpoint.

    Args:
        command: that fits.
        environment: variables of it.
        home: folder that it works in.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], home: Path) -> None:
        self._child = subprocess.Popen(command, env=environment, cwd=home)
        self._kill_at = 0.0

    @property
    def was_stopped(self) -> bool:
        """Whether SIGTERM has asked for its end."""
        return self._kill_at > 0

    def watch(self, mirror: Mirror, work: Work) -> int:
        """Return the exit code; copies to the bucket meanwhile."""
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            return self._wait(mirror, work)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _wait(self, mirror: Mirror, work: Work) -> int:
        while True:
            try:
                code = self._child.wait(timeout=work.every_s)
            except subprocess.TimeoutExpired:
                if self._kill_at and time.monotonic() > self._kill_at:
                    self._child.kill()
            else:
                return code if code >= 0 else _SIGNALLED - code
            try:
                mirror.push()
            except (OSError, ClassmarkError) as error:
                work.say(f"warning: copying to {work.run} failed, and is tried again: {error}")

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._kill_at = self._kill_at or time.monotonic() + _GRACE_S
        self._child.send_signal(signal.SIGINT)


def _mark(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
