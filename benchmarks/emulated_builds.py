"""Builds for Google Cloud on this machine, a registry that takes the images, and pages of both.

A build is the step `service` of deploy/gcp/cloudbuild.yaml, run by the container engine of this
machine in a checkout of a commit. The registry speaks what a push uses of Docker's protocol. Needs
an engine, or root and Debian's dockerd.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import yaml

from emulated_bucket import table_page
from report import ROOT

sys.path.insert(0, str(ROOT / "deploy" / "docker"))
from images import Engine, NoEngine, engine, ensure_base

__all__ = ["NoEngine", "digest_of", "emulated_registry", "images_pages"]
REPOSITORY, STEP = "classmark", "service"  # the step builds the image of its name
BUILDS = 3
_DIGEST_SHOWN = len("sha256:") + 12


@dataclass(frozen=True)
class Registry:
    """A registry that is running.

    Attributes:
        address: HOST:PORT.
        manifests: those that were pushed, by NAME/manifests/TAG.
        blobs: digest -> bytes of each layer or configuration.
    """

    address: str
    manifests: dict[str, bytes]
    blobs: dict[str, int]


class _Protocol(BaseHTTPRequestHandler):
    """The part of the registry protocol that a push uses; what arrives is kept by its digest."""

    protocol_version = "HTTP/1.1"
    blobs: dict[str, int]
    manifests: dict[str, bytes]
    uploads: dict[str, bytes]

    def do_GET(self) -> None:
        """Say that the protocol is spoken here."""
        self._answer(200)

    def do_HEAD(self) -> None:
        """Say whether a layer is there."""
        digest = self.path.rpartition("/")[2]
        found = digest in self.blobs and "/blobs/" in self.path
        self._answer(200 if found else 404, **{"Content-Length": str(self.blobs.get(digest, 0))})

    def do_POST(self) -> None:
        """Begin an upload."""
        self._body()
        place = f"{urlsplit(self.path).path}{uuid4().hex}"
        self.uploads[place] = b""
        self._answer(202, Location=place)

    def do_PATCH(self) -> None:
        """Take a part of a layer."""
        place = urlsplit(self.path).path
        self.uploads[place] += self._body()
        self._answer(202, Location=place, Range=f"0-{len(self.uploads[place]) - 1}")

    def do_PUT(self) -> None:
        """Take a manifest, or end the upload of a layer, whose digest must be that of its bytes."""
        parts, body = urlsplit(self.path), self._body()
        if "/manifests/" in parts.path:
            digest = digest_of(body)
            self.manifests[parts.path.removeprefix("/v2/")] = body
        else:
            content = self.uploads.pop(parts.path) + body
            digest = parse_qs(parts.query)["digest"][0]
            if digest != digest_of(content):
                self._answer(400)
                return
            self.blobs[digest] = len(content)
        self._answer(201, Location=parts.path, **{"Docker-Content-Digest": digest})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while n_bytes := int(self.rfile.readline(), 16):
            body += self.rfile.read(n_bytes)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        shown = {"Content-Length": "0", "Docker-Distribution-API-Version": "registry/2.0"}
        for name, value in {**shown, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def digest_of(content: bytes) -> str:
    """Return the digest by which registries name content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def emulated_registry() -> Iterator[Registry]:
    """Yield a registry on this machine, which keeps sizes instead of layers."""
    own: dict[str, Any] = {"blobs": {}, "manifests": {}, "uploads": {}}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (_Protocol,), own)) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            address = f"127.0.0.1:{http.server_address[1]}"
            yield Registry(address, own["manifests"], own["blobs"])
        finally:
            http.shutdown()
            thread.join()


@dataclass(frozen=True)
class Build:
    """A build that has ended.

    Attributes:
        commit: its first digits, which are the tag of the image too.
        began_at_utc: to the second.
        build_s: until the image was there, or the build had failed.
        digest: of the image in the registry, "" if the build failed.
    """

    commit: str
    began_at_utc: str
    build_s: float
    digest: str


def newest_commits(n_commits: int = BUILDS) -> list[str]:
    """Return the newest commits that changed the code in the image, the oldest first."""
    command = ["git", "-C", str(ROOT), "log", f"-{n_commits}", "--format=%h", "--", "src"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[::-1]


def step_of(checkout: Path, images: str, tag: str) -> list[str]:
    """Return what the build of Cloud Build tells docker, with its substitutions."""
    text = (checkout / "deploy/gcp/cloudbuild.yaml").read_text("utf-8")
    step = next(step for step in yaml.safe_load(text)["steps"] if step["id"] == STEP)
    return [Template(word).substitute(_IMAGES=images, TAG_NAME=tag) for word in step["args"]]


def build(found: Engine, commit: str, registry: Registry) -> Build:
    """Build the image of a commit with the step of Cloud Build, and push it."""
    images = f"{registry.address}/{REPOSITORY}"
    with tempfile.TemporaryDirectory() as name:
        archive = ["git", "-C", str(ROOT), "archive", commit]
        packed = subprocess.run(archive, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", name], input=packed, check=True)
        verb, *words = step_of(Path(name), images, commit)
        command = [found.program, verb, "--network", "host", *words]
        began, start = datetime.now(UTC), time.monotonic()
        done = subprocess.run(command, cwd=name, env=found.environment, check=False)
        build_s = time.monotonic() - start
    pushed = _push(found, f"{images}/{STEP}:{commit}", registry) if done.returncode == 0 else ""
    return Build(commit, began.strftime("%Y-%m-%d %H:%M:%S"), build_s, pushed)


def _push(found: Engine, address: str, registry: Registry) -> str:
    """Push an image, and return its digest."""
    found.run("push", "--quiet", address)
    found.run("image", "rm", address)
    name, _, tag = address.removeprefix(f"{registry.address}/").rpartition(":")
    return digest_of(registry.manifests[f"{name}/manifests/{tag}"])


def images_pages(folder: Path) -> tuple[Path, Path]:
    """Return a page of the registry and one of the builds, after the newest commits were built.

    Raises:
        NoEngine: there is no container engine, and none can be started.
    """
    with engine() as found, emulated_registry() as registry:
        ensure_base(found)
        builds = [build(found, commit, registry) for commit in newest_commits()]
        version = found.run("version", "--format", "{{.Server.Version}}")
    return (
        _registry_page(folder / "registry.html", registry.manifests),
        _builds_page(folder / "builds.html", builds, version),
    )


def _registry_page(path: Path, manifests: dict[str, bytes]) -> Path:
    rows = []
    for place, manifest in manifests.items():
        name, _, tag = place.partition("/manifests/")
        layers = json.loads(manifest)["layers"]
        megabytes = sum(layer["size"] for layer in layers) / 1e6
        digest = digest_of(manifest)[:_DIGEST_SHOWN]
        rows.append((name, tag, digest, str(len(layers)), f"{megabytes:,.1f}"))
    title = f"A registry emulated on this machine, after {len(rows)} images were pushed"
    heads = ("image", "tag", "digest", "layers", "MB, compressed")
    return table_page(path, title, heads, rows)


def _builds_page(path: Path, builds: list[Build], version: str) -> Path:
    rows = [
        (one.commit, one.began_at_utc, f"{one.build_s:.0f}", one.digest[:_DIGEST_SHOWN] or "failed")
        for one in reversed(builds)
    ]
    title = (
        f"Builds on this machine by Docker {version}: step {STEP!r} of deploy/gcp/cloudbuild.yaml"
    )
    heads = ("commit", "began (UTC)", "seconds", "pushed as")
    return table_page(path, title, heads, rows)
