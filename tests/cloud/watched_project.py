"""A project of Google's that the local server keeps, for tests of what watches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google_server import GoogleServer
from typer.testing import CliRunner, Result
from watch_service import WatchService

from classmark.cli.cloud.command import app
from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.google import GRPC_VARIABLE, HTTP_VARIABLE, Google
from classmark.cloud.watch.plan import Plan, plan_of

ROOT = Path(__file__).parents[2]
RULES_FOLDER = ROOT / "deploy" / "prometheus" / "rules"
ENVIRONMENT = CloudEnvironment(
    project="papers-test-1",
    region="europe-west4",
    bucket="papers-test-1-classmark",
    notify="operator@example.org",
)
NEEDS_ROLE = "Give the account roles/monitoring.editor"


@pytest.fixture
def service() -> WatchService:
    return WatchService()


@pytest.fixture
def server(service: WatchService, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    server = GoogleServer(service.clients())
    service.server = server
    with server.running() as address, service.incidents_over_http() as incidents:
        monkeypatch.setenv(GRPC_VARIABLE, address)
        monkeypatch.setenv(HTTP_VARIABLE, incidents)
        yield server


@pytest.fixture
def google(server: GoogleServer) -> Google:
    assert server.services
    return Google(ENVIRONMENT)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(ENVIRONMENT, RULES_FOLDER)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    file = tmp_path / "cloud.yaml"
    fields = ("project", "region", "bucket", "notify")
    file.write_text("".join(f"{name}: {getattr(ENVIRONMENT, name)}\n" for name in fields))
    return file


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def alerts(environment: Path, *words: str | Path) -> Result:
    return run("alerts", "--environment", environment, "--rules", RULES_FOLDER, *words)
