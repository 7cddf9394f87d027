"""Weights & Biases as a tracker, in a process of its own; its runs that were not uploaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from classmark.errors import MissingExtra, RunNotFound, TrackerDown
from classmark.storage import locked_folder
from classmark.tracking.child import ChildTracker
from classmark.tracking.tracker import RunInfo

FOLDER = "wandb"
_OWN_SERVER = "https://api.wandb.ai"
_KEY = "WANDB_API_KEY"
SYNCED = ".synced"
"""What W&B appends to the name of a file of a run for the sign that a server has it."""
_ERROR = "ERROR"
_CUT_OFF = "the file ends with an incomplete record"
# Graphs of errors of the W&B client itself go nowhere.
_QUIET = {"WANDB_ERROR_REPORTING": "false", "DO_NOT_TRACK": "true"}
# A server that does not answer is given up after seconds, unless the environment says otherwise.
_SHORT = {"WANDB_INIT_TIMEOUT": "20"} | {
    f"WANDB__{part}_{limit}": value
    for part in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
    for limit, value in (
        ("RETRY_MAX", "1"),
        ("RETRY_WAIT_MIN_SECONDS", "1"),
        ("RETRY_WAIT_MAX_SECONDS", "1"),
        ("TIMEOUT_SECONDS", "60" if part == "FILE_TRANSFER" else "5"),
    )
}


@dataclass(frozen=True)
class WandbPlace:
    """Where W&B keeps runs.

    Attributes:
        folder: on this machine; runs that cannot be uploaded now wait there.
        url: of the server, "" for W&B's own.
        project: name that the runs are grouped under.
        mode: ``online``, ``offline`` or ``auto``: online with a key, unless ``WANDB_MODE`` is set.
    """

    folder: str
    url: str
    project: str
    mode: str

    @classmethod
    def beside(cls, runs_dir: Path, url: str = "", project: str = "", mode: str = "") -> WandbPlace:
        """Return where W&B keeps the runs of a folder of runs."""
        return cls(str(runs_dir.resolve()), url, project, mode)

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return f"W&B at {self.url}" if self.url else "W&B"

    @property
    def server(self) -> str:
        """Return the address of the server that runs are sent to."""
        return self.url or _OWN_SERVER

    def chosen_mode(self) -> str:
        """Return ``online`` or ``offline``; "" leaves it to ``WANDB_MODE``."""
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE"):
            return ""
        return "online" if self.has_key() else "offline"

    def has_key(self) -> bool:
        """Return whether the environment, or what ``wandb login`` wrote, holds an API key."""
        if os.environ.get(_KEY, "").strip():
            return True
        try:
            host = urlsplit(self.server).netloc
            return netrc(os.environ.get("NETRC")).authenticators(host) is not None
        except (OSError, ValueError, NetrcParseError):
            return False

    def staging(self, run: str) -> Path:
        """Return the folder for copies of the files of a run's artifacts, until it is uploaded.

        The process that writes the run, or uploads it, holds this folder.
        """
        return Path(self.folder) / FOLDER / "data" / run

    def environment(self, run: str) -> dict[str, str]:
        """Return the variables of a process that imports W&B for a run."""
        cache = Path(self.folder) / FOLDER / "cache"
        folders = {"WANDB_DATA_DIR": str(self.staging(run)), "WANDB_CACHE_DIR": str(cache)}
        server = {"WANDB_BASE_URL": self.url} if self.url else {}
        return {**_SHORT, **folders, **os.environ, **server, **_QUIET}


class WandbTracker(ChildTracker):
    """Keeps a run in W&B.

    Args:
        place: where to.
        patience_s: longest that ``finish`` waits, in seconds.
    """

    writer = "classmark.tracking.wandb_writer"

    def __init__(self, place: WandbPlace, patience_s: float) -> None:
        super().__init__(patience_s)
        self._place = place

    @property
    def name(self) -> str:
        """Return W&B's place."""
        return self._place.name

    def figure(self, name: str, svg_or_png: Path) -> None:
        """Queue a picture; W&B's page shows it beside the metrics."""
        self._send({"call": "figure", "name": name, "path": str(svg_or_png.resolve())})

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Queue the files of the model, which become an artifact."""
        names = [path.relative_to(folder).as_posix() for path in files]
        self._send({"call": "model", "folder": str(folder.resolve()), "names": names})

    def _environment(self, run: RunInfo) -> dict[str, str]:
        return self._place.environment(run.name)

    def _described(self, run: RunInfo) -> dict[str, Any]:
        start = run.start
        config = {key: value for key, value in run.config.items() if key != "tracker"}
        described = {
            "name": run.name,
            "kind": start.kind,
            "command": start.command,
            "config": {**config, "commit": start.commit, "hardware": dict(run.hardware)},
            "dataset": Path(start.dataset).name,
            "dataset_digest": start.dataset_digest,
            "manifest": None if run.manifest is None else str(run.manifest.resolve()),
        }
        mode = self._place.chosen_mode()
        place = {
            **asdict(self._place),
            "mode": mode,
            "staging": str(self._place.staging(run.name)),
            "patience_s": self._patience_s,
        }
        return {"place": place, "run": described}


def has_wandb() -> bool:
    """Return whether W&B is installed; imports nothing of it."""
    return find_spec("wandb") is not None


def reason(said: str) -> str:
    """Return the first line of what W&B says of a failure: of the last attempt, without the key."""
    line = next(iter(said.strip().splitlines()), "").rpartition("attempt(s): ")[2]
    key = os.environ.get(_KEY, "").strip()
    return line.replace(key, "***") if key else line


def upload_problem(logs: Path) -> str:
    """Return why a run was not uploaded whole, "" if nothing is known against it.

    Args:
        logs: folder of W&B's logs of the run.
    """
    try:
        lines = (logs / "debug-internal.log").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that was cut off when the process ended
        if str(entry.get("level", "")).startswith(_ERROR):
            return reason(f"{entry.get('msg', '')}: {entry.get('error', '')}".strip(": "))
    return ""


def waiting_runs(runs_dir: Path) -> list[Path]:
    """Return the folders of W&B's runs that were not uploaded, or not whole, the oldest first.

    Raises:
        MissingExtra: W&B is not installed.
        RunNotFound: W&B has kept no run there.
    """
    if not has_wandb():
        raise MissingExtra("classmark runs sync", "wandb")
    local = runs_dir / FOLDER
    if not local.is_dir():
        raise RunNotFound(
            f"there is no {local}. Train with tracker=wandb, or say where the runs are with "
            "--runs-dir DIR."
        )
    files = local.glob("*run-*/run-*.wandb")
    return sorted(file.parent for file in files if not _is_synced(file))


def _is_synced(file: Path) -> bool:
    return file.with_name(file.name + SYNCED).exists()


def run_name(folder: Path) -> str:
    """Return the name of the run folder that a folder of W&B's is about."""
    return re.sub(r"^(offline-)?run-\d+_\d+-(.+)-\w+$", r"\2", folder.name)


