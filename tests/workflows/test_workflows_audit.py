"""`make audit` and `make licences`: what is found, what is accepted, and what no network means."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import audit as ci
import pytest

from make_targets import make, needs_make

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "audit.py"
pytest.importorskip("pip_audit", reason="needs the group lint: make check")
KNOWN = {
    "id": "OSV-1",
    "summary": "Reads beyond the end",
    "affected": [
        {
            "package": {"name": "holed", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """Knows one vulnerability: that of `holed` 1.0."""

    status = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        holed = (asked["package"]["name"], asked["version"]) == ("holed", "1.0")
        body = json.dumps({"vulns": [KNOWN]} if holed else {}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/v1/query"
        finally:
            http.shutdown()
            thread.join()


def audit(address: str, folder: Path, *pins: str) -> tuple[int, str]:
    """Return the exit code and what the command prints about some pins."""
    lock = folder / "lock.txt"
    lock.write_text("".join(f"{pin} \\\n    --hash=sha256:00\n" for pin in pins))
    done = subprocess.run(
        [sys.executable, SCRIPT, lock],
        env={**os.environ, "CLASSMARK_OSV_URL": address},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow  # pip-audit starts in about two seconds
def test_a_known_vulnerability_fails_and_names_the_version_that_has_the_fix(
    address: str, tmp_path: Path
) -> None:
    code, text = audit(address, tmp_path, "holed==1.0", "whole==3.1 ; python_version > '3'")
    assert code == 1, text
    assert "holed 1.0: OSV-1, fixed in 2.0" in text
    assert "2 packages, 1 known vulnerabilities" in text


@pytest.mark.slow
def test_two_versions_of_a_package_are_both_asked_for(address: str, tmp_path: Path) -> None:
    code, text = audit(address, tmp_path, "holed==2.0", "holed==1.0", "holed==2.0")
    assert code == 1, text
    assert "2 packages, 1 known vulnerabilities" in text


@pytest.mark.slow
def test_without_network_one_line_says_that_nothing_was_checked(tmp_path: Path) -> None:
    code, text = audit("http://127.0.0.1:9/v1/query", tmp_path, "whole==3.1")
    assert code == 0, text
    assert text == (
        "audit: nothing was checked, the list of vulnerabilities is out of reach: "
        "127.0.0.1 does not answer\n"
    )


@pytest.mark.slow
def test_a_list_that_answers_with_an_error_is_not_taken_for_a_clean_one(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Osv, "status", 400)
    code, text = audit(address, tmp_path, "whole==3.1")
    assert code == 1
    assert "error: pip-audit failed" in text


def test_an_accepted_vulnerability_has_a_reason() -> None:
    assert not [name for name, reason in ci.ACCEPTED.items() if len(reason) < 20]


@pytest.mark.slow  # asks for hundreds of packages
@needs_make
def test_every_lock_and_torch_are_audited(address: str) -> None:
    packages = ci.pins(ci.audited_files())
    assert len(packages) > 150
    assert {"numpy", "mlflow", "pytest", "torch"} <= {
        package.partition("==")[0] for package in packages
    }
    done = make("audit", CLASSMARK_OSV_URL=address)
    assert done.stdout == f"audit: {len(packages)} packages, 0 known vulnerabilities\n", done.stderr


@needs_make
def test_no_installed_package_has_a_licence_that_is_not_allowed() -> None:
    pytest.importorskip("piplicenses", reason="needs the group lint: make check")
    done = make("licences")
    assert done.returncode == 0, done.stderr
    assert "MIT" in done.stdout
    assert done.stdout.startswith(f"{sys.prefix}:\n")


@pytest.mark.slow  # makes an environment
@needs_make
def test_an_environment_of_other_tests_is_looked_at_and_a_foreign_licence_in_it_fails(
    tmp_path: Path,
) -> None:
    pytest.importorskip("piplicenses", reason="needs the group lint: make check")
    venv.create(tmp_path / "other")
    (site,) = (tmp_path / "other").glob("[lL]ib/**/site-packages")
    (site / "foreign-1.0.dist-info").mkdir()
    metadata = site / "foreign-1.0.dist-info/METADATA"
    for licence, code in (("MIT", 0), ("GPL-3.0-only", 2)):
        metadata.write_text(
            f"Metadata-Version: 2.4\nName: foreign\nVersion: 1.0\nLicense-Expression: {licence}\n"
        )
        done = make("licences", f"LICENCE_VENVS={sys.prefix} {tmp_path / 'other'}")
        assert done.returncode == code, done.stderr
    assert "license GPL-3.0-only not in allow-only licenses was found for package foreign" in (
        done.stderr
    )


def test_a_licence_that_is_not_on_the_list_fails() -> None:
    pytest.importorskip("piplicenses", reason="needs the group lint: make check")
    command = [sys.executable, "-m", "piplicenses", "--allow-only", "Apache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
