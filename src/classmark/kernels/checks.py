"""Reads what a bundle gives its kernel, and refuses what no kernel can answer with.

The digests of a bundle hold for whatever was written. So a kernel takes nothing on trust: every
array has its type and shape, every number its range, before the first paper comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle
from classmark.bundle.check import is_number, shown
from classmark.errors import BundleIncompatible
from classmark.kernels.calibration import GAP_KNOTS, TOP_KNOTS, CalibrationCurve

MOST_SCALE = 1e6
"""No number of a sound bundle comes near it, and no product or sum of such numbers overflows."""

N = TypeVar("N", bound=np.generic)


class BundleReader:
    """Reads arrays and parameters of one bundle; every method refuses what is out of bounds."""

    def __init__(self, bundle: Bundle, parameters: Mapping[str, Any] | None = None) -> None:
        """Read a bundle and these parameters; without them, those of its kernel."""
        self._bundle = bundle
        self._parameters = bundle.manifest.parameters if parameters is None else parameters

    def refuse(self, problem: str) -> NoReturn:
        """Refuse the bundle.

        Raises:
            BundleIncompatible: always.
        """
        manifest = self._bundle.manifest
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} {problem}. Install or export the model "
            "again."
        )

    def keys(self, *names: str) -> None:
        """Check that the parameters have these names and no others."""
        seen = sorted(self._parameters)
        if seen != sorted(names):
            self.refuse(f"has the parameters {shown(seen)}, its kind needs {sorted(names)}")

    def parameter(self, name: str) -> object:
        """Return a parameter of any type."""
        if name not in self._parameters:
            self.refuse(f"lacks the parameter {name!r}")
        return self._parameters[name]

    def number(self, name: str, low: float, high: float) -> float:
        """Return a parameter that is a number within these bounds."""
        value = self.parameter(name)
        if not is_number(value, low, high):
            self.refuse(f"has {name} {shown(value)}, it must be a number within {low:g}..{high:g}")
        return float(value)

    def whole_number(self, name: str, low: int, high: int) -> int:
        """Return a parameter that is a whole number within these bounds."""
        value = self.parameter(name)
        if type(value) is not int or not low <= value <= high:
            self.refuse(f"has {name} {shown(value)}, it must be a whole number in {low}..{high}")
        return int(value)

    def curve(self) -> CalibrationCurve | None:
        """Return the calibration curve, None if the bundle has none."""
        try:
            return curve_of(self.parameter("curve"))
        except ValueError as error:
            self.refuse(str(error))

    def array(self, name: str, dtype: type[N], shape: tuple[int | None, ...]) -> NDArray[N]:
        """Return an array of this type and shape; None stands for any length above 0."""
        array = self._bundle.array(name)
        fits = len(array.shape) == len(shape) and all(
            seen == wanted if wanted is not None else seen > 0
            for seen, wanted in zip(array.shape, shape, strict=True)
        )
        if array.dtype != np.dtype(dtype) or not fits:
            wanted = tuple("any" if n is None else n for n in shape)
            self.refuse(
                f"has an array {name} of {array.dtype} {array.shape}, it must be of "
                f"{np.dtype(dtype)} {wanted}"
            )
        return array  # type: ignore[return-value]

    def array_within(self, name: str, array: NDArray[Any], low: float, high: float) -> None:
        """Check that all numbers of an array are finite and within these bounds."""
        # Of a NaN no comparison is true.
        if not (array.min() >= low and array.max() <= high):
            self.refuse(
                f"has an array {name} with numbers from {array.min()} to {array.max()}, they must "
                f"be within {low:g}..{high:g}"
            )


def curve_of(value: object) -> CalibrationCurve | None:
    """Return a curve from its JSON object; None if there is none.

    Raises:
        ValueError: it is not a curve; says what it has.
    """
    if value is None:
        return None
    if not isinstance(value, dict) or sorted(value) != ["factors", "gaps"]:
        raise ValueError(f"has the curve {shown(value)}, it must have gaps and factors")
    gaps = numbers_of(value["gaps"], "a curve with gaps", len(GAP_KNOTS), 0)
    # Of a factor of 0 or less, the order of the labels would not be that of the logits.
    factors = numbers_of(value["factors"], "a curve with factors", len(TOP_KNOTS), 1 / MOST_SCALE)
    if gaps[0] != 0 or list(gaps) != sorted(gaps):
        raise ValueError(f"has a curve whose gaps do not rise from 0: {shown(list(gaps))}")
    return CalibrationCurve(gaps, factors)


def numbers_of(value: object, name: str, n: int, low: float) -> tuple[float, ...]:
    """Return n numbers from ``low`` to ``MOST_SCALE``; raises ValueError if they are not that."""
    if (
        not isinstance(value, list | tuple)
        or len(value) != n
        or not all(is_number(number, low, MOST_SCALE) for number in value)
    ):
        raise ValueError(
            f"has {name} {shown(value)}, it must have {n} numbers within {low:g}..{MOST_SCALE:g}"
        )
    return tuple(float(number) for number in value)
