"""Cloud Run whose containers are processes of this machine, behind an address that divides them."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from google.cloud import run_v2
from google_server import Refusal
from serving_service import Jobs, Scheduler, Secrets, Services

_PATIENCE_S = 120
_LOOK_S = 0.05
_HURRY = {"CLASSMARK_SERVE_JOURNAL_COPIES_S": "0.5"}
"""Set for each container: a test need not wait for a minute."""
_RUN = "https://run.googleapis.com/v2/"


class Machine:
    """What is below ``/`` in a container: a folder of its own, with its secrets.

    Args:
        folder: that is new.
        secrets: those of the project.
    """

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        self.folder, self.secrets = folder, secrets

    def environment_of(self, template: Any) -> dict[str, str]:
        """Return the variables of the first container of a template."""
        container = template.containers[0]
        paths = self._write_secrets(template, container)
        found = {}
        for entry in container.env:
            value = entry.value
            if secret := entry.value_source.secret_key_ref.secret:
                value = self._secret(secret).decode()
            for at, local in paths.items():
                value = value.replace(at, local)
            found[entry.name] = value
        return {**os.environ, **found, **_HURRY, "CLASSMARK_HOME": str(self.folder / "home")}

    def _write_secrets(self, template: Any, container: Any) -> dict[str, str]:
        mounts = {mount.name: mount.mount_path for mount in container.volume_mounts}
        paths = {}
        for volume in template.volumes:
            if not volume.secret.secret:
                continue
            folder = self.folder / volume.name
            folder.mkdir(parents=True, exist_ok=True)
            paths[mounts[volume.name]] = str(folder)
            for item in volume.secret.items:
                (folder / item.path).write_bytes(self._secret(volume.secret.secret))
        return paths

    def _secret(self, name: str) -> bytes:
        (values,) = (v for secret, v in self.secrets.values.items() if secret.endswith(f"/{name}"))
        return values[-1]


class Container:
    """The first container of a revision, as a process."""

    def __init__(self, template: Any, machine: Machine) -> None:
        container = template.containers[0]
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        self._probe = container.startup_probe.http_get.path
        machine.folder.mkdir(parents=True, exist_ok=True)
        self.log = machine.folder / "log.txt"
        port = str(container.ports[0].container_port)
        changed = {"0.0.0.0": "127.0.0.1", port: str(self.port)}
        words = [changed.get(word, word) for word in container.args]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "classmark", *words],
                env=machine.environment_of(template), stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def is_ready(self) -> bool:
        """Wait until its start-up probe answers; return whether it does before the process ends."""
        end = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None and time.monotonic() < end:
            if self.ask("GET", self._probe, b"", {})[0] == 200:
                return True
            time.sleep(_LOOK_S)
        return False

    def ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return the status, body and headers of an answer; 503 if it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        except OSError:
            return 503, b"", {}
        finally:
            connection.close()

    def stop(self) -> int:
        """Send SIGTERM, and wait; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_PATIENCE_S)


