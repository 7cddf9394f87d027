"""Makes the scorer of a bundle, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from classmark.bundle import Bundle
from classmark.errors import BundleIncompatible
from classmark.kernels.scorer import Scorer
from classmark.papers import RECIPE_VERSION
from classmark.records import BundleManifest


@dataclass(frozen=True)
class Kernel:
    """What scores papers by the bundles of a kind.

    Attributes:
        home: the module whose ``load_scorer`` makes the scorer of a bundle.
        extra: of classmark, that it needs besides the core; "" if none.
        in_c: whether there is one in C beside the one in numpy.
        has_members: whether its bundles name two others, which the scorer opens.
    """

    home: str
    extra: str = ""
    in_c: bool = False
    has_members: bool = False


_KERNELS = {
    "linear": Kernel("classmark.kernels.linear", in_c=True),
    "transformer": Kernel("classmark.kernels.encoder", extra="onnx"),
    "cascade": Kernel("classmark.kernels.cascade", extra="onnx", in_c=True, has_members=True),
}


def make_scorer(bundle: Bundle) -> Scorer:
    """Return the scorer of a bundle of any kind.

    Raises:
        BundleIncompatible: it was made for another text recipe, or is of an unknown kind.
        MissingExtra: packages that its kind needs are not installed.
    """
    # Checked before the scorer reads the arrays: another recipe may come with other arrays.
    check_text_recipe(bundle)
    kernel = kernel_of(bundle.manifest)
    load: Callable[..., Scorer] = import_module(kernel.home).load_scorer
    return load(bundle, make_scorer) if kernel.has_members else load(bundle)


def kernel_of(manifest: BundleManifest) -> Kernel:
    """Return what scores papers by a bundle.

    Raises:
        BundleIncompatible: it is of an unknown kind.
    """
    kernel = _KERNELS.get(manifest.kind)
    if kernel is None:
        raise BundleIncompatible(
            f"model {manifest.name} is of kind {manifest.kind!r}, this classmark runs "
            f"{', '.join(map(repr, _KERNELS))}. Install a newer classmark."
        )
    return kernel


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
