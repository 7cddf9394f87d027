"""Makes the scorer of a bundle, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from classmark.bundle import Bundle
from classmark.errors import BundleIncompatible
from classmark.kernels.scorer import Scorer
from classmark.papers import RECIPE_VERSION

_SCORERS = {
    "linear": "classmark.kernels.linear",
    "transformer": "classmark.kernels.encoder",
    "cascade": "classmark.kernels.cascade",
}


def make_scorer(bundle: Bundle) -> Scorer:
    """Return the scorer of a bundle of any kind.

    Raises:
        BundleIncompatible: it was made for another text recipe, or is of an unknown kind.
        MissingExtra: packages that its kind needs are not installed.
    """
    # Checked before the scorer reads the arrays: another recipe may come with other arrays.
    check_text_recipe(bundle)
    home = _SCORERS.get(bundle.manifest.kind)
    if home is None:
        raise BundleIncompatible(
            f"model {bundle.manifest.name} is of kind {bundle.manifest.kind!r}, this classmark "
            f"runs {', '.join(map(repr, _SCORERS))}. Install a newer classmark."
        )
    load: Callable[..., Scorer] = import_module(home).load_scorer
    return load(bundle, make_scorer) if bundle.manifest.kind == "cascade" else load(bundle)


def check_text_recipe(bundle: Bundle) -> None:
    """Check that a bundle was fitted with the text recipe of this classmark.

    Raises:
        BundleIncompatible: it was fitted with another one.
    """
    written_for = bundle.manifest.text_recipe
    if written_for != RECIPE_VERSION:
        raise BundleIncompatible(
            f"model {bundle.manifest.name} {bundle.manifest.version} was fitted with text recipe "
            f"{written_for!r}, this classmark has {RECIPE_VERSION!r}. Install the classmark that "
            "it was made for, or train and export it again."
        )
