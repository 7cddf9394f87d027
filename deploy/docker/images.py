"""Builds the images of classmark; `make images` runs this.

python deploy/docker/images.py [--only service,...] [--base IMAGE]

Uses the container engine that answers, or starts Debian's dockerd meanwhile (as root). Where the
base image cannot be pulled, it is made by debootstrap: the same Debian and Python.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = "python:3.11-slim"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
TARGETS = ("service", "service-onnx", "service-gcp", "evaluate", "train", "tracking")
WHEELS = ROOT / "build" / "wheels"
# What a service needs to run with: no capability, nothing to write but its volume and /tmp.
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)
_START_S, _READY_S = 60.0, 60.0
_KEPT_LAYERS = "8GB"


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
            # Nobody else looks after its disk: images that a later build replaced, and old layers.
            own.run("image", "prune", "--force", check=False)
            own.run("builder", "prune", "--force", "--keep-storage", _KEPT_LAYERS, check=False)
        finally:
            process.terminate()
            process.wait()
            # The network of the host, as containers of this daemon saw it, stays mounted.
            for mounted in folder.glob("exec/netns/*"):
                subprocess.run(["umount", str(mounted)], capture_output=True, check=False)


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


def fetch_torch() -> None:
    """Put the wheel of torch that pip finds on this machine where the build of ``train`` looks.

    Without one, the build takes what its own pip finds.
    """
    WHEELS.mkdir(parents=True, exist_ok=True)
    if not any(WHEELS.glob("torch-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--python-version", "3.11", "--dest", str(WHEELS)]
        command += ["--requirement", str(ROOT / "requirements" / "torch.in")]
        subprocess.run(command, check=False)


def build(found: Engine, target: str, *, base: str = BASE, quiet: bool = False) -> str:
    """Return the tag of an image that was built from this checkout."""
    if target == "train":
        fetch_torch()
    source = (ROOT / "src" / "classmark" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"', source, re.MULTILINE)
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    facts = {
        "BASE": base,
        "TITLE": f"classmark {target}",
        "VERSION": version[1] if version else "unknown",
        "COMMIT": commit or "unknown",
    }
    tag = f"classmark/{target}"
    options = ["--file", str(ROOT / "deploy/docker/Dockerfile"), "--target", target, "--tag", tag]
    options += [word for name in facts for word in ("--build-arg", f"{name}={facts[name]}")]
    found.run("build", "--network", "host", *options, str(ROOT), quiet=quiet)
    return tag


@contextmanager
def running(found: Engine, image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Yield the container and the address of a service that is ready.

    Args:
        found: the engine.
        image: tag of an image that serves on port 8000.
        *options: further options of ``docker run``.
    """
    port = ("--publish", "127.0.0.1::8000")
    container = found.run("run", "--detach", *HARDENED, *port, *options, image)
    try:
        url = f"http://{found.run('port', container, '8000').splitlines()[0]}"
        until = time.monotonic() + _READY_S
        while not _ready(url):
            if time.monotonic() > until:
                sys.exit(f"error: {image} is not ready: {found.run('logs', container)}")
            time.sleep(0.02)
        yield container, url
    finally:
        found.run("rm", "--force", "--volumes", container)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


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
    parser.add_argument("--base", default=BASE, help="image with Debian and Python")
    options = parser.parse_args(words)
    if unknown := sorted(set(options.only.split(",")) - set(TARGETS)):
        parser.error(f"--only {unknown[0]} is not an image. Choose from {', '.join(TARGETS)}.")
    try:
        with engine() as found:
            if options.base == BASE:
                ensure_base(found)
            for target in options.only.split(","):
                print(json.dumps(facts_of(found, build(found, target, base=options.base))))
    except NoEngine as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
