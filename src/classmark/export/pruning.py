"""What leaves an encoder, as it is asked for on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from classmark.errors import InvalidConfig

_ENTRY = re.compile(r"([a-z]+)=([0-9.]+)")


@dataclass(frozen=True)
class Pruning:
    """What leaves an encoder.

    Attributes:
        vocabulary: share of the pieces, 0..1: the rarest of the training papers.
        layers: number of layers.
        heads: number of attention heads, of all layers together.
    """

    vocabulary: float = 0.0
    layers: int = 0
    heads: int = 0

    @classmethod
    def parse(cls, text: str) -> Pruning:
        """Return what ``vocabulary=0.5,layers=2,heads=12`` says; an empty text prunes nothing.

        Raises:
            InvalidConfig: it says something else, or an amount is out of range.
        """
        found: dict[str, float] = {}
        for entry in text.split(",") if text else ():
            match = _ENTRY.fullmatch(entry.strip())
            name, amount = match.groups() if match else ("", "")
            if name not in {field.name for field in fields(cls)} or name in found:
                raise InvalidConfig(
                    f"--prune {text!r}: {entry!r} is not one of vocabulary=SHARE, layers=N and "
                    "heads=N, each given once. Give for example --prune vocabulary=0.5,layers=2."
                )
            found[name] = _amount(name, amount, text)
        return cls(**found)  # type: ignore[arg-type]

    def __str__(self) -> str:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return ",".join(f"{name}={amount:g}" for name, amount in named.items() if amount)

    def __bool__(self) -> bool:
        return bool(self.vocabulary or self.layers or self.heads)


def _amount(name: str, amount: str, text: str) -> float:
    try:
        value = float(amount) if name == "vocabulary" else int(amount)
    except ValueError:
        value = -1
    if name == "vocabulary" and not 0 < value < 1:
        raise InvalidConfig(f"--prune {text!r}: the share {amount} must be between 0 and 1.")
    if name != "vocabulary" and value < 1:
        raise InvalidConfig(f"--prune {text!r}: {name}={amount} must be a whole number from 1.")
    return value
