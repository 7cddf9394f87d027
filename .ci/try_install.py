"""Installs classmark into a new environment and classifies one paper there, away from the checkout.

python .ci/try_install.py --wheel FOLDER      a wheel of this machine, with requirements/core.txt
python .ci/try_install.py --published         the newest version on the package index

Only the standard library and pip: the machine may have nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFUSED = 3
TEXT = "We train neural networks to translate between natural languages."
EXPECTED = "cs.CL"


def install_wheel(python: Path, folder: Path) -> None:
    """Install the newest wheel of a folder that fits this machine, and its locked packages."""
    wheels = sorted(folder.glob("classmark-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        sys.exit(f"error: {folder} holds no wheel of classmark. Run: make dist")
    lock = ROOT / "requirements" / "core.txt"
    pip(python, "install", "--require-hashes", "--requirement", str(lock))
    pip(
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--find-links",
        str(folder),
        "--pre",
        "classmark",
    )


def install_published(python: Path) -> None:
    """Install the newest version of the package index, as anybody would."""
    pip(python, "install", "classmark")


def pip(python: Path, *words: str) -> None:
    """Run pip in an environment; end the program if there is nothing to install."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *words, "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No matching distribution found for classmark" in done.stderr:
        print("refused: there is no classmark to install for this machine", file=sys.stderr)
        sys.exit(REFUSED)
    if done.returncode:
        sys.exit(f"error: pip {' '.join(words)}: {done.stderr.strip()}")


def main(words: Sequence[str] | None = None) -> int:
    """Install, classify, and print both the version and the answer."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheel", type=Path, metavar="FOLDER", help="folder with wheels")
    what.add_argument("--published", action="store_true", help="from the package index")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="install-") as name:
        folder = Path(name)
        venv.create(folder / "clean", with_pip=True)
        scripts = folder / "clean" / ("Scripts" if os.name == "nt" else "bin")
        if options.published:
            install_published(scripts / "python")
        else:
            install_wheel(scripts / "python", options.wheel.resolve())
        environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
        for arguments, expected in ((["--version"], "classmark "), (["classify", TEXT], EXPECTED)):
            done = subprocess.run(
                [scripts / "classmark", *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or expected not in done.stdout:
                shown = (done.stdout + done.stderr).strip()
                sys.exit(f"error: classmark {arguments[0]} said {shown!r}, without {expected!r}")
            print(done.stdout.strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
