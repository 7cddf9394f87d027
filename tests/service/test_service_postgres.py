"""Services of two machines with one journal in PostgreSQL, and what of it nobody may see."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_service_journal import PAPER, stored
from typer.testing import CliRunner

from classmark.cli.app import app
from postgres_server import PASSWORD, PostgresServer

pytestmark = pytest.mark.slow  # services of their own
SECRET = "s3cret"
assert PASSWORD.startswith(SECRET)


def predict(client: httpx.Client, paper_id: str) -> str:
    """Classify a paper and say something of it; return the id of the prediction when it is kept."""
    answer = client.post("/v1/classify", json={**PAPER, "id": paper_id}).json()
    said = {"prediction_id": answer["prediction_id"], "category": "math.CO"}
    assert client.post("/v1/feedback", json=said).status_code == 202
    return str(answer["prediction_id"])


def journal_of(client: httpx.Client, *, failing: bool) -> dict[str, Any]:
    """Return what the status says of the journal when it says whether it is failing."""
    end = time.monotonic() + 60
    while True:
        found = dict(client.get("/v1/status").json()["journal"])
        if found["failing"] == failing and bool(found["queued"]) == failing:
            return found
        assert time.monotonic() < end, f"the journal is still {found}"


def everything_shown(server: Any, client: httpx.Client) -> str:
    """Return what operators and users of the machine see: pages, the log, and command lines."""
    pages = [client.get(path).text for path in ("/metrics", "/v1/status", "/readyz")]
    lines = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if os.getsid(int(folder.name)) == server.process.pid:
                lines.append((folder / "cmdline").read_bytes().decode("utf-8", "replace"))
    assert any("postgresql://writer:***" in line for line in lines)
    return "\n".join([*pages, *lines, server.stderr()])


def test_two_services_keep_one_journal_that_survives_its_server(
    postgres: PostgresServer, start_shared: Any
) -> None:
    url = postgres.database()
    with ExitStack() as stack:
        options = ("--workers", "1", "--journal", url, "--journal-keep-days", "30")
        servers = [stack.enter_context(start_shared(*options)) for _ in range(2)]
        clients = [stack.enter_context(server.client()) for server in servers]
        ids = [predict(client, str(which)) for which, client in enumerate(clients)]
        for client in clients:  # each finds what the other wrote
            assert [stored(client, i)["feedback"][0]["category"] for i in ids] == ["math.CO"] * 2
        postgres.kill()
        late = predict(clients[0], "late")
        status = journal_of(clients[0], failing=True)
        assert status["last_error"].startswith("journal postgresql://writer@127.0.0.1:")
        found = clients[0].get(f"/v1/predictions/{late}")
        assert (found.status_code, found.json()["kind"]) == (503, "journal_unavailable")
        assert "127.0.0.1" not in found.text
        for server, client in zip(servers, clients, strict=True):
            assert SECRET not in everything_shown(server, client)
        postgres.start()
        assert stored(clients[1], late)["paper_id"] == "late"
        status = journal_of(clients[0], failing=False)
        assert (status["dropped"], status["queued"]) == (0, 0)
    assert SECRET not in "".join(server.stderr() for server in servers)
    check_commands(url, ids[0])


def check_commands(url: str, prediction_id: str) -> None:
    """Use the commands on what two services wrote."""

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["journal", *words, "--journal", url])
        assert done.exit_code == 0, done.output
        assert SECRET not in done.output
        return done.output

    assert run("path").startswith("postgresql://writer@127.0.0.1:")
    status = run("status")
    assert "predictions     3" in status
    assert "size  " in status
    assert '"files": []' in run("status", "--json")
    assert run("export").count('"paper_id"') == 3
    assert "would forget 1 predictions" in run("forget", "--id", prediction_id, "--dry-run")
    assert "forgot 1 predictions and 1 feedback in postgresql://writer@" in run(
        "forget", "--id", prediction_id
    )
    assert run("export", "--format", "csv", "--since", "1d").count("\n") == 4
    assert '"predictions": 0' in run("forget", "--id", prediction_id, "--json")


def test_a_size_limit_is_refused_at_the_start(postgres: PostgresServer) -> None:
    words = ["serve", "--journal", postgres.database(), "--journal-max-mb", "100"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    message = f"{done.output} {done.exception}"
    assert "--journal-max-mb" in message
    assert "--journal-keep-days" in message
    assert SECRET not in message
