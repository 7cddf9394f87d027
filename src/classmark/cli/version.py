"""What ``--version`` says; standard library only, so that it comes at once."""

from __future__ import annotations

from classmark import __version__
from classmark.bundle.find import find_bundle, read_header
from classmark.errors import BundleCorrupt, BundleNotFound

SHOWN_DIGITS = 8


def version_line() -> str:
    """Return the versions of the code and of the default model, unverified."""
    return f"classmark {__version__}, {_model()}"


def _model() -> str:
    try:
        name, version, digest = read_header(find_bundle())
    except BundleNotFound:
        return "no model is installed"
    except BundleCorrupt as error:
        return f"the default model is damaged: {error}"
    return f"model {name} {version} (sha256 {digest[:SHOWN_DIGITS]})"
