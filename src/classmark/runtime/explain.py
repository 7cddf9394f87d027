"""The few terms that decided, such that nothing is left unsaid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from classmark.records import Evidence

EXACT_LINEAR = "exact_linear"
OCCLUSION = "occlusion"
N_TERMS = 12
BIAS = "(bias)"
RESIDUAL = "(residual)"
OTHER_TERMS = "(other terms)"


def explain(
    contributions: Sequence[tuple[str, float]], *, temperature: float
) -> tuple[Evidence, ...]:
    """Return the evidence for the top category against the runner-up.

    Weights are logits divided by the temperature, so they sum to ``log(p_top / p_runner_up)`` of
    the published probabilities (up to the float32 rounding of the scores).

    Args:
        contributions: every term with its weight in raw logits; the bias of a linear model under
            ``(bias)``, what occlusion leaves unexplained under ``(residual)``.
        temperature: of the bundle's policy.

    Returns:
        The heaviest terms by falling magnitude, then bias or residual, then one entry for
        all terms that are not listed, if there are any.
    """
    scaled = [Evidence(term, weight / temperature) for term, weight in contributions]
    rest = RESIDUAL if any(e.term == RESIDUAL for e in scaled) else BIAS
    terms = sorted((e for e in scaled if e.term != rest), key=lambda e: (-abs(e.weight), e.term))
    remainder = Evidence(rest, math.fsum(e.weight for e in scaled if e.term == rest))
    listed, others = terms[:N_TERMS], terms[N_TERMS:]
    if not others:
        return (*listed, remainder)
    return (*listed, remainder, Evidence(OTHER_TERMS, math.fsum(e.weight for e in others)))
