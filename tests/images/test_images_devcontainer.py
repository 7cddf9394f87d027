"""The dev container is built and entered: a clone in it makes its environment and passes tests."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from images import ROOT, Engine

pytestmark = [pytest.mark.images, pytest.mark.timeout(1_800)]

FOLDER = ROOT / ".devcontainer"
WORK = """
set -e
cp -R /source classmark
cd classmark
make help > /dev/null
chromium --version
make .venv-test/.ready DEEP=
.venv-test/bin/python -m pytest -q --no-cov tests/taxonomy
"""


def test_the_dev_container_is_entered_and_tests_pass_in_it(docker: Engine, tmp_path: Path) -> None:
    settings = json.loads((FOLDER / "devcontainer.json").read_text(encoding="utf-8"))
    file = FOLDER / settings["build"]["dockerfile"]
    context = FOLDER / settings["build"]["context"]
    docker.run(
        *("build", "--network", "host", "--tag", "classmark/dev", "--file", str(file)), str(context)
    )
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    subprocess.run(["chmod", "-R", "a+rX", str(tmp_path.parent)], check=True)
    environment = {
        **settings["containerEnv"],
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    }
    words = [word for key in environment for word in ("--env", f"{key}={environment[key]}")]
    words += ["--volume", f"{source}:/source:ro", "--user", settings["remoteUser"]]
    words += ["--workdir", "/home/developer", "--network", "host"]
    found = docker.run("run", "--rm", *words, "classmark/dev", "sh", "-c", WORK)
    assert "Chromium" in found
    assert re.search(r"^\d+ passed", found, re.MULTILINE)
