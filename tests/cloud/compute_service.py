"""Compute Engine over HTTP: machines that run the container of their cloud-init."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from google.cloud import compute_v1
from training_service import Container, Log, has_labels

_PATH = re.compile(r"/compute/v1/projects/([^/]+)/(?:zones/([^/]+)|aggregated)/(\w+)(?:/(.*))?")
_STATES = ("PROVISIONING", "STAGING", "RUNNING")


@dataclass
class _Fault:
    method: str
    status: int
    message: str
    times: int
    after: bool


class _Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Machines:
    """The machines of a project.

    Attributes:
        machines: those that exist, by name.
        log: that the lines of containers go to.
        runs: whether containers run; else machines stay until they are deleted.
        preempt_when: asked again and again with the machine: take it away now?
        no_capacity: the zone has no machine left.
        forgets: the IDs of requests are not remembered.
        inserts: machines that were made.
    """

    log: Log = field(default_factory=Log)
    runs: bool = True
    preempt_when: Callable[[compute_v1.Instance], bool] | None = None
    no_capacity: bool = False
    forgets: bool = False
    machines: dict[str, compute_v1.Instance] = field(default_factory=dict)
    inserts: list[compute_v1.Instance] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)
    _requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _operations: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def fail(self, method: str, status: int, *, times: int = 1, after: bool = False) -> None:
        """Let requests of a method (POST, GET ...) fail; ``after``: only their answer is lost."""
        self._faults.append(_Fault(method, status, "as the test asks", times, after))

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve during the block; yields HOST:PORT."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing is logged."""

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = owner.answer(self.command, self.path, body)
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - names of the library

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            self.machines.clear()
            for one in self._threads:
                one.join(timeout=60)
            server.shutdown()
            thread.join()
            server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and content of the answer to a request."""
        address = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        with self._lock:
            fault = next((f for f in self._faults if f.method == method and f.times), None)
            if fault:
                fault.times -= 1
            try:
                content = {} if fault and not fault.after else self._do(
                    method, address.path, query, body
                )  # fmt: skip
            except _Refusal as refusal:
                return refusal.status, _error(refusal.status, refusal.message)
        if fault:
            return fault.status, _error(fault.status, fault.message)
        return 200, content

    def _do(self, method: str, path: str, query: dict[str, str], body: bytes) -> dict[str, Any]:
        found = _PATH.fullmatch(path)
        if found is None:
            raise _Refusal(404, f"no address {path}")
        project, zone, kind, rest = found.groups()
        if kind == "operations":
            return self._operation(rest, query)
        if zone is None:
            return self._all(query["filter"])
        if method == "POST":
            return self._insert(project, zone, query.get("requestId", ""), body)
        if rest not in self.machines:
            raise _Refusal(404, f"The resource '{path}' was not found")
        if method == "DELETE":
            del self.machines[rest]
            return self._done("delete", f"projects/{project}/zones/{zone}/instances/{rest}")
        return self._look(self.machines[rest])

    def _insert(self, project: str, zone: str, request_id: str, body: bytes) -> dict[str, Any]:
        if request_id in self._requests and not self.forgets:
            return self._requests[request_id]
        machine = compute_v1.Instance.from_json(body, ignore_unknown_fields=False)
        if machine.name in self.machines:
            raise _Refusal(409, f"The resource '{machine.name}' already exists")
        container = container_of(machine)
        target = f"projects/{project}/zones/{zone}/instances/{machine.name}"
        operation = self._done("insert", target)
        if self.no_capacity:
            errors = [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "no machine is left"}]
            operation["error"] = {"errors": errors}
            return operation
        machine.status = _STATES[0]
        machine.creation_timestamp = datetime.now(UTC).isoformat()
        self.machines[machine.name] = machine
        self.inserts.append(machine)
        self._requests[request_id] = operation
        if self.runs:
            words = (machine, container, target)
            thread = threading.Thread(target=self._run, args=words, daemon=True)
            self._threads.append(thread)
            thread.start()
        return operation

    def _look(self, machine: compute_v1.Instance) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(compute_v1.Instance.to_json(machine))
        place = _STATES.index(machine.status)
        machine.status = _STATES[min(place + 1, len(_STATES) - 1)]
        return shown

    def _all(self, wanted: str) -> dict[str, Any]:
        scopes: dict[str, Any] = {"zones/nowhere-1-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
        for machine in self.machines.values():
            if has_labels(machine.labels, re.sub(r"[()]", "", wanted)):
                zone = machine.machine_type.partition("/machineTypes")[0]
                inside = scopes.setdefault(zone, {"instances": []})
                inside["instances"].append(json.loads(compute_v1.Instance.to_json(machine)))
        return {"kind": "compute#instanceAggregatedList", "items": scopes}

    def _operation(self, rest: str | None, query: dict[str, str]) -> dict[str, Any]:
        if rest:
            name = rest.removesuffix("/wait")
            return next(one for one in self._operations if one["name"] == name)
        found = re.fullmatch(r'\(operationType="(.*)"\) AND \(targetLink:"(.*)"\)', query["filter"])
        if found is None:
            raise _Refusal(400, f"Invalid value for field 'filter': {query['filter']}")
        kept = [
            one for one in self._operations
            if one["operationType"] == found[1] and found[2] in one["targetLink"]
        ]  # fmt: skip
        return {"items": kept}

    def _done(self, kind: str, target: str) -> dict[str, Any]:
        made = {
            "name": f"operation-{len(self._operations)}",
            "operationType": kind,
            "targetLink": f"https://www.googleapis.com/compute/v1/{target}",
            "status": "DONE",
        }
        self._operations.append(made)
        return made

    def _run(self, machine: compute_v1.Instance, words: list[str], target: str) -> None:
        container = Container(words, lambda line: self._say(machine, line))
        code = container.wait(lambda: self._is_taken(machine))
        if code is None and machine.name in self.machines:
            self._done("compute.instances.preempted", target)
        with self._lock:
            self.machines.pop(machine.name, None)  # it deletes itself, or was taken away

    def _is_taken(self, machine: compute_v1.Instance) -> bool:
        if self.machines.get(machine.name) is not machine:
            return True
        return self.preempt_when is not None and self.preempt_when(machine)

    def _say(self, machine: compute_v1.Instance, line: str) -> None:
        payload = {"message": line, "cos.googleapis.com/container_name": machine.name}
        self.log.add(
            log_name="projects/papers-test-1/logs/cos_containers",
            resource={"type": "gce_instance", "labels": {}},
            json_payload=payload,
        )


def container_of(machine: compute_v1.Instance) -> list[str]:
    """Return the command of the container that a machine's cloud-init runs; it is checked."""
    (startup,) = (item.value for item in machine.metadata.items if item.key == "user-data")
    if not startup.startswith("#cloud-config\n"):
        raise _Refusal(400, "user-data is not a cloud-config")
    files = {one["path"]: one["content"] for one in yaml.safe_load(startup)["write_files"]}
    for path, content in files.items():
        if path.endswith(".sh"):
            subprocess.run(["bash", "-n"], input=content, text=True, check=True)
    unit = files["/etc/systemd/system/classmark-job.service"]
    for line in ("ExecStopPost=/bin/bash /etc/classmark/vanish.sh", "RuntimeMaxSec="):
        if line not in unit:
            raise _Refusal(400, f"the unit has no {line}: the machine would stay for ever")
    words = shlex.split(files["/etc/classmark/job.sh"].rpartition("exec docker run ")[2])
    image = next(place for place, word in enumerate(words) if "docker.pkg.dev" in word)
    return ["classmark", *words[image + 1 :]]


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "errors": [{"message": message}]}}
