"""Prometheus and Alertmanager of Debian, started with quick copies of what ``deploy`` has."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import httpx
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAMS = ("prometheus", "prometheus-alertmanager")
TOKEN = "a token for the test"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def needs_programs() -> None:
    """Skip where a program is missing, except in CI."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} are not installed: make system-deps")
    if missing:
        pytest.skip(f"{missing} are not installed: make system-deps")


@dataclass
class Webhook:
    """What arrived at a webhook.

    Attributes:
        states: by name of an alert, the newest state of each set of its labels.
        alerts: the newest message of each name.
        tokens: that were sent.
    """

    url: str = ""
    states: dict[str, dict[str, str]] = field(default_factory=dict)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    def take(self, message: dict[str, Any], token: str) -> None:
        self.tokens.add(token)
        for alert in message["alerts"]:
            name = alert["labels"]["alertname"]
            self.alerts[name] = alert
            self.states.setdefault(name, {})[alert["fingerprint"]] = alert["status"]

    def is_firing(self, name: str) -> bool:
        return "firing" in self.states.get(name, {}).values()

    def is_resolved(self, name: str) -> bool:
        return set(self.states.get(name, {}).values()) == {"resolved"}


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Start a webhook for the block."""
    taken = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.take(json.loads(body), self.headers.get("Authorization", ""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mailbox:
    """What a mail server took.

    Attributes:
        address: of the server, ``HOST:PORT``.
        letters: as they came, headers first.
        logins: user and password of each session.
    """

    address: str = ""
    letters: list[str] = field(default_factory=list)
    logins: set[tuple[str, str]] = field(default_factory=set)

    def has(self, *words: str) -> bool:
        """Return whether a letter has all of these words."""
        return any(all(word in letter for word in words) for letter in self.letters)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Start a mail server for the block: as much of RFC 5321 as Alertmanager speaks."""
    taken = Mailbox()

    class Session(StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 mail.example.org")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                if verb == "EHLO":
                    self._say("250-mail.example.org\r\n250 AUTH PLAIN")
                elif verb == "AUTH":
                    _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
                    taken.logins.add((user, password))
                    self._say("235 welcome")
                elif verb == "DATA":
                    self._say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode().rstrip("\r\n"), ".")
                    letter = message_from_string("\n".join(lines))
                    bodies = [part.get_payload(decode=True) or b"" for part in letter.walk()]
                    heads = [f"{name}: {value}" for name, value in letter.items()]
                    texts = [bytes(body).decode() for body in bodies]
                    taken.letters.append("\n".join([*heads, *texts]))
                    self._say("250 taken")
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("250 fine")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        server.daemon_threads = True
        taken.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Watch:
    """Prometheus and Alertmanager, and what they are asked.

    Attributes:
        url: of Prometheus.
        alertmanager: its address.
    """

    url: str
    alertmanager: str

    def values(self, query: str) -> list[Any]:
        """Return the series that a query gives now, without those that have no number."""
        reply = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=20)
        if reply.status_code == 503:  # it has just been started
            return []
        assert reply.status_code == 200, reply.text
        return [one for one in reply.json()["data"]["result"] if one["value"][1] != "NaN"]

    def is_held_back(self, name: str, severity: str) -> bool:
        """Send an alert of the service, and return whether another one holds it back."""
        url = f"{self.alertmanager}/api/v2/alerts"
        labels = {"alertname": name, "severity": severity, "job": "classmark"}
        assert httpx.post(url, json=[{"labels": labels}], timeout=20).status_code == 200
        found = httpx.get(url, params={"filter": f"alertname={name}"}, timeout=20).json()
        return any(alert["status"]["inhibitedBy"] for alert in found)

    def firing(self) -> set[str]:
        alerts = httpx.get(f"{self.url}/api/v1/alerts", timeout=20).json()["data"]["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}


@contextmanager
def watching(folder: Path, service: str, hook: str, mail: str) -> Iterator[Watch]:
    """Start both for the block.

    Args:
        folder: for their files.
        service: address of the service.
        hook: address of the webhook.
        mail: of the mail server.
    """
    folder.mkdir()
    prometheus, alertmanager = free_port(), free_port()
    _write_prometheus(folder, service.removeprefix("http://"), f"127.0.0.1:{alertmanager}")
    _write_alertmanager(folder, hook, mail)
    with (
        _started(
            folder / "alertmanager.log",
            "prometheus-alertmanager",
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
        ),
        _started(
            folder / "prometheus.log",
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{prometheus}",
            "--rules.alert.resend-delay=1s",
        ),
    ):
        yield Watch(f"http://127.0.0.1:{prometheus}", f"http://127.0.0.1:{alertmanager}")


@contextmanager
def _started(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.kill()


def _write_prometheus(folder: Path, service: str, alertmanager: str) -> None:
    """Write the configuration with quick rules: short windows, and no waiting."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    text = text.replace("service:8000", service).replace("alertmanager:9093", alertmanager)
    config = yaml.safe_load(text)
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["global"]["evaluation_interval"] = "500ms"
    config["scrape_configs"] = config["scrape_configs"][:1]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "rules").mkdir()
    for file in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        quick = re.sub(r"\[\d+[mh]\]", "[15s]", file.read_text())
        quick = re.sub(r"for: \d+[mh]", "for: 2s", quick)
        (folder / "rules" / file.name).write_text(quick)


def _write_alertmanager(folder: Path, hook: str, mail: str) -> None:
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    (folder / "token").write_text(TOKEN)
    config["global"] |= {"smtp_smarthost": mail, "smtp_require_tls": False}  # no certificate here
    config["global"]["smtp_auth_password_file"] = str(folder / "token")
    quick = {"group_wait": "100ms", "group_interval": "1s"}
    config["route"] |= quick
    [receiver] = [one for one in config["receivers"] if one["name"] == "webhook"]
    receiver["webhook_configs"][0]["url"] = hook
    authorization = receiver["webhook_configs"][0]["http_config"]["authorization"]
    authorization["credentials_file"] = str(folder / "token")
    [page] = config["route"]["routes"]
    page |= quick
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
