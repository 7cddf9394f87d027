"""What the workflow `images` does with the image of the service: builds, lists and pushes it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from file_server import answering
from images import Engine
from make_targets import git, make, needs_make

pytestmark = [pytest.mark.images, pytest.mark.timeout(1_800), needs_make]


class Registry(BaseHTTPRequestHandler):
    """The part of the registry protocol that a push uses; what arrives is kept by its digest."""

    protocol_version = "HTTP/1.1"
    blobs: dict[str, int]
    manifests: dict[str, bytes]
    uploads: dict[str, bytes]

    def do_GET(self) -> None:
        self._answer(200)

    def do_HEAD(self) -> None:
        digest = self.path.rpartition("/")[2]
        found = digest in self.blobs and "/blobs/" in self.path
        self._answer(200 if found else 404, **{"Content-Length": str(self.blobs.get(digest, 0))})

    def do_POST(self) -> None:
        self._body()
        place = f"{urlsplit(self.path).path}{len(self.uploads)}"
        self.uploads[place] = b""
        self._answer(202, Location=place)

    def do_PATCH(self) -> None:
        place = urlsplit(self.path).path
        self.uploads[place] += self._body()
        self._answer(202, Location=place, Range=f"0-{len(self.uploads[place]) - 1}")

    def do_PUT(self) -> None:
        parts, body = urlsplit(self.path), self._body()
        if "/manifests/" in parts.path:
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            self.manifests[parts.path.removeprefix("/v2/")] = body
        else:
            content = self.uploads.pop(parts.path) + body
            digest = parse_qs(parts.query)["digest"][0]
            assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
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
        """Keep the output of the tests clean."""


@pytest.fixture
def registry() -> Iterator[Any]:
    """Return a running registry; its address is ``server_address``."""
    handler = type("Own", (Registry,), {"blobs": {}, "manifests": {}, "uploads": {}})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with answering(http):
        yield http


def environment(docker: Engine) -> dict[str, str]:
    """Return what leads a program to the engine of these tests."""
    host = {} if docker.host is None else {"DOCKER_HOST": docker.host}
    return {"PATH": f"{Path(docker.program).parent}{os.pathsep}{os.environ['PATH']}", **host}


def test_the_image_is_built_pushed_and_named_by_its_digest(
    docker: Engine, registry: Any, tmp_path: Path
) -> None:
    own = environment(docker)
    done = make("images", "ONLY=service", **own)
    assert done.returncode == 0, done.stderr
    host, port = registry.server_address
    output = tmp_path / "output"
    words = ("IMAGE=service", f"REGISTRY={host}:{port}/Someone/Classmark")
    done = make("push-image", *words, **own, GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    ((path, manifest),) = registry.RequestHandlerClass.manifests.items()
    commit = git(Path(__file__).parent, "rev-parse", "HEAD")
    assert path == f"someone/classmark/service/manifests/{commit}"
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    name = f"{host}:{port}/someone/classmark/service"
    assert done.stdout.strip() == f"{name}@{digest}"
    assert output.read_text() == f"name={name}\ndigest={digest}\n"
    layers = {layer["digest"] for layer in json.loads(manifest)["layers"]}
    assert layers <= registry.RequestHandlerClass.blobs.keys()


def test_the_bill_of_the_image_lists_its_python_and_debian_packages(
    docker: Engine, image: Any
) -> None:
    pytest.importorskip("cyclonedx", reason="needs the group lint: make check")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    image("service")
    done = make("sbom-image", **environment(docker))
    assert done.returncode == 0, done.stderr
    text = (Path(__file__).parents[2] / "build/sbom/service.cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    kinds = {one["purl"].partition("@")[0] for one in json.loads(text)["components"]}
    assert {"pkg:pypi/classmark", "pkg:pypi/fastapi", "pkg:pypi/numpy"} <= kinds
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/base-files"} <= kinds
    assert "pkg:pypi/torch" not in kinds
