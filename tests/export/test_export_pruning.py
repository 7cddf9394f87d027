"""What --prune says: every text is understood or refused, and what is understood comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidConfig
from classmark.export import Pruning

SHARES = st.integers(1, 999).map(lambda n: n / 1000)
COUNTS = st.integers(0, 500)


@given(st.builds(Pruning, vocabulary=st.just(0.0) | SHARES, layers=COUNTS, heads=COUNTS))
def test_what_is_written_is_read_back(pruning: Pruning) -> None:
    assert Pruning.parse(str(pruning)) == pruning
    assert bool(pruning) == bool(str(pruning))


@given(
    st.text(max_size=8)
    | st.lists(
        st.tuples(
            st.sampled_from(["vocabulary", "layers", "heads", ""]), st.text("0159.-e", max_size=3)
        ),
        max_size=3,
    ).map(lambda entries: ",".join(f"{name}={amount}" for name, amount in entries))
)
def test_any_text_prunes_what_can_be_pruned_or_is_refused(text: str) -> None:
    try:
        pruning = Pruning.parse(text)
    except InvalidConfig:
        return
    assert 0 <= pruning.vocabulary < 1
    assert pruning.layers >= 0
    assert pruning.heads >= 0


def test_the_order_of_entries_and_blanks_between_them_do_not_matter() -> None:
    found = Pruning.parse("heads=12, vocabulary=0.5,layers=2")
    assert found == Pruning(vocabulary=0.5, layers=2, heads=12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("vocabulary=0", r"the share 0 must be between 0 and 1"),
        ("vocabulary=1", r"the share 1 must be between 0 and 1"),
        ("vocabulary=1.5", r"the share 1\.5 must be between 0 and 1"),
        ("vocabulary=.5.5", r"the share \.5\.5 must be between 0 and 1"),
        ("layers=0", r"layers=0 must be a whole number from 1"),
        ("heads=0.5", r"heads=0\.5 must be a whole number from 1"),
        ("layers", r"'layers' is not one of vocabulary=SHARE, layers=N and heads=N"),
        ("weights=0.5", r"'weights=0\.5' is not one of"),
        ("layers=1,layers=2", r"'layers=2' is not one of .*, each given once"),
        ("layers=-1", r"'layers=-1' is not one of"),
        ("layers=1,", r"'' is not one of"),
    ],
)
def test_what_cannot_be_pruned_is_named(text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        Pruning.parse(text)
