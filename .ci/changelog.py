"""What a release needs beside its files: a tag that fits, and the notes of its version.

python .ci/changelog.py check TAG
python .ci/changelog.py notes TAG
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
_HEADING = re.compile(r"^## \[([^\]]+)\](?: — (\S+))?\s*$", re.MULTILINE)


def version_of(root: Path) -> str:
    """Return the version that the package states."""
    found = _VERSION.search((root / "src/classmark/__init__.py").read_text(encoding="utf-8"))
    if found is None:
        sys.exit('error: src/classmark/__init__.py has no line __version__ = "...".')
    return found[1]


def sections_of(changelog: str) -> dict[str, tuple[str | None, str]]:
    """Return the date and the text of each version of the changelog, by version."""
    headings = list(_HEADING.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    return {
        heading[1]: (heading[2], changelog[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    }


def faults_of(root: Path, tag: str, today: date) -> list[str]:
    """Return why a tag cannot be released, each with what to do; nothing if it can.

    Args:
        root: checkout of the tag.
        tag: as git has it, e.g. ``v1.2.0``.
        today: date that the version may have at the latest, UTC.
    """
    version, found = version_of(root), []
    if tag != f"v{version}":
        found.append(
            f"the tag is {tag!r} but the package says {version!r}. Tag v{version}, or set"
            " __version__ in src/classmark/__init__.py."
        )
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        found.append(f"{version!r} is not a version to release. Set one like 1.2.0.")
    sections = sections_of((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    day, text = sections.get(version, (None, ""))
    if not text:
        found.append(
            f"CHANGELOG.md says nothing under '## [{version}] — DATE'. Write what changed."
        )
    elif day is None or not _is_day(day, today):
        found.append(f"CHANGELOG.md dates {version} {day!r}. Write a date up to {today}.")
    if sections.get("Unreleased", (None, ""))[1]:
        found.append(f"CHANGELOG.md has text under [Unreleased]. Move it under [{version}].")
    return found


def _is_day(text: str, latest: date) -> bool:
    try:
        return date.fromisoformat(text) <= latest
    except ValueError:
        return False


def notes_of(root: Path, tag: str) -> str:
    """Return the text of the changelog on the version of a tag."""
    sections = sections_of((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    version = tag.removeprefix("v")
    if version not in sections:
        sys.exit(f"error: CHANGELOG.md has no section [{version}]. Write one.")
    return sections[version][1]


def main(words: Sequence[str] | None = None) -> int:
    """Check a tag, or print its notes."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("do", choices=("check", "notes"))
    parser.add_argument("tag", help="as git has it, e.g. v1.2.0")
    options = parser.parse_args(words)
    if options.do == "notes":
        print(notes_of(ROOT, options.tag))
        return 0
    faults = faults_of(ROOT, options.tag, datetime.now(UTC).date())
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if not faults:
        print(f"{options.tag} can be released")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
