"""compose.yaml, really started: the dashboard is filled, and training is tracked in the store."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import until

from images import BASE, ROOT, Engine

Image = Callable[[str], str]
pytestmark = [pytest.mark.images, pytest.mark.timeout(1_800)]

DEPLOY = ROOT / "deploy"
PORTS = (
    "CLASSMARK",
    "CLASSMARK_DATABASE",
    "MONITOR",
    "PROMETHEUS",
    "ALERTMANAGER",
    "GRAFANA",
    "MLFLOW",
    "STORE",
)
# As the image of PostgreSQL does it: makes the database, then serves it to every host.
DATABASE = """
set -e
cd /var/lib/postgresql/data
if [ ! -e PG_VERSION ]; then
  initdb --no-sync --pgdata=. --username="$POSTGRES_USER" --auth="$POSTGRES_HOST_AUTH_METHOD"
  echo "host all all all $POSTGRES_HOST_AUTH_METHOD" >> pg_hba.conf
  echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D . postgres
fi
exec postgres -D . -c listen_addresses='*' -c unix_socket_directories=/tmp
"""
# Where no image can be pulled: the same program of Debian, and a server of the same protocol.
STAND_INS = {
    "prometheus": f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -qq -y prometheus "
    "&& mkdir /prometheus && chown 65534 /prometheus\n"
    'USER 65534\nENTRYPOINT ["prometheus"]\n',
    "alertmanager": f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -qq -y "
    "prometheus-alertmanager && mkdir /alertmanager && chown 65534 /alertmanager\n"
    'USER 65534\nENTRYPOINT ["prometheus-alertmanager"]\n',
    "database": f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -qq -y postgresql "
    "&& ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ "
    "&& install --directory --owner postgres /var/lib/postgresql/data\n"
    f"USER postgres\nENTRYPOINT {json.dumps(['sh', '-c', DATABASE])}\n",
    "store": "FROM classmark/tracking\nUSER root\nCOPY packages /packages\n"
    "ENV PYTHONPATH=/packages\n"
    'ENTRYPOINT ["sh", "-c", "exec python -m gcp_storage_emulator start --in-memory '
    '--host 0.0.0.0 --port 4443"]\n',
}
SENT = 200
LOGGING = """
import mlflow
mlflow.set_tracking_uri("http://mlflow:5000")
mlflow.set_experiment("compose")
with mlflow.start_run():
    mlflow.log_metric("top_1", 0.5)
    mlflow.log_text("a card", "CARD.md")
