"""A bucket on this machine: gcp-storage-emulator, with what it lacks.

Versions have generations that writes can depend on, one can be asked for, older ones are kept where
a test wants it, connections are served at the same time, and requests can be refused, dropped or
held by a test.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

NAME = "papers"


class PreconditionFailed(Exception):
    """The generation is another one than a request depends on."""


class VersionedStorage(Storage):  # type: ignore[misc]
    """The storage of the emulator, whose writes may depend on a generation."""

    def __init__(self) -> None:
        super().__init__(use_memory_fs=True)
        self.wanted: str | None = None
        self._uploads: dict[str, str | None] = {}
        self._latest = 0
        self.versioned = False
        self._versions: dict[tuple[str, str, str], tuple[Any, bytes]] = {}

    def create_file(
        self, bucket: str, name: str, content: Any, obj: Any, file_id: str | None = None
    ) -> None:
        """Write an object, as a new version."""
        self._check(bucket, name, self._uploads.pop(file_id, None) if file_id else self.wanted)
        self._latest = max(self._latest + 1, int(obj["generation"]))
        obj["mediaLink"] = obj["mediaLink"].replace(obj["generation"], str(self._latest))
        obj["generation"] = str(self._latest)
        if self.versioned:
            self._versions[bucket, name, obj["generation"]] = dict(obj), content or b""
        super().create_file(bucket, name, content or b"", obj, file_id)

    def create_resumable_upload(self, bucket: str, name: str, obj: Any) -> str:
        """Begin an upload, which depends on what its first request says."""
        made = str(super().create_resumable_upload(bucket, name, obj))
        self._uploads[made] = self.wanted
        return made

    def delete_file(self, bucket: str, name: str) -> None:
        """Delete an object."""
        self._check(bucket, name, self.wanted)
        super().delete_file(bucket, name)

    @contextmanager
    def of_version(self, bucket: str, name: str, generation: str) -> Iterator[None]:
        """Hold a version of an object, instead of the newest one, for the block.

        Raises:
            NotFound: there is no such version.
        """
        if generation == self.generation(bucket, name):
            yield
            return
        try:
            version = self._versions[bucket, name, generation]
        except KeyError:
            raise NotFound from None
        objects = self.objects.setdefault(bucket, {})
        now = (objects[name], self.get_file(bucket, name)) if name in objects else None
        self._put(bucket, name, version)
        try:
            yield
        finally:
            self._put(bucket, name, now)

    def _put(self, bucket: str, name: str, version: tuple[Any, bytes] | None) -> None:
        if version is None:
            super().delete_file(bucket, name)
            return
        super().create_file(bucket, name, version[1], version[0])

    def generation(self, bucket: str, name: str) -> str:
        """Return the generation of an object, 0 for none."""
        try:
            return str(self.get_file_obj(bucket, name)["generation"])
        except NotFound:
            return "0"

    def _check(self, bucket: str, name: str, wanted: str | None) -> None:
        if wanted is not None and self.generation(bucket, name) != wanted:
            raise PreconditionFailed


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        method, pattern: of the requests: GET, POST ..., and a regular expression for the address
            or the body.
        status: they are answered with; 0 for a connection that is closed without an answer.
        times: how many of them.
        after: do what the request asks first: only its answer is lost.
        skip: so many of them pass first.
        arrived: set when one has arrived.
        released: it goes on when this is set.
        done: set when it has been answered, or nobody was there for the answer.
    """

    method: str
    pattern: str
    status: int = 503
    times: int = 1
    after: bool = False
    skip: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class BucketServer:
    """The server.

    Attributes:
        storage: what it holds; with ``versioned`` it keeps older versions.
        requests: (method, address) of every request, the oldest first.
        address: of it, as STORAGE_EMULATOR_HOST has it.
        location: of the bucket.
    """

    storage: VersionedStorage = field(default_factory=VersionedStorage)
    requests: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""
    location: str = "EUROPE-WEST4"
    lock: threading.RLock = field(default_factory=threading.RLock)
    _faults: list[Fault] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """Variables by which clients find it."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "FSSPEC_GS_TOKEN": "anon",
        }

    def fail(self, method: str, pattern: str, status: int = 503, **more: Any) -> Fault:
        """Let the next requests that fit fail; arguments as ``Fault`` has them."""
        fault = Fault(method, pattern, status, **more)
        fault.released.set()
        self._faults.append(fault)
        return fault

    def hold(self, method: str, pattern: str, **more: Any) -> Fault:
        """Hold the next request that fits until it is released; then it is answered."""
        fault = Fault(method, pattern, status=-1, **more)
        self._faults.append(fault)
        return fault

    def move(self, *places: str) -> None:
        """Let the bucket be elsewhere: in a location, and the regions of it if they are several."""
        found = self.storage.buckets[NAME]
        found["location"] = places[0]
        found["customPlacementConfig"] = {"dataLocations": list(places[1:])}

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of the objects."""
        with self.lock:
            found = self.storage.objects.get(NAME, {})
            return sorted(name for name in found if name.startswith(prefix))

    def content(self, name: str) -> bytes:
        """Return the content of an object."""
        with self.lock:
            return bytes(self.storage.get_file(NAME, name))

    def fault_for(self, method: str, address: str, body: bytes) -> Fault | None:
        """Return what is to happen to a request."""
        with self.lock:
            self.requests.append((method, address))
            for fault in self._faults:
                text = unquote(address).encode() + b"\n" + body
                if not fault.times or fault.method != method:
                    continue
                if not re.search(fault.pattern.encode(), text):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    @contextmanager
    def running(self) -> Iterator[BucketServer]:
        """Serve during the block."""
        buckets.create_bucket(NAME, self.storage)
        self.move(self.location)
        server = _Quiet(("127.0.0.1", 0), partial(_Handler, self.storage, owner=self))
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            for fault in self._faults:
                fault.released.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or was killed, is part of the tests."""


class _Handler(RequestHandler):  # type: ignore[misc]
    def __init__(self, *args: Any, owner: BucketServer) -> None:
        self._owner = owner
        super().__init__(*args)

    def __getattribute__(self, name: str) -> Any:
        """Return what answers a method of HTTP: all of them go one way."""
        if name.startswith("do_"):
            return partial(self._answer, name.removeprefix("do_"))
        return super().__getattribute__(name)

    def _answer(self, method: str) -> None:
        n_bytes = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(n_bytes) if n_bytes else b""
        if len(body) < n_bytes:
            return  # the client was killed in the middle of it
        fault = self._owner.fault_for(method, self.path, body)
        if fault is not None:
            fault.arrived.set()
            fault.released.wait()
        try:
            if fault is not None and fault.status >= 0:
                self._fail(fault, method, body)
            else:
                self._do(method, body)
        finally:
            if fault is not None:
                fault.done.set()

    def _fail(self, fault: Fault, method: str, body: bytes) -> None:
        if fault.after:
            real: Any = vars(self)["wfile"]
            self.wfile = io.BytesIO()
            self._do(method, body)
            self.wfile = real
        if fault.status:
            self._refuse(fault.status, "as the test asks")
        else:
            self.close_connection = True

    def _do(self, method: str, body: bytes) -> None:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            self.rfile = io.BytesIO(body)
        query = parse_qs(urlparse(self.path).query)
        with self._owner.lock:
            self.storage.wanted = query.get("ifGenerationMatch", [None])[0]
            bucket, name = self._asked()
            if bucket is not None and bucket not in self.storage.buckets:
                self._refuse(404, "The specified bucket does not exist.")
                return
            wanted = query.get("generation", [None])[0] if method == "GET" and name else None
            version = (
                self.storage.of_version(str(bucket), name, wanted) if wanted else nullcontext()
            )
            try:
                with version:
                    getattr(RequestHandler, f"do_{method}")(self)
            except NotFound:
                self._refuse(404, f"No such object: {bucket}/{name}")
            except PreconditionFailed:
                self._refuse(412, "At least one of the pre-conditions you specified did not hold.")

    def _asked(self) -> tuple[str | None, str]:
        """Return the bucket and the object that the address names."""
        found = re.search(r"/b/([^/?]+)(?:/o/([^/?]+))?", self.path)
        return (unquote(found[1]), unquote(found[2] or "")) if found else (None, "")

    def _refuse(self, status: int, message: str) -> None:
        content = json.dumps({"error": {"code": status, "message": message}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
