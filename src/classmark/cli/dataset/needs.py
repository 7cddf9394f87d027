"""What the commands of ``classmark dataset`` need: the packages of an extra."""

from __future__ import annotations

from importlib.util import find_spec

from classmark.errors import MissingExtra

_PACKAGES = {
    "data": ("polars", "pyarrow", "pandera"),
    "train": ("polars", "pyarrow", "pandera", "matplotlib"),
}


def need_packages(feature: str, extra: str) -> None:
    """Go on if the packages of an extra are there.

    Raises:
        MissingExtra: says how to install them.
    """
    if any(find_spec(package) is None for package in _PACKAGES[extra]):
        raise MissingExtra(feature, extra)
