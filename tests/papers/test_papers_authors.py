"""Two spellings of a name give one key, and no key is ever empty."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.papers.authors import MAX_NAME_CHARS, author_keys, from_medline

LETTERS = "abcdefghijklmnopqrstuvwxyzàçéíñöšüž"
NOT_OF_A_PERSON = ("jr", "sr", "ii", "iii", "iv", "group", "team")


def plain(word: str) -> str:
    """Return a word without its accents."""
    return unicodedata.normalize("NFD", word).encode("ascii", "ignore").decode()


WORDS = st.text(LETTERS, min_size=2, max_size=9).filter(
    lambda word: plain(word) not in NOT_OF_A_PERSON
)
PARTICLES = st.sampled_from(
    ["van", "van der", "van den", "de", "de la", "von", "di", "Le", "bin", "ter"]
)
COLLECTIVES = st.sampled_from(["Collaboration", "Collaborations", "Consortium", "Group", "Team"])
IDEOGRAPHS = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1)


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


@given(WORDS, PARTICLES, WORDS)
def test_particles_are_words_and_the_surname_is_the_last_one(
    first: str, particle: str, surname: str
) -> None:
    keys = author_keys(f"{first} {particle} {surname}")
    assert keys is not None
    assert author_keys(f"{particle} {surname}, {first}") == keys
    plain = author_keys(f"{first} {surname}")
    assert plain is not None
    assert keys.initial == plain.initial
    assert keys.full != plain.full


@given(WORDS, WORDS, WORDS, st.sampled_from("-\u2010\u2013"))
def test_a_hyphen_separates_words_as_a_blank_does(
    one: str, two: str, three: str, hyphen: str
) -> None:
    assert author_keys(f"{one}{hyphen}{two} {three}") == author_keys(f"{one} {two} {three}")
    assert author_keys(f"{one} {two}{hyphen}{three}") == author_keys(f"{one} {two} {three}")


@given(WORDS, WORDS, WORDS)
def test_initials_share_the_initial_key_of_the_name_and_dots_do_not_matter(
    first: str, middle: str, surname: str
) -> None:
    name = author_keys(f"{first} {middle} {surname}")
    short = author_keys(f"{first[0]}. {middle[0]}. {surname}")
    assert name is not None
    assert short is not None
    assert name.initial == short.initial
    for written in ("{}.{}. {}", "{} {} {}", "{}.-{}. {}"):
        assert author_keys(written.format(first[0], middle[0], surname)) == short
    assert author_keys(f"{surname}, {first[0]}. {middle[0]}.") == short


@given(WORDS, WORDS, COLLECTIVES)
def test_a_collaboration_has_no_initials(one: str, two: str, collective: str) -> None:
    full = author_keys(f"{one} {two} {collective}")
    assert full is not None
    assert full.initial == full.full
    assert author_keys(f"{one} {two} {collective}".upper()) == full


@given(WORDS)
def test_a_name_of_one_word_is_both_keys(word: str) -> None:
    keys = author_keys(word)
    assert keys is not None
    assert keys.full == keys.initial
    assert " " not in keys.full
    assert author_keys(f"  {word}.") == keys


@given(IDEOGRAPHS)
def test_ideographs_without_a_blank_are_one_word(name: str) -> None:
    keys = author_keys(name)
    assert keys is not None
    assert keys.full == keys.initial
    assert " " not in keys.full


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Serre J P", "J. P. Serre"),
        ("Serre JP", "J. P. Serre"),
        ("JP Serre", "J. P. Serre"),
        ("the ATLAS Collaboration", "ATLAS Collaboration"),
        ("ATLAS Collaboration: G. Aad", "G. Aad"),
        ("王 伟", "王伟"),
        ("Jürgen", "Juergen"),
    ],
)
def test_spellings_that_models_md_names_are_other_people(written: str, meant: str) -> None:
    assert author_keys(written) != author_keys(meant)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Serre JP", "J. P. Serre"),
        ("Serre J P", "J. P. Serre"),
        ("van der Berg J", "J. van der Berg"),
        ("LI XU J", "J. LI XU"),
        ("王 伟", "王 伟"),
        ("García-López MÁ", "M. Á. García-López"),
        ("Smith JP Jr", "J. P. Smith Jr"),
        ("Smith J 3rd", "J. Smith III"),
        ("Muster A.", "A. Muster"),
        ("Serre, Jean-Pierre", "Serre, Jean-Pierre"),
        ("Sieve, A", "Sieve, A"),
        ("Ada Sieve", "Ada Sieve"),
        ("Plato", "Plato"),
        ("", ""),
    ],
)
def test_a_name_that_medline_abbreviates_is_turned_round(name: str, expected: str) -> None:
    assert from_medline(name) == expected


@given(WORDS.map(str.capitalize), st.text("ABCDEFGHIJ", min_size=1, max_size=4))
def test_a_turned_name_has_the_keys_of_the_spelled_one(surname: str, initials: str) -> None:
    spaced = " ".join(initials)
    spelled = author_keys(f"{spaced} {surname}")
    assert author_keys(from_medline(f"{surname} {initials}")) == spelled
    assert author_keys(from_medline(f"{surname} {spaced}")) == spelled


@pytest.mark.parametrize("name", ["A " * 100_000 + "a", "a" * 200_000, " " * 200_000 + "A"])
def test_a_long_name_is_looked_at_in_linear_time(name: str) -> None:
    from_medline(name)  # the limit on the time of a test ends what is quadratic
