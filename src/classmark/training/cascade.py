"""What making a cascade can be told; the defaults stand in conf/model/cascade.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from classmark.errors import InvalidConfig


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """Options of joining a fast and a deep model.

    Attributes:
        fast: name or folder of the bundle that is asked first.
        deep: name or folder of the bundle that is asked where the fast one is unsure.
        max_loss: accuracy on valid that may be lost against always asking the deep model, 0..1.
        threshold: below this probability of the fast model the deep one is asked; None chooses
            the cheapest threshold within ``max_loss``.
        mix: try mixing both scores where the deep model is asked.
        max_held_out: papers of valid and of test at most; None: all.
    """

    fast: str
    deep: str
    max_loss: float
    threshold: float | None
    mix: bool
    max_held_out: int | None

    def __post_init__(self) -> None:
        for name in ("max_loss", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidConfig(f"model.{name} is {value}, it must be from 0 to 1.")
        if self.max_held_out is not None and self.max_held_out < 1:
            raise InvalidConfig(f"model.max_held_out is {self.max_held_out}, it must be 1 or more.")
