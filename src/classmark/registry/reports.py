"""Gate reports in a registry: which one says that a bundle passed."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from classmark.errors import ChangeRefused, InvalidReport, unreadable
from classmark.records import GateReport
from classmark.storage import write_text


def keep_report(folder: Path, content: bytes) -> str:
    """Keep a gate report under its own digest, which is returned.

    Raises:
        InvalidReport: it is not a gate report.
        StorageFailed: it cannot be written.
    """
    digest, path = sha256(content).hexdigest(), folder / f"{sha256(content).hexdigest()}.json"
    _subject(path, content)
    # Written again if it is there: the latest report about a bundle counts.
    write_text(path, content.decode())
    return digest


def passed_report(folder: Path, digest: str, report: Path | None) -> str | None:
    """Return the SHA-256 of a report that a bundle passed; None if there is none.

    Args:
        folder: of the reports of the registry.
        digest: of the bundle.
        report: the one to look at, which is kept; the latest of the registry if left out.

    Raises:
        InvalidReport: the one to look at cannot be read.
        ChangeRefused: it is about another bundle, or says that the bundle failed.
    """
    if report is None:
        return _latest(folder, digest)
    try:
        content = report.read_bytes()
    except OSError as error:
        raise InvalidReport(f"{report} {unreadable(error, 'Give a gate report')}") from error
    about, passed = _subject(report, content)
    if about != digest:
        raise ChangeRefused(
            f"{report} is about the bundle {about[:12]}, not about {digest[:12]}. Run `classmark "
            "registry gate` for this one."
        )
    if not passed:
        raise ChangeRefused(f"{report} says that {digest[:12]} did not pass. Promote another one.")
    return keep_report(folder, content)


def read_report(folder: Path, digest: str) -> GateReport:
    """Return a gate report.

    Args:
        folder: of the reports of the registry.
        digest: its SHA-256.

    Raises:
        InvalidReport: it is gone, or was edited.
    """
    path = folder / f"{digest}.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        advice = "Restore it from a copy of the registry"
        raise InvalidReport(f"{path} {unreadable(error, advice)}") from error
    if sha256(content).hexdigest() != digest:
        raise InvalidReport(f"{path} was edited. Restore it from a copy of the registry.")
    return _parsed(path, content)


def _latest(folder: Path, digest: str) -> str | None:
    """Return the latest report about a bundle if it passed: a later failure counts."""
    found: list[tuple[int, str, bool]] = []
    for path in folder.glob("*.json"):
        with suppress(OSError, InvalidReport):
            content = path.read_bytes()
            about, passed = _subject(path, content)
            if about == digest and sha256(content).hexdigest() == path.stem:
                found.append((path.stat().st_mtime_ns, path.stem, passed))
    latest = max(found, default=(0, "", False))
    return latest[1] if latest[2] else None


def _subject(path: Path, content: bytes) -> tuple[str, bool]:
    """Return which bundle a report is about, and whether that passed."""
    report = _parsed(path, content)
    return report.candidate.digest, report.passed


def _parsed(path: Path, content: bytes) -> GateReport:
    try:
        return GateReport.from_dict(json.loads(content))
    except (ValueError, AttributeError, RecursionError, InvalidReport) as error:
        raise InvalidReport(
            f"{path} is not a gate report ({error}). Give the JSON that `classmark registry gate` "
            "wrote."
        ) from error
