"""classmark gives every paper its classmark: arXiv categories from a title and an abstract."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classmark.errors import ClassmarkError
    from classmark.neighbours import Index
    from classmark.records import BadRecord, Paper
    from classmark.runtime import Classifier
    from classmark.wire import Answer

__version__ = "0.2.0.dev0"

_HOMES = {
    "Answer": "classmark.wire",
    "BadRecord": "classmark.records",
    "Classifier": "classmark.runtime",
    "ClassmarkError": "classmark.errors",
    "Index": "classmark.neighbours",
    "Paper": "classmark.records",
}

__all__ = [
    "Answer",
    "BadRecord",
    "Classifier",
    "ClassmarkError",
    "Index",
    "Paper",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used, so that ``import classmark`` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classmark' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
