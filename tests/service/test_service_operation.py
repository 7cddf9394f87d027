"""Health, metrics, signals, settings: what an operator sees and turns."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from waiting import until

from classmark.errors import InvalidConfig
from classmark.service import make_settings
from classmark.service.keys import create_key
from classmark.service.logs import level_of


def test_health_and_readiness_are_told(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_metrics_count_requests_by_route_and_status(client: httpx.Client) -> None:
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'classmark_requests_total{method="GET",route="unmatched",status="404"}' in text
    assert "classmark_workers 1.0" in text


def test_every_response_names_the_model_and_the_request(client: httpx.Client) -> None:
    for path in ("/v1/categories", "/v1/nothing", "/v2/nothing"):
        headers = client.get(path, headers={"X-Request-ID": "mine-1"}).headers
        assert headers["x-classmark-model"].startswith("fast@")
        assert len(headers["x-classmark-digest"]) == 64
        assert headers["x-request-id"] == "mine-1"


# --- signals and the log ------------------------------------------------------------------------


def events(server: Any, event: str) -> list[dict[str, Any]]:
    return [line for line in server.logs() if line["event"] == event]


@pytest.mark.slow
def test_sighup_reloads_keys_and_stops_nothing(start: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    create_key(keys, "first", ["admin"])
    with start("--workers", "2", "--api-keys", str(keys)) as server, server.client() as client:
        workers = server.workers()
        for n_reloads in (1, 2):
            server.process.send_signal(signal.SIGHUP)
            until(lambda n=n_reloads: len(events(server, "reloaded")) == n)
        keys.write_text("damaged")
        server.process.send_signal(signal.SIGHUP)
        (line,) = until(lambda: events(server, "not reloaded"))
        assert (line["level"], str(keys) in line["detail"]) == ("error", True)
        key = {"X-API-Key": "cmk_0000000000_" + "0" * 48}
        until(lambda: client.get("/metrics", headers=key).json()["kind"] == "keys_unreadable")
        assert server.workers() == workers
        assert client.get("/readyz").status_code == 200


@pytest.mark.slow
def test_sighup_opens_the_log_file_again_with_the_settings_of_the_log(
    start: Any, tmp_path: Path
) -> None:
    log, settings = tmp_path / "serve.log", tmp_path / "serve.env"
    settings.write_text("# of the service\nCLASSMARK_SERVE_RATE_BURST='7'\n")
    options = ("--workers", "2", "--log-file", str(log), "--settings", str(settings))

    def said(event: str) -> list[dict[str, Any]]:
        lines = map(json.loads, log.read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    with start(*options) as server, server.client() as client:
        assert client.get("/healthz").status_code == 200
        until(lambda: said("request"))
        log.rename(tmp_path / "serve.log.1")
        settings.write_text("CLASSMARK_SERVE_LOG_LEVEL=warning\nCLASSMARK_SERVE_RATE_BURST=8\n")
        server.process.send_signal(signal.SIGHUP)
        (line,) = until(lambda: log.exists() and said("needs a restart"))
        assert (line["level"], line["settings"]) == ("warning", ["rate_burst"])
        until(lambda: len(list_of_openers(log, server)) == 3)
        assert client.get("/healthz").status_code == 200
        assert client.post("/healthz").status_code == 405
        assert client.get("/readyz", headers={"Host": "elsewhere.example"}).status_code == 200
        assert client.get("/metrics", headers={"Host": "elsewhere.example"}).status_code == 421
        (line,) = until(lambda: said("request"))
        assert (line["route"], line["status"], line["level"]) == ("/metrics", 421, "warning")
        settings.write_text("CLASSMARK_SERVE_LOG_LEVEL=loud\n")
        server.process.send_signal(signal.SIGHUP)
        (line,) = until(lambda: said("not reloaded"))
        assert (line["level"], "cannot be 'loud'" in line["detail"]) == ("error", True)
        assert client.get("/healthz").status_code == 200
        assert server.stderr() == ""


def test_settings_that_have_not_changed_need_no_restart(tmp_path: Path) -> None:
    file = tmp_path / "serve.env"
    names = ("index", "drift_report", "api_keys", "trusted_key", "registry")
    set_in = [f"CLASSMARK_SERVE_{name.upper()}={tmp_path / name}\n" for name in names]
    file.write_text("".join(set_in))
    made = make_settings(settings=file, registry=Path("registry"), journal="off")
    assert made.reread()[1] == []
    file.write_text("".join(set_in[1:]) + "CLASSMARK_SERVE_PORT=1\n")
    assert made.reread()[1] == ["port", "index"]
    file.write_text("".join(set_in))
    assert make_settings(settings=file).reread()[1] == []


def list_of_openers(file: Path, server: Any) -> list[int]:
    """Return the processes of a service that have a file open."""
    found = []
    for pid in [server.process.pid, *server.workers()]:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if str(link.readlink()) == str(file):
                    found.append(pid)
                    break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [[], ["nohup"]])
def test_a_terminal_that_closes_stops_a_service_in_order_unless_it_runs_under_nohup(
    tmp_path: Path, prefix: list[str]
) -> None:
    log = tmp_path / "serve.log"
    command = [*prefix, sys.executable, "-m", "classmark", "serve", "--port", "0", "--workers", "1"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["CLASSMARK_HOME"] = str(tmp_path)
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
        os.execvp(command[0], [*command, "--log-file", str(log)])

    def said(event: str) -> bool:
        return log.exists() and f'"{event}"' in log.read_text()

    try:
        until(lambda: said("ready"))
        os.close(terminal)
        until(lambda: said("reloaded") or said("stopped"))
        assert said("reloaded") == bool(prefix)
        if prefix:
            os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 0
        assert json.loads(log.read_text().splitlines()[-1])["in_order"] is True
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": -1}, "--workers .* cannot be -1"),
        ({"workers": 10_000}, "--workers .* cannot be 10000: .* cores.* the maximum here is"),
        ({"trusted_proxies": "proxy.example"}, "'proxy.example' is neither an IP address nor"),
        ({"trusted_proxies": "127.0.0.1 10.0.0.1"}, "is neither an IP address nor a network"),
        ({"trusted_proxies": "10.0.0.1/8"}, "has host bits set.*perhaps 10.0.0.0/8 is meant"),
        ({"host": ""}, "--host .* cannot be ''"),
        ({"threads": 100_000}, "--threads .* cannot be 100000"),
        ({"header_timeout_s": 1e300}, "--header-timeout-s .* cannot be 1e.300"),
        ({"drain_s": 20.0}, "--drain-s .* leaves nothing of the 20 s of --grace-s"),
        ({"journal_keep_days": -1}, "--journal-keep-days .* cannot be -1"),
        ({"log_level": "loud"}, "--log-level .* cannot be 'loud'"),
        ({"settings": "/nowhere/serve.env"}, "/nowhere/serve.env cannot be read .No such file"),
    ],
)
def test_an_absurd_setting_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said) as caught:
        make_settings(**given)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("proxies", ["", "*", "127.0.0.1, 10.0.0.0/8,", "::1,2001:db8::/32"])
def test_addresses_and_networks_of_proxies_are_taken(proxies: str) -> None:
    assert make_settings(trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize("name", ["CLASSMARK_SERVE_WORKRES", "classmark_serve_workres"])
def test_a_variable_that_is_no_setting_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "2")
    with pytest.raises(InvalidConfig, match=r"WORKRES.*Did you mean CLASSMARK_SERVE_WORKERS\?"):
        make_settings()


def test_options_win_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "serve.env"
    file.write_text('\n#\nCLASSMARK_SERVE_PORT=1\nCLASSMARK_SERVE_HOST="::1"\n')
    monkeypatch.setenv("CLASSMARK_SERVE_SETTINGS", str(file))
    assert (make_settings().port, make_settings().host) == (1, "::1")
    monkeypatch.setenv("CLASSMARK_SERVE_PORT", "2")
    assert (make_settings().port, make_settings(port=3).port) == (2, 3)
    for line, said in {
        "CLASSMARK_SERVE_PROT=1": "has CLASSMARK_SERVE_PROT, .* mean CLASSMARK_SERVE_PORT",
        "PORT=1": "line 1: 'PORT=1' does not set a variable of the service",
        'CLASSMARK_SERVE_HOST="::1': "line 1: the quote before the value of CLASSMARK_SERVE_HOST",
        "CLASSMARK_SERVE_HOST='::1' # own": "is not closed at the end of the line. Close it there",
    }.items():
        file.write_text(line)
        with pytest.raises(InvalidConfig, match=said):
            make_settings()
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidConfig, match="it is not UTF-8"):
        make_settings()


def test_a_setting_that_changes_nothing_is_named(tmp_path: Path) -> None:
    made = make_settings(rate_burst=3, journal="off", journal_text=True, batch_queue=9)
    assert made.without_effect(is_deep=False).keys() == {
        "rate_burst",
        "journal_text",
        "batch_queue",
    }
    assert make_settings(rate_burst=3, rate_per_minute=9).without_effect(is_deep=False) == {}
    assert make_settings(batch_queue=9).without_effect(is_deep=True) == {}


@pytest.mark.parametrize(
    ("given", "is_open"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "192.0.2.1"}, True),
        ({"host": "::", "api_keys": Path("keys.json")}, False),
    ],
)
def test_a_service_that_others_reach_without_a_key_is_open_to_everybody(
    given: dict[str, Any], is_open: bool
) -> None:
    assert make_settings(**given).is_open_to_everybody is is_open


@pytest.mark.slow
def test_a_service_that_is_open_to_everybody_says_so_once(start: Any) -> None:
    with start("--workers", "2", "--host", "0.0.0.0", "--rate-burst", "3") as server:
        (line,) = events(server, "open to everybody")
        assert (line["level"], "--api-keys" in line["advice"]) == ("warning", True)
        (line,) = events(server, "setting without effect")
        assert (line["level"], line["setting"]) == ("warning", "rate_burst")


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.slow
def test_every_refusal_has_its_route_and_its_level_in_the_log_and_in_the_metrics(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    narrow = {"X-API-Key": create_key(path, "one", ["classify"])[1]}
    admin = {"X-API-Key": create_key(path, "all", ["admin"])[1]}
    options = ("--workers", "1", "--api-keys", str(path), "--rate-per-minute", "0.01")
    where = "/v1/predictions/{prediction_id}"
    with start(*options, "--rate-burst", "1") as server, server.client() as client:
        for n in range(9):
            assert client.get(f"/v1/predictions/{n}").status_code == 401
        assert client.get("/v1/status", headers=narrow).status_code == 403
        for status in (415, 429):
            assert client.post("/v1/classify", headers=narrow).status_code == status
        metrics = client.get("/metrics", headers=admin).text
        labels = [("GET", where, 401), ("GET", "/v1/status", 403), ("POST", "/v1/classify", 429)]
        for method, route, status in labels:
            assert f'{{method="{method}",route="{route}",status="{status}"}}' in metrics
        assert metrics.count('status="401"') == 1
        lines = until(lambda: (found := events(server, "request"))[11:] and found)
        seen = {(e["status"], e["route"], e["level"]) for e in lines}
        assert seen >= {(status, route, "warning") for _, route, status in labels}
        assert (415, "/v1/classify", "info") in seen


def test_a_fault_of_the_service_is_an_error_in_the_log() -> None:
    levels = {200: "INFO", 404: "INFO", 401: "WARNING", 429: "WARNING", 503: "WARNING"}
    for status, level in {**levels, 500: "ERROR"}.items():
        assert logging.getLevelName(level_of(status)) == level


@pytest.mark.slow
def test_a_connection_that_is_refused_is_counted_and_logged(start: Any) -> None:
    with start("--workers", "1") as server, server.client() as client:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"no HTTP at all\r\n\r\n")
            assert b" 400 " in connection.recv(4096)
        counted = 'classmark_connections_refused_total{reason="bad_request"} 1.0'
        assert counted in client.get("/metrics").text
        (line,) = events(server, "connection refused: bad_request")
        assert (line["level"], line["client"]) == ("warning", "127.0.0.1")
