"""What ``profiler.*`` of a configuration says: what a fit is profiled for, and where that goes."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from classmark.errors import InvalidConfig, MissingExtra, StorageFailed
from classmark.records.fields import read_group
from classmark.storage import check_folder_place, expand_home

Kind = Literal["none", "cpu", "memory", "torch"]
HIGHEST_RATE = 1000
_PACKAGES = {"cpu": ("psutil", "jinja2"), "memory": ("memray", "psutil", "jinja2")}


@dataclass(frozen=True, kw_only=True)
class ProfilerConfig:
    """What a fit is profiled for.

    Attributes:
        kind: ``cpu`` samples what runs, ``memory`` finds what is held at the peak, ``torch`` (of a
            transformer) measures its operations; ``none``.
        rate: samples a second (``cpu``).
        folder: where the profile goes; None: ``profile`` in the folder of the run.
    """

    kind: Kind
    rate: int
    folder: Path | None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidConfig(
                f"profiler.kind is {self.kind!r}, choose one of: {', '.join(get_args(Kind))}."
            )
        if not 1 <= self.rate <= HIGHEST_RATE:
            raise InvalidConfig(
                f"profiler.rate is {self.rate}, it must be from 1 to {HIGHEST_RATE}."
            )


def read_profiler(composed: Mapping[str, Any]) -> ProfilerConfig:
    """Return the checked ``profiler`` group of a composed configuration.

    Raises:
        InvalidConfig: a key is unknown or missing, or a value of the wrong type or out of range.
        MissingExtra: what the profiler needs is not installed.
    """
    given = read_group(composed, "profiler", ProfilerConfig)
    if type(given["rate"]) is not int:
        raise InvalidConfig(f"profiler.rate must be a whole number, got {given['rate']!r}.")
    folder = given["folder"]
    config = ProfilerConfig(
        kind=given["kind"],
        rate=given["rate"],
        folder=None if folder is None else expand_home(str(folder)),
    )
    check_profiler(config.kind)
    return config


def check_profiler(kind: str) -> None:
    """Check that what a profiler needs is installed.

    Raises:
        MissingExtra: names the command that installs it.
    """
    packages = _PACKAGES.get(kind, ())
    is_missing = any(find_spec(name) is None for name in packages)
    if is_missing or (kind == "cpu" and sampler_path() is None):
        raise MissingExtra(f"profiler={kind}", "profile")


def check_folder(folder: Path) -> None:
    """Refuse, before anything is profiled, a folder that could not be written; leaves no trace.

    Raises:
        StorageFailed: something is there already, or the reason of the file system.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StorageFailed(f"{folder} already exists. Choose another folder for the profile.")
    check_folder_place(folder)


def sampler_path() -> str | None:
    """Return py-spy's program: of this environment, else on the PATH; None if there is none."""
    own = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    return own or shutil.which("py-spy")
