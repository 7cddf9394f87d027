"""Asks a public list of vulnerabilities for every locked package, and for torch.

python .ci/audit.py [LOCK ...]

Where the list cannot be reached, one line says so and nothing fails: a check of the code needs no
network. CLASSMARK_OSV_URL names another server that speaks the protocol of OSV.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Vulnerability -> why it does not concern classmark. A test asks for the reason.
ACCEPTED: dict[str, str] = {}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_NOT_REACHED = re.compile(
    r"^\S*(?:(?:Connection|Proxy|SSL)Error|(?:Connect|Read)Timeout)\b.*|Could not connect.*",
    re.MULTILINE,
)
_HOST = re.compile(r"host='([^']+)'")


def audited_files() -> list[Path]:
    """Return every lock, and the file that names the version of torch, which is in no lock."""
    folder = ROOT / "requirements"
    return [*sorted(folder.glob("*.txt")), folder / "torch.in"]


def pins(locks: Iterable[Path]) -> list[str]:
    """Return each locked ``name==version`` once, in order."""
    found = {pin for lock in locks for pin in _PIN.findall(lock.read_text(encoding="utf-8"))}
    return [f"{name}=={version}" for name, version in sorted(found)]


def audit(packages: Sequence[str]) -> list[dict[str, Any]] | str:
    """Return each package with what is known against it, or why nothing could be asked."""
    answers: list[dict[str, Any]] = []
    for batch in _one_version_each(packages):
        done = _ask(batch)
        if done.returncode and (reason := _NOT_REACHED.findall(done.stderr)):
            host = _HOST.search(reason[-1])
            return f"{host[1]} does not answer" if host else str(reason[-1])
        if not done.stdout.strip():
            sys.exit(f"error: pip-audit failed: {done.stderr.strip()[-2000:]}")
        answers += json.loads(done.stdout)["dependencies"]
    return answers


def _one_version_each(packages: Sequence[str]) -> list[list[str]]:
    """Return the packages in batches that pip-audit takes: a name is in each at most once."""
    batches: list[dict[str, str]] = []
    for package in packages:
        name = package.partition("==")[0]
        free = next((batch for batch in batches if name not in batch), None)
        if free is None:
            batches.append(free := {})
        free[name] = package
    return [list(batch.values()) for batch in batches]


def _ask(packages: Sequence[str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(packages) + "\n", encoding="utf-8")
        options = ["--requirement", str(file), "--no-deps", "--disable-pip"]
        options += [
            "--format",
            "json",
            "--progress-spinner",
            "off",
            "--vulnerability-service",
            "osv",
        ]
        if address := os.environ.get("CLASSMARK_OSV_URL"):
            options += ["--osv-url", address]
        for name in ACCEPTED:
            options += ["--ignore-vuln", name]
        return subprocess.run(
            [sys.executable, "-m", "pip_audit", *options],
            capture_output=True,
            text=True,
            check=False,
        )


def main(words: Sequence[str] | None = None) -> int:
    """Print what is known against the locked packages; 1 if there is anything."""
    named = [Path(word) for word in (sys.argv[1:] if words is None else words)]
    packages = pins(named or audited_files())
    found = audit(packages)
    if isinstance(found, str):
        print(f"audit: nothing was checked, the list of vulnerabilities is out of reach: {found}")
        return 0
    known = [(one, vulnerability) for one in found for vulnerability in one.get("vulns", ())]
    for one, vulnerability in known:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"{one['name']} {one['version']}: {vulnerability['id']}, fixed in {fixed}")
    print(f"audit: {len(packages)} packages, {len(known)} known vulnerabilities")
    if known:
        print(
            "Run: make lock UPGRADE=--upgrade. Or add to ACCEPTED in .ci/audit.py, with the reason."
        )
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
