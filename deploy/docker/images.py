"""Builds the images of classmark; `make images` runs this.

python deploy/docker/images.py [--only service,...] [--output REPORT.json]

Uses the container engine that answers, or starts Debian's dockerd meanwhile (as root). Where the
base image cannot be pulled, it is made by debootstrap: the same Debian and Python.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = "python:3.11-slim"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
TARGETS = ("service",)
_START_S = 60.0


class NoEngine(Exception):
    """There is no container engine, and none can be started; says what to install."""


@dataclass(frozen=True)
class Engine:
    """A container engine.

    Attributes:
        program: the client, e.g. ``/usr/bin/docker``.
        host: its socket as ``DOCKER_HOST`` takes it; None for the client's own choice.
    """

    program: str
    host: str | None = None

    def run(self, *words: str, check: bool = True, quiet: bool = True) -> str:
        """Return what a command of the client prints.

        Args:
            *words: the command, e.g. ``"image", "ls"``.
            check: an exit code other than 0 ends the program.
            quiet: keep what it prints from the terminal.
        """
        out = subprocess.PIPE if quiet else None
        done = subprocess.run(
            [self.program, *words],
            env=self.environment,
            stdout=out,
            stderr=out,
            text=True,
            check=False,
        )
        if check and done.returncode:
            sys.exit(f"error: {self.program} {' '.join(words)}: {(done.stderr or '').strip()}")
        return (done.stdout or "").strip()

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a command of the client."""
        host = {} if self.host is None else {"DOCKER_HOST": self.host}
        return {**os.environ, "DOCKER_BUILDKIT": "1", **host}

    @property
    def answers(self) -> bool:
        """Whether the engine can be reached."""
        command = [self.program, "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.returncode == 0


@contextmanager
def engine() -> Iterator[Engine]:
    """Yield an engine that answers; start one for the block if none does.

    Raises:
        NoEngine: there is none, and none can be started.
    """
    for name in ("docker", "podman"):
        found = shutil.which(name)
        if found and Engine(found).answers:
            yield Engine(found)
            return
    client, daemon = Path("/usr/bin/docker"), shutil.which("dockerd", path="/usr/sbin:/usr/bin")
    if daemon is None or not client.exists() or os.geteuid():
        raise NoEngine("no container engine answers. Install Docker or Podman and start it.")
    with _own_daemon(daemon, client) as own:
        yield own


@contextmanager
def _own_daemon(daemon: str, client: Path) -> Iterator[Engine]:
    root = Path(os.environ.get("CLASSMARK_DOCKER_ROOT", "/var/tmp/classmark-docker"))
    with tempfile.TemporaryDirectory(prefix="dockerd-") as name:
        folder = Path(name)
        host = f"unix://{folder}/sock"
        options = ["--data-root", str(root), "--exec-root", str(folder / "exec")]
        options += ["-H", host, "--pidfile", str(folder / "pid")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([daemon, *options], stdout=log, stderr=log)
        own = Engine(str(client), host)
        try:
            until = time.monotonic() + _START_S
            while not own.answers:
                if process.poll() is not None or time.monotonic() > until:
                    lines = (folder / "log").read_text(errors="replace").splitlines()
                    raise NoEngine(f"dockerd does not start: {' '.join(lines[-1:])}")
                time.sleep(0.2)
            yield own
        finally:
            process.terminate()
            process.wait()


def ensure_base(found: Engine) -> None:
    """Make the base image present: pulled, or made by debootstrap."""
    if found.run("image", "ls", "--quiet", BASE):
        return
    if not subprocess.run(
        [found.program, "pull", "--quiet", BASE],
        env=found.environment,
        capture_output=True,
        check=False,
    ).returncode:
        return
    if shutil.which("debootstrap") is None:
        raise NoEngine(f"{BASE} cannot be pulled, and debootstrap is not installed to make it.")
    print("making the base image by debootstrap ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="rootfs-") as name:
        rootfs = Path(name) / "rootfs"
        options = ["--variant=minbase", f"--include={PACKAGES}"]
        subprocess.run(
            ["debootstrap", *options, "bookworm", str(rootfs)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        _adapt(rootfs)
        tar = ["tar", "-C", str(rootfs), "-c", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
            subprocess.run(
                [found.program, "import", "-", BASE], stdin=packing.stdout, env=found.environment,
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip


def _adapt(rootfs: Path) -> None:
    """Let pip install into Debian's Python, with the certificates of this machine."""
    shutil.copyfile(CERTIFICATES, rootfs / "etc/ssl/certs/ca-certificates.crt")
    (rootfs / "etc/pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
    for marker in rootfs.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    (rootfs / "usr/bin/python").symlink_to("python3")
    for package in rootfs.glob("var/cache/apt/archives/*.deb"):
        package.unlink()


def build(found: Engine, target: str, *, quiet: bool = False) -> str:
    """Return the tag of an image that was built from this checkout."""
    tag = f"classmark/{target}"
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    options = ["--file", str(ROOT / "deploy/docker/Dockerfile"), "--target", target, "--tag", tag]
    options += ["--network", "host", "--build-arg", f"COMMIT={commit or 'unknown'}"]
    found.run("build", *options, str(ROOT), quiet=quiet)
    return tag


def facts_of(found: Engine, tag: str) -> dict[str, object]:
    """Return size and layers of an image."""
    value = json.loads(found.run("image", "inspect", tag))[0]
    return {
        "image": tag,
        "megabytes": round(value["Size"] / 1e6, 1),
        "layers": len(value["RootFS"]["Layers"]),
    }


def main(words: Sequence[str] | None = None) -> int:
    """Build the images, print what they weigh."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", default=",".join(TARGETS), help="images, separated by commas")
    options = parser.parse_args(words)
    try:
        with engine() as found:
            ensure_base(found)
            for target in options.only.split(","):
                print(json.dumps(facts_of(found, build(found, target))))
    except NoEngine as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