def sync_run(place: WandbPlace, folder: Path) -> None:
    """Upload a run that was kept on this machine.

    Raises:
        OutputBusy: its fit has not ended.
        TrackerDown: it was not uploaded, or not whole; says why.
    """
    staging = place.staging(run_name(folder))
    with locked_folder(staging, "upload the run when its fit has ended"):
        said = _sync(place, folder)
        if not _is_synced(next(folder.glob("run-*.wandb"))):
            if _CUT_OFF in said:
                raise TrackerDown(
                    f"the file of the run {run_name(folder)} in {folder} ends with an incomplete "
                    f"record; {place.name} has all records before it, and shows a run that has "
                    "failed. Remove the folder, or `classmark runs sync` uploads it again."
                )
            raise TrackerDown(
                f"{place.name} did not take the run {run_name(folder)} ({said}). It is still in "
                f"{folder}; set {_KEY}, check the address, and run `classmark runs sync` again."
            )
        shutil.rmtree(staging, ignore_errors=True)


def _sync(place: WandbPlace, folder: Path) -> str:
    """Return the last thing that ``wandb sync`` says, an error if there is one."""
    (file,) = folder.glob("run-*.wandb")
    done = subprocess.run(
        (sys.executable, "-P", "-m", "wandb", "sync", "--include-online", str(file.resolve())),
        cwd=place.folder,  # where it writes logs
        env={**place.environment(run_name(folder)), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    said = done.stdout.strip().splitlines() or ["it gives no reason"]
    last = next((line for line in reversed(said) if "rror" in line), said[-1])
    return reason(last.removeprefix("wandb: "))
