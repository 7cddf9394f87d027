from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.papers import canonical_id


@pytest.mark.parametrize(
    ("identifier", "canonical"),
    [
        ("cs/9308101v1", "cs-9308101"),
        ("cs-9308101v1", "cs-9308101"),
        ("cs-9308101", "cs-9308101"),
        ("math.GT/0309136", "math-0309136"),
        ("arXiv:1607.01234v2", "1607.01234"),
        ("arxiv: 1607.01234v12 [cs.LG]", "1607.01234"),
        ("HEP-TH/9901001", "hep-th-9901001"),
        (" 0704.0001 ", "0704.0001"),
        ("https://arxiv.org/abs/hep-th/9901001", "hep-th-9901001"),
        ("http://www.arxiv.org/pdf/2001.00001v3.pdf", "2001.00001"),
        ("https://doi.org/10.48550/arXiv.2301.00001", "2301.00001"),
        ("oai:arXiv.org:0704.0001", "0704.0001"),
    ],
)
def test_canonical_id_drops_version_prefix_and_address(identifier: str, canonical: str) -> None:
    assert canonical_id(identifier) == canonical


@pytest.mark.parametrize(
    "identifier", ["smith-1234567v2", "10.1000/182", "1607.01234.5", "paper 7", "", "12345.678"]
)
def test_canonical_id_leaves_other_identifiers_alone(identifier: str) -> None:
    assert canonical_id(f" {identifier}\n") == identifier


@pytest.mark.slow
@given(
    st.one_of(
        st.text(),
        st.from_regex(r"\A(arXiv:)?(cs|math\.AG|hep-th)[/-][0-9]{7}(v[1-9])?\Z"),
        st.from_regex(r"\A(https://arxiv\.org/abs/)?[0-9]{4}\.[0-9]{4,5}(v[0-9])?\Z"),
    )
)
def test_canonical_id_is_idempotent(identifier: str) -> None:
    once = canonical_id(identifier)
    assert canonical_id(once) == once
