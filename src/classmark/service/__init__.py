"""SERVICE: the HTTP API over one loaded model, its limits, keys, metrics and supervision.

Needs the extra ``serve``; importing the room without it raises ``MissingExtra``. Names load when
they are first used.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from classmark.service.http.app import create_app
    from classmark.service.http.service import Service
    from classmark.service.settings import ServiceSettings, make_settings
    from classmark.service.workers.supervisor import serve

_NEEDED = ("fastapi", "uvicorn", "pydantic_settings", "prometheus_client", "python_multipart")
_HOMES = {
    "Service": "classmark.service.http.service",
    "ServiceSettings": "classmark.service.settings",
    "create_app": "classmark.service.http.app",
    "make_settings": "classmark.service.settings",
    "serve": "classmark.service.workers.supervisor",
}

__all__ = ["Service", "ServiceSettings", "create_app", "make_settings", "serve"]

if any(find_spec(name) is None for name in _NEEDED):
    raise MissingExtra("The HTTP service", "serve")


def __getattr__(name: str) -> object:
    """Load a name of this room when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classmark.service' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_HOMES[name]), name)
    return found