"""


@dataclass(frozen=True)
class Stack:
    """The services of compose.yaml, started."""

    docker: Engine
    words: list[str]
    environment: dict[str, str]
    services: list[str]

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [*self.words, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def url(self, service: str, port: int) -> str:
        return f"http://{self.run('port', service, str(port)).strip()}"


def compose_of(found: Engine) -> list[str]:
    """Return the command of Compose, as a plug-in or as a program of its own."""
    plugin = [found.program, "compose"]
    if not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
        return plugin
    program = shutil.which("docker-compose")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("Compose is not installed")
        pytest.skip("Compose is not installed")
    return [program]


@pytest.fixture(scope="module")
def stack(
    docker: Engine, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    environment = docker.environment | {f"{name}_PORT": "0" for name in PORTS}
    words = [*compose_of(docker), "--project-name", "classmark-test"]
    words += ["--file", str(DEPLOY / "compose.yaml"), "--project-directory", str(DEPLOY)]
    for target in ("service", "service-gcp", "tracking"):
        image(target)
    whole = Stack(docker, words, environment | {"COMPOSE_PROFILES": "watch,training,database"}, [])
    services = yaml.safe_load(whole.run("config"))["services"]
    for name in services:
        if is_there(docker, name, services[name]["image"], tmp_path_factory.mktemp("stand-in")):
            whole.services.append(name)
    try:
        whole.run("up", "--detach", "--no-deps", *whole.services)
        yield whole
    finally:
        whole.run("down", "--volumes", "--timeout", "10")


def is_there(found: Engine, name: str, tag: str, folder: Path) -> bool:
    """Return whether an image is ours, can be pulled, or has a stand-in."""
    if tag.startswith("classmark/"):
        return True
    pull = [found.program, "pull", "--quiet", tag]
    if not subprocess.run(pull, env=found.environment, capture_output=True, check=False).returncode:
        return True
    if name not in STAND_INS:
        return False
    (folder / "Dockerfile").write_text(STAND_INS[name])
    if "packages" in STAND_INS[name]:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet"]
        command += ["--target", str(folder / "packages"), "gcp-storage-emulator", "setuptools<81"]
        subprocess.run(command, check=True)
    found.run("build", "--network", "host", "--tag", tag, str(folder))
    return True


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


def series(stack: Stack, query: str) -> Any:
    """Return what Prometheus knows now."""
    url = f"{stack.url('prometheus', 9090)}/api/v1/query?query={urllib.parse.quote(query)}"
    return ask(url)["data"]["result"]


def test_the_service_starts_alone(stack: Stack) -> None:
    words = ["small" if word == "classmark-test" else word for word in stack.words]
    small = Stack(stack.docker, words, stack.environment, [])
    try:
        small.run("up", "--detach", "service")
        until(lambda: ask(f"{small.url('service', 8000)}/readyz"))
        assert len(small.run("ps", "--quiet").split()) == 1
    finally:
        small.run("down", "--volumes")


def test_a_journal_in_postgresql_has_what_a_service_answered_before_it_was_made_again(
    stack: Stack,
) -> None:
    name = "service-database"
    address = "postgresql://classmark@database/classmark"

    def written() -> int:
        words = ("classmark", "journal", "status", "--journal", address, "--json")
        found: int = json.loads(stack.run("exec", "-T", name, *words))["predictions"]
        return found

    until(lambda: ask(f"{stack.url(name, 8000)}/readyz"), 120)
    ask(f"{stack.url(name, 8000)}/v1/classify", {"abstract": "We measure a hot Jupiter."})
    until(lambda: written() == 1)
    stack.run("up", "--detach", "--no-deps", "--force-recreate", name)
    until(lambda: ask(f"{stack.url(name, 8000)}/readyz"), 120)
    assert written() == 1


def test_the_dashboard_is_filled(stack: Stack) -> None:
    def values(query: str) -> Any:
        return series(stack, query.replace("$__rate_interval", "1m"))

    until(
        lambda: any(v["value"][1] != "0" for v in values("rate(classmark_papers_total[1m])")), 120
    )
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "service.json").read_text())
    empty = [
        panel["title"]
        for panel in board["panels"]
        if not any(values(target["expr"]) for target in panel["targets"])
    ]
    # Nothing was refused yet, so that nothing counted it.
    assert not set(empty) - {"Refusals"}


def test_the_monitor_reads_the_journal_of_the_service_and_prometheus_its_report(
    stack: Stack,
) -> None:
    def look() -> Any:
        return ask(f"{stack.url('monitor', 8010)}/drift/run", {"newest": 10_000})

    until(lambda: ask(f"{stack.url('service', 8000)}/readyz"))
    command = [sys.executable, "-m", "classmark", "dataset", "sample", "--papers", str(SENT)]
    command += ["--send", stack.url("service", 8000), "--rate", "500"]
    subprocess.run(command, check=True, capture_output=True)
    report = until(lambda: (found := look())["counts"]["compared"] >= SENT and found)
    assert report["window"]["n_window"] == report["counts"]["compared"]
    until(lambda: series(stack, f"classmark_drift_papers == {report['counts']['compared']}"))
    assert series(stack, 'up{job="classmark-monitor"} == 1')
    assert not series(stack, 'classmark_requests_total{job="classmark-monitor"}')

    # A service that stops takes the log of its journal away, and nothing can make it again there.
    stack.run("stop", "service")
    alone = until(lambda: (found := look())["counts"]["read"] and found)
    assert alone["counts"]["read"] >= report["counts"]["read"]
    stack.run("start", "service")
    until(lambda: ask(f"{stack.url('service', 8000)}/readyz"))


def test_the_monitor_can_write_only_its_history(stack: Stack) -> None:
    def is_refused(path: str) -> bool:
        said = stack.run("exec", "-T", "monitor", "sh", "-c", f"(: > {path}) 2>&1 || true")
        return "Read-only file system" in said

    tries = ("/var/lib/service/journal/try", "/opt/try", "/var/lib/classmark/try")
    assert [is_refused(path) for path in tries] == [True, True, False]
    [container] = stack.run("ps", "--quiet", "monitor").split()
    found = json.loads(stack.docker.run("inspect", container))[0]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    state = "{{.State.Health.Status}}"
    until(lambda: stack.docker.run("inspect", "--format", state, container) == "healthy")


def test_grafana_shows_the_dashboard(stack: Stack) -> None:
    if "grafana" not in stack.services:
        pytest.skip("the image of Grafana cannot be pulled here")
    grafana = stack.url("grafana", 3000)
    found = until(lambda: ask(f"{grafana}/api/dashboards/uid/classmark-service"), 120)
    assert found["dashboard"]["title"] == "classmark: service"


def test_runs_are_tracked_and_their_files_are_in_the_object_store(stack: Stack) -> None:
    mlflow, store = stack.url("mlflow", 5000), stack.url("store", 4443)
    until(lambda: ask(f"{store}/storage/v1/b/mlflow"), 120)
    until(lambda: urllib.request.urlopen(f"{mlflow}/health", timeout=20).read() == b"OK", 240)
    words = ("--network", "classmark-test_default", "classmark/tracking", "python", "-c", LOGGING)
    stack.docker.run("run", "--rm", *words)
    names = [item["name"] for item in ask(f"{store}/storage/v1/b/mlflow/o")["items"]]
    assert any(re.fullmatch(r"\d+/[0-9a-f]{32}/artifacts/CARD\.md", name) for name in names)
