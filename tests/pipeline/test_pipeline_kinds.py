from __future__ import annotations

import pytest

from classmark.kernels import opening
from classmark.pipeline.kinds import KINDS, wing
from classmark.records.run import PARTS, Kind


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_wing_that_fits_and_exports(kind: Kind) -> None:
    assert callable(wing(kind).train)
    assert callable(wing(kind).make_candidate)


def test_records_and_kernels_know_the_same_kinds() -> None:
    assert list(PARTS) == list(KINDS)
    assert set(KINDS) == {*vars(opening)["_KERNELS"]}
