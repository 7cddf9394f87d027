"""Builds sdist and wheel of a commit; the same commit gives the same bytes in any folder.

python .ci/dist.py [--commit HEAD] [--output dist] [--sdist]

The commit is exported first, so uncommitted changes are left out. The wheel is built from the
sdist, with the locked setuptools of the environment that runs this.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build(root: Path, commit: str, output: Path, *, only_sdist: bool = False) -> list[Path]:
    """Return sdist and wheel of a commit.

    Args:
        root: checkout with the commit.
        commit: anything that git resolves.
        output: folder for both; other files in it stay.
        only_sdist: leave the wheel to another machine.
    """
    epoch = int(_git(root, "show", "--no-patch", "--format=%ct", f"{commit}^{{commit}}"))
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="dist-") as name:
        source, made = Path(name) / "source", Path(name) / "made"
        export(root, commit, source)
        what = ["--sdist"] if only_sdist else []
        done = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", made, source],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{done.stdout}\nerror: the build of {commit} failed; what it said is above.")
        for sdist in made.glob("*.tar.gz"):
            sdist.write_bytes(normalised(sdist.read_bytes(), epoch))
        output.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, output)) for path in sorted(made.iterdir())]


def export(root: Path, commit: str, folder: Path, *paths: str) -> None:
    """Write the files of a commit into a folder.

    Args:
        root: checkout with the commit.
        commit: anything that git resolves.
        folder: made if it does not exist.
        *paths: only these; all without any.
    """
    _git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    archive = subprocess.run(
        ["git", "-C", str(root), "archive", "--format=tar", commit, "--", *paths],
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


def normalised(sdist: bytes, epoch: int) -> bytes:
    """Return an sdist without times, users and order of the machine that made it."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid = epoch, 0, 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(packed.getvalue(), mtime=epoch)


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip() or "there is no such commit"
        sys.exit(f"error: git {' '.join(words)}: {said}. Name a commit that this checkout has.")
    return done.stdout.strip()


def main(words: Sequence[str] | None = None) -> int:
    """Build both and print the SHA-256 of each."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--commit", default="HEAD", help="what to build; HEAD")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder; dist")
    parser.add_argument("--sdist", action="store_true", help="no wheel")
    options = parser.parse_args(words)
    for path in build(ROOT, options.commit, options.output, only_sdist=options.sdist):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
