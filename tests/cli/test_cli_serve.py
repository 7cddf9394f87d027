"""``classmark serve``: options become settings; what is wrong is one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classmark import service
from classmark.cli.app import app
from classmark.service.settings import ServiceSettings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServiceSettings]:
    """Return the settings that the service was started with, which is not really started."""
    seen: list[ServiceSettings] = []

    def serve(settings: ServiceSettings, say: Any) -> int:
        seen.append(settings)
        say("classmark serves nothing.")
        return 0

    monkeypatch.setitem(vars(service), "serve", serve)
    return seen


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["serve", *arguments])


def test_options_win_over_the_environment_and_that_over_defaults(
    served: list[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMARK_SERVE_PORT", "8001")
    monkeypatch.setenv("CLASSMARK_SERVE_DEADLINE_MS", "500")
    result = run("--port", "8002", "--no-access-log", "--api-keys", "keys.json")
    assert (result.exit_code, result.stdout) == (0, "classmark serves nothing.\n")
    (settings,) = served
    assert (settings.port, settings.deadline_ms, settings.host) == (8002, 500, "127.0.0.1")
    assert (settings.access_log, settings.api_keys) == (False, Path("keys.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "70000"), "--port (or CLASSMARK_SERVE_PORT) cannot be 70000"),
        (("--max-papers", "0"), "--max-papers (or CLASSMARK_SERVE_MAX_PAPERS) cannot be 0"),
        (("--rate-per-minute", "nan"), "cannot be nan"),
        (("--allowed-hosts", "x:80"), "'x:80' is not a host. Give names without scheme and port"),
    ],
)
def test_a_setting_out_of_range_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_as_many_workers_as_asked_for_else_one_a_core() -> None:
    assert ServiceSettings(workers=3).worker_count == 3
    assert ServiceSettings(workers=0).worker_count >= 1


def test_without_the_extra_the_verb_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("classmark.service")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run()
    assert result.exit_code == 1
    assert result.stderr == (
        "error: The HTTP service needs packages that are not installed. "
        "Run: pip install 'classmark[serve]'\n"
    )


def test_where_processes_cannot_be_forked_serve_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("os.fork", raising=False)
    result = run("--port", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: classmark serve needs Linux or macOS. On Windows run it in WSL.\n"
    )
