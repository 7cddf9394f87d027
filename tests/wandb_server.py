"""The part of W&B's protocol that a run uses, over HTTP: GraphQL, the file stream, uploads."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "librarians"
_OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")
_STREAM = re.compile(r"/files/[^/]+/[^/]+/([\w-]+)/file_stream")


@dataclass
class Run:
    """What the server has of a run."""

    name: str = ""
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None


@dataclass
class Artifact:
    """What the server has of an artifact; ``runs`` that used or made it."""

    id: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    used_by: set[str] = field(default_factory=set)
    made_by: set[str] = field(default_factory=set)
    state: str = "PENDING"


@dataclass
class WandbServer:
    """Keeps what it is sent.

    Attributes:
        url: where it listens.
        runs, artifacts: by id and by name.
        keys: that requests carried.
        unknown: operations that it has no answer to.
        refuses: whether every request is answered with 401.
        begun: is set when a run has begun.
    """

    url: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    refuses: bool = False
    begun: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """Return the data of a GraphQL answer."""
        (operation,) = _OPERATION.findall(query)[:1]
        with self.lock:
            method = getattr(self, f"_{operation}", None)
            if method is None:
                self.unknown.append(query)
                return {}
            found: dict[str, Any] = method(given.get("input", given))
            return found

    def _Viewer(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "u", "entity": ENTITY, "username": "ada", "email": "",
                           "flags": "{}", "teams": {"edges": []}}}  # fmt: skip

    def _ServerFeaturesQuery(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _UpsertBucket(self, given: Any) -> dict[str, Any]:  # noqa: N802
        run = self.runs.setdefault(given["name"], Run())
        self.begun.set()
        run.name = given["displayName"] or run.name
        run.project = given["project"]
        config = json.loads(given["config"] or "{}")
        run.config |= {key: one["value"] for key, one in config.items()}
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}}
        bucket = {"id": f"id-{given['name']}", "name": given["name"], "displayName": run.name,
                  "description": None, "config": None, "sweepName": None, "project": project,
                  "historyLineCount": len(run.history)}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, given: Any) -> dict[str, Any]:  # noqa: N802
        files = [
            {"name": name, "uploadUrl": f"{self.url}/run/{given['run']}/{name}"}
            for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifact": None}}

    def _XXHashDigestsEnabled(self, _: Any) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _CreateArtifact(self, given: Any) -> dict[str, Any]:  # noqa: N802
        name = given["artifactCollectionName"]
        artifact = self.artifacts.setdefault(name, Artifact(
            name, given["artifactTypeName"], [one["alias"] for one in given["aliases"]],
            json.loads(given["metadata"] or "{}")))  # fmt: skip
        if given.get("runName"):
            artifact.made_by.add(given["runName"])
        sequence = {"latestArtifact": None}
        made = {"id": name, "state": artifact.state, "artifactSequence": sequence}
        return {"createArtifact": {"artifact": made}}

    def _CreateArtifactManifest(self, given: Any) -> dict[str, Any]:  # noqa: N802
        return {"createArtifactManifest": self._manifest(given["artifactID"])}

    def _UpdateArtifactManifest(self, given: Any) -> dict[str, Any]:  # noqa: N802
        return {"updateArtifactManifest": self._manifest(given["artifactManifestID"])}

    def _manifest(self, name: str) -> dict[str, Any]:
        file = {"id": name, "uploadUrl": f"{self.url}/manifest/{name}", "uploadHeaders": []}
        return {"artifactManifest": {"id": name, "file": file}}

    def _CreateArtifactFiles(self, given: Any) -> dict[str, Any]:  # noqa: N802
        edges = [
            {"node": {"storagePath": one["name"], "uploadHeaders": [], "uploadMultipartUrls": None,
                      "uploadUrl": f"{self.url}/artifact/{one['artifactID']}/{one['name']}",
                      "artifact": {"id": one["artifactID"]}}}
            for one in given["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, given: Any) -> dict[str, Any]:  # noqa: N802
        artifact = self.artifacts[given["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": ""}}}

    def _UseArtifact(self, given: Any) -> dict[str, Any]:  # noqa: N802
        self.artifacts[given["artifactID"]].used_by.add(given["runName"])
        return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}

    def _ArtifactByID(self, given: Any) -> dict[str, Any]:  # noqa: N802
        artifact = self.artifacts[given["id"]]
        project = {"id": "p", "internalId": "p", "name": "classmark", "entity": {"name": ENTITY}}
        sequence = {"__typename": "ArtifactSequence", "name": artifact.id, "project": project}
        nothing = dict.fromkeys(("description", "historyStep", "commitHash", "updatedAt"))
        return {"artifact": {
            **nothing, "__typename": "Artifact", "id": artifact.id, "artifactSequence": sequence,
            "versionIndex": 0, "artifactType": {"name": artifact.type},
            "ttlDurationSeconds": -2, "ttlIsInherited": False,
            "metadata": json.dumps(artifact.metadata), "tags": [], "state": artifact.state,
            "size": 1, "digest": "", "fileCount": len(artifact.files), "aliases": [],
            "createdAt": "2026-01-01T00:00:00Z"}}  # fmt: skip

    def stream(self, run_id: str, sent: Any) -> None:
        """Keep what the file stream of a run carries."""
        run = self.runs[run_id]
        for name, part in sent.get("files", {}).items():
            rows = [json.loads(line) for line in part["content"]]
            if name == "wandb-history.jsonl":
                run.history[part["offset"] :] = rows
            elif name == "wandb-summary.json":
                run.summary = rows[-1]
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    def upload(self, path: str, content: bytes) -> None:
        """Keep a file of a run or of an artifact."""
        kind, owner, name = path.lstrip("/").split("/", 2) if path.count("/") > 2 else ("", "", "")
        if kind == "run":
            self.runs[owner].files[name] = content
        elif kind == "artifact":
            self.artifacts[owner].files[name] = content


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Yield a server of W&B's protocol on this machine, with what it was sent."""
    kept = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind, _, code = self.headers.get("Authorization", "").partition(" ")
            if kind == "Basic":
                kept.keys.add(base64.b64decode(code).decode().partition(":")[2])
            found: dict[str, Any] = {}
            if self.path == "/graphql":
                asked = json.loads(body)
                found = {"data": kept.answer(asked["query"], asked.get("variables") or {})}
            elif stream := _STREAM.fullmatch(self.path):
                with kept.lock:
                    kept.stream(stream[1], json.loads(body))
            else:
                with kept.lock:
                    kept.upload(self.path, body)
            self._send(401 if kept.refuses else 200, json.dumps(found).encode())

        do_PUT = do_GET = do_POST  # noqa: N815

        def _send(self, code: int, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that are done reset their connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