class Front:
    """The address of a service: requests are divided among revisions as their shares say.

    Attributes:
        shares: percent of the requests, by revision.
        answered: requests by the revision that answered.
    """

    def __init__(self, container_of: Callable[[str], Container]) -> None:
        self.shares: dict[str, int] = {}
        self.answered: Counter[str] = Counter()
        self._container_of = container_of
        self._credit: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def choose(self) -> Container:
        """Return the container that is the furthest behind its share."""
        with self._lock:
            self._credit.update(self.shares)
            revision = max(self.shares, key=lambda name: self._credit[name])
            self._credit[revision] -= 100
            self.answered[revision] += 1
            return self._container_of(revision)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kept = {k: v for k, v in self.headers.items() if k != "Content-Length"}
                code, content, headers = front.choose().ask(self.command, self.path, body, kept)
                self.send_response(code)
                self.send_header("Content-Type", headers.get("content-type", "text/plain"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815 - as http.server calls it

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        return Handler


class RunningServices(Services):
    """Cloud Run: a revision runs while it has requests or a tag.

    Attributes:
        fronts: by the name of the service.
    """

    def __init__(self, folder: Path, secrets: Secrets) -> None:
        super().__init__()
        self.fronts: dict[str, Front] = {}
        self._folder, self._secrets = folder, secrets
        self._templates: dict[str, Any] = {}
        self._running: dict[str, Container] = {}
        self._n_started = 0

    def create_service(self, request: run_v2.CreateServiceRequest, call: Any) -> Any:
        name = f"{request.parent}/services/{request.service_id}"
        self.fronts[name] = Front(self._running.__getitem__)
        return super().create_service(request, call)

    def delete_service(self, request: run_v2.DeleteServiceRequest, call: Any) -> Any:
        service = self._get(request.name)
        self.fronts.pop(request.name).close()
        self._stop({revision for revision in self._templates if _is_of(revision, service)})
        return super().delete_service(request, call)

    def finish(self) -> None:
        """Stop what runs."""
        self._stop(set(self._running))
        for front in self.fronts.values():
            front.close()

    def _done(self, made: Any) -> Any:
        super()._done(made)
        made.uri = self.fronts[made.name].url
        assert self.server is not None
        return self.server.operation(made, made, lambda: self._settled(made))

    def _settled(self, made: Any) -> Any:
        """Start what is missing, then divide the requests, then stop what has none."""
        wanted = {target.revision for target in made.traffic if target.percent or target.tag}
        newest = made.template.revision
        is_new = newest not in self._templates
        self._templates.setdefault(newest, run_v2.RevisionTemplate(made.template))
        for revision in (wanted | {newest} if is_new else wanted) - self._running.keys():
            if (refusal := self._start(revision)) is not None:
                return refusal
        self.fronts[made.name].shares = {t.revision: t.percent for t in made.traffic if t.percent}
        self._stop({r for r in self._running if _is_of(r, made)} - wanted)
        return made

    def _start(self, revision: str) -> Refusal | None:
        self._n_started += 1
        machine = Machine(self._folder / f"{revision}-{self._n_started}", self._secrets)
        container = Container(self._templates[revision], machine)
        if container.is_ready():
            self._running[revision] = container
            return None
        container.stop()
        said = container.log.read_text("utf-8", "replace")
        return Refusal(
            grpc.StatusCode.FAILED_PRECONDITION, f"{revision} did not become ready: {said}"
        )

    def _stop(self, revisions: set[str]) -> None:
        for revision in revisions & self._running.keys():
            assert self._running.pop(revision).stop() == 0


def _is_of(revision: str, service: Any) -> bool:
    name: str = service.name.rpartition("/")[2]
    return revision.rpartition("-")[0] == name


class RunningJobs(Jobs):
    """Jobs of Cloud Run, whose executions are processes of this machine.

    Attributes:
        schedules: that start them.
        executions: exit code and output of each, the oldest first.
    """

    def __init__(self, folder: Path, secrets: Secrets, schedules: Scheduler) -> None:
        super().__init__()
        self.schedules = schedules
        self.executions: list[tuple[int, str]] = []
        self._folder, self._secrets = folder, secrets

    def tick(self) -> None:
        """Let the time come at which every schedule starts its job."""
        for schedule in list(self.schedules.kept.values()):
            name, _, method = schedule.http_target.uri.removeprefix(_RUN).partition(":")
            assert method == "run"
            self.execute(name)

    def execute(self, name: str) -> None:
        """Run a job to its end."""
        template = self._get(name).template.template
        machine = Machine(self._folder / f"execution-{len(self.executions)}", self._secrets)
        done = subprocess.run(
            [sys.executable, "-m", "classmark", *template.containers[0].args],
            env=machine.environment_of(template), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=_PATIENCE_S,
        )  # fmt: skip
        self.executions.append((done.returncode, done.stdout))
