"""``classmark doctor``: what works on this machine, and the command for what does not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classmark.cli.doctor import Check, print_checks

_PATH = os.environ.get("PYTHONPATH", "")
not_on_windows = pytest.mark.skipif(os.name == "nt", reason="its engine is a shell script")


def doctor(tmp_path: Path, *words: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and each check by name."""
    home = {"CLASSMARK_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "classmark", "doctor", "--json", *words],
        env={**os.environ, **home, "CLOUDSDK_CONFIG": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    code, checks = doctor(tmp_path_factory.mktemp("doctor"), "--no-network")
    assert code == 0
    return checks


def test_the_core_works_and_the_model_answers(found: dict[str, Any]) -> None:
    assert [found[name]["state"] for name in ("python", "model", "home", "temporary")] == ["ok"] * 4
    assert found["model"]["detail"].startswith("fast@")
    assert found["kernel"]["state"] in ("ok", "missing")


def test_each_extra_lists_its_packages_and_those_of_the_extras_in_it(found: dict[str, Any]) -> None:
    assert "httpx" in found["serve"]["detail"]
    assert "fastapi" in found["serve"]["detail"]
    assert "polars" in found["train"]["detail"]


def test_without_network_the_hub_is_not_tried(found: dict[str, Any]) -> None:
    assert "hub" not in found


def test_a_package_that_is_missing_is_named_with_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "classmark-9.dist-info"
    folder.mkdir()
    lines = ("Name: classmark", "Version: 9", 'Requires-Dist: no-such-package>=1; extra == "ghost"')
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    _, checks = doctor(tmp_path, "--no-network", PYTHONPATH=str(tmp_path))
    ghost = checks["ghost"]
    assert (ghost["state"], ghost["detail"]) == ("missing", "lacks no-such-package")
    assert ghost["remedy"] == "pip install 'classmark[ghost]'"


def test_a_package_that_is_too_old_is_named_with_both_versions(tmp_path: Path) -> None:
    for name, version, needs in (
        ("classmark", "9", ('Requires-Dist: relic<3,>=2.10; extra == "ghost"',)),
        ("relic", "2.9.1", ()),
    ):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = (f"Name: {name}", f"Version: {version}", *needs)
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
    _, checks = doctor(tmp_path, "--no-network", PYTHONPATH=str(tmp_path))
    assert checks["ghost"]["detail"] == "lacks relic 2.9.1 (< 2.10)"


@pytest.fixture
def trackers(tmp_path: Path) -> dict[str, str]:
    """Variables by which both trackers are found, with nothing that this machine knows of them."""
    for name in ("mlflow", "wandb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    unset = dict.fromkeys(("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"), "")
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{_PATH}", "NETRC": str(tmp_path / "no"), **unset}


def test_a_tracking_server_that_does_not_answer_is_missing(
    tmp_path: Path, trackers: dict[str, str]
) -> None:
    servers = {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_API_KEY": "k" * 40,
    }
    for words, state in ((("--no-network",), "ok"), ((), "missing")):
        _, checks = doctor(tmp_path, *words, **trackers | servers, HF_ENDPOINT="http://[")
        for name in ("tracker mlflow", "tracker wandb"):
            assert checks[name]["state"] == state
    for name in ("tracker mlflow", "tracker wandb"):
        assert "http://127.0.0.1:9 cannot be reached" in checks[name]["detail"]
    assert checks["hub"]["detail"] == "http://[ is not a web address"


def test_wandb_without_a_key_sends_nothing(tmp_path: Path, trackers: dict[str, str]) -> None:
    def wandb(**environment: str) -> tuple[str, str]:
        _, checks = doctor(tmp_path, "--no-network", **trackers | environment)
        return checks["tracker wandb"]["state"], checks["tracker wandb"]["detail"]

    assert wandb() == ("ok", "offline (no API key): nothing leaves this machine")
    state, detail = wandb(WANDB_MODE="online")
    assert (state, detail) == ("missing", "WANDB_MODE=online, but there is no API key")
    _, detail = wandb(WANDB_MODE="offline", WANDB_API_KEY="k" * 40)
    assert detail == "offline (WANDB_MODE=offline): nothing leaves this machine"


def test_addresses_are_shown_without_their_passwords_and_no_key_is(
    tmp_path: Path, trackers: dict[str, str]
) -> None:
    secret = "5ecret" * 8
    address = f"http://me:{secret}@127.0.0.1:9"
    given = {
        "MLFLOW_TRACKING_URI": address, "WANDB_BASE_URL": address, "HF_ENDPOINT": address,
        "WANDB_API_KEY": secret,
    }  # fmt: skip
    for words in ((), ("--no-network",)):
        _, checks = doctor(tmp_path, *words, **trackers | given)
        assert secret not in json.dumps(checks)
    assert checks["tracker wandb"]["detail"] == "online, http://***@127.0.0.1:9, with an API key"


def test_a_home_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, checks = doctor(tmp_path, "--no-network", CLASSMARK_HOME=str(tmp_path / "file" / "home"))
    assert (code, checks["home"]["state"]) == (0, "missing")
    command = "set" if os.name == "nt" else "export"
    assert checks["home"]["remedy"] == f"{command} CLASSMARK_HOME=DIR"


def test_credentials_that_are_named_and_missing_are_a_failure(tmp_path: Path) -> None:
    named = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "absent.json")}
    code, checks = doctor(tmp_path, "--no-network", **named)
    assert (code, checks["cloud login"]["state"]) == (1, "failed")
    assert "absent.json, which is not an existing file" in checks["cloud login"]["detail"]


def test_credentials_that_exist_are_shown(tmp_path: Path) -> None:
    (tmp_path / "application_default_credentials.json").write_text("{}")
    _, checks = doctor(tmp_path, "--no-network")
    assert checks["cloud login"]["state"] == "ok"


def test_a_hub_that_answers_is_ok_and_one_that_does_not_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        address = f"http://127.0.0.1:{hub.getsockname()[1]}"
        _, up = doctor(tmp_path, HF_ENDPOINT=address)
    _, down = doctor(tmp_path, HF_ENDPOINT=address)
    assert up["hub"]["state"] == "ok"
    assert down["hub"]["state"] == "missing"
    assert "model.encoder=packaged" in down["hub"]["remedy"]


@not_on_windows
def test_an_engine_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho cannot reach the engine >&2\nexit 1\n")
    program.chmod(0o755)
    _, checks = doctor(tmp_path, "--no-network", PATH=str(tmp_path))
    assert checks["containers"]["detail"] == "docker: cannot reach the engine"


def test_checks_are_printed_by_area_with_what_helps_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_checks(
        [
            Check("core", "python", "ok", "3.11"),
            Check("extras", "onnx", "missing", "lacks x", "pip"),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "core", "  ok      python  3.11", "", "extras", "  missing onnx    lacks x",
        "                  pip",
    ]  # fmt: skip
