"""What commands that read or write datasets and pages need: the packages of an extra."""

from __future__ import annotations

from importlib.util import find_spec

from classmark.errors import MissingExtra

_PACKAGES = ("polars", "pyarrow", "jinja2")


def need_packages(feature: str) -> None:
    """Check that the packages of the extra ``data`` are installed.

    Raises:
        MissingExtra: the message says how to install them.
    """
    if any(find_spec(package) is None for package in _PACKAGES):
        raise MissingExtra(feature, "data")
