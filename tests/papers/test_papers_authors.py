"""Two spellings of a name give one key, and no key is ever empty."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.papers.authors import MAX_NAME_CHARS, author_keys


@pytest.mark.parametrize(
    ("name", "full", "initial"),
    [
        ("Emmy Noether", "emmy noether", "noether e"),
        ("Noether, Emmy", "emmy noether", "noether e"),
        ("E. Noether", "e noether", "noether e"),
        ("Jan van der Berg", "jan van der berg", "berg j"),
        ("J.-P. Serre", "j p serre", "serre j"),
        ("Jean-Pierre Serre", "jean pierre serre", "serre j"),
        ("Paul Erdős", "paul erdos", "erdos p"),
        (r"Paul Erd\H{o}s", "paul erdos", "erdos p"),
        (r"Kurt G\"{o}del", "kurt godel", "godel k"),
        (r"S\o ren Kierke", "soren kierke", "kierke s"),
        ("Søren Kierke", "soren kierke", "kierke s"),
        ("Conan O'Brien", "conan obrien", "obrien c"),
        ("Martin King Jr.", "martin king", "king m"),
        ("King, Martin, Jr.", "martin king", "king m"),
        ("King, Jr.", "king", "king"),
        ("ATLAS Collaboration", "atlas collaboration", "atlas collaboration"),
        ("Plato", "plato", "plato"),
        ("王伟", "王伟", "王伟"),
        ("III", "iii", "iii"),
    ],
)
def test_a_name_has_the_keys_that_its_spellings_share(name: str, full: str, initial: str) -> None:
    assert author_keys(name) == (full, initial)


@pytest.mark.parametrize("text", ["", " ", "1234", "...", "\\", "{}"])
def test_a_text_without_a_letter_has_no_key(text: str) -> None:
    assert author_keys(text) is None


@given(st.text())
def test_keys_are_words_in_lower_case_and_keys_of_themselves(text: str) -> None:
    keys = author_keys(text)
    if keys is not None:
        assert keys.full
        assert keys.initial
        again = author_keys(keys.full)
        assert again is not None
        assert again.full == keys.full


@given(st.text(st.characters(categories=["Lu", "Ll"], max_codepoint=0x17F), min_size=2))
def test_case_and_the_form_of_accents_do_not_matter(word: str) -> None:
    name = f"Ada {word}"
    keys = author_keys(name)
    assert author_keys(unicodedata.normalize("NFD", name)) == keys
    assert author_keys(unicodedata.normalize("NFC", name)) == keys


def test_a_name_of_ten_thousand_characters_is_cut() -> None:
    assert author_keys("x" * 10_000) == ("x" * MAX_NAME_CHARS,) * 2
