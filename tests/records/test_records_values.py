"""Names of authors are read from whatever shape records have them in, and nothing else is."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidPaper
from classmark.records import Paper, author_names
from classmark.records.values import MAX_AUTHORS_CHARS, split_authors

WORDS = st.text(st.characters(categories=["Lu", "Ll"]), min_size=2, max_size=12).filter(
    lambda word: word.lower() not in ("and", "et", "al", "others", "jr", "sr", "ii", "iii", "iv")
)
NAMES = st.tuples(WORDS, WORDS).map(" ".join)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A. Author, B. Writer and C. Editor", ("A. Author", "B. Writer", "C. Editor")),
        ("Author, A. and Writer, B.", ("Author, A.", "Writer, B.")),
        ("Author, A., Writer, B. C.", ("Author, A.", "Writer, B. C.")),
        ("Noether, Emmy", ("Noether, Emmy",)),
        ("van der Berg, J. K.", ("van der Berg, J. K.",)),
        ("A. Author (Inst. of X, Y), B. Writer", ("A. Author", "B. Writer")),
        ("Ada Sieve; Bo Graph", ("Ada Sieve", "Bo Graph")),
        ("Ada Sieve & Bo Graph", ("Ada Sieve", "Bo Graph")),
        ("van der Berg, Jan Piet", ("van der Berg, Jan Piet",)),
        ("Sieve Graph, Ada", ("Sieve Graph, Ada",)),
        ("Ada Sieve,\n  Bo\n  Graph", ("Ada Sieve", "Bo Graph")),
        ("Sieve, Ada\nGraph, Bo", ("Sieve, Ada", "Graph, Bo")),
        ("Author, A. and\n Writer, B.", ("Author, A.", "Writer, B.")),
        ("J. Smith, Jr.", ("J. Smith Jr.",)),
        ("Smith, Jr., John", ("Smith, John",)),
        ("J. Smith, Jr., A. Author", ("J. Smith", "A. Author")),
        ("Smith, J., Jr.", ("Smith, J. Jr.",)),
        ("A. Author et al.", ("A. Author",)),
        ("ATLAS Collaboration", ("ATLAS Collaboration",)),
        ("['Ada Sieve', \"Bo O'Graph\"]", ("Ada Sieve", "Bo O'Graph")),
        ("[Ada Sieve, Bo Graph]", ("Ada Sieve", "Bo Graph")),
        (" , ;", ()),
        ("", ()),
    ],
)
def test_a_text_is_split_into_the_names_that_it_lists(text: str, names: tuple[str, ...]) -> None:
    assert split_authors(text) == author_names(text) == names


@pytest.mark.parametrize(
    "people",
    [
        ["Ada Sieve", "Bo Graph", None, math.nan],
        [{"name": "Ada Sieve"}, {"name": "Bo Graph"}],
        [{"given": "Ada", "family": "Sieve"}, {"firstName": "Bo", "lastName": "Graph"}],
        [{"author": {"display_name": "Ada Sieve"}}, {"full_name": "Bo Graph"}],
        [{"literal": "Ada Sieve"}, {"author": {"id": None}, "raw_author_name": "Bo Graph"}],
        [
            {"name": ""},
            {"name": None},
            {"name": "Ada Sieve"},
            {"given": None, "family": "Bo Graph"},
        ],
        [
            {"author": {"display_name": "Ada Sieve"}, "raw_author_name": "A. Sieve"},
            {"author": {"display_name": None}, "raw_author_name": "Bo Graph"},
            {"author": {"display_name": None}, "raw_author_name": ""},
        ],
        ("Ada  Sieve", "Bo\nGraph"),
    ],
)
def test_lists_of_names_and_of_people_are_read(people: object) -> None:
    assert author_names(people) == ("Ada Sieve", "Bo Graph")


def test_particles_belong_to_a_name() -> None:
    person = {"family": "Sieve", "non-dropping-particle": "van der", "given": "Ada"}
    assert author_names([person]) == ("Ada van der Sieve",)


def test_one_person_is_a_list_of_one() -> None:
    assert author_names({"name": "Ada Sieve"}) == ("Ada Sieve",)


@pytest.mark.parametrize("missing", [None, math.nan, [], ""])
def test_missing_authors_are_none(missing: object) -> None:
    assert author_names(missing) == ()


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (5, "int 5"),
        ([1], "int 1"),
        ([["Sieve", "Ada"]], r"list \['Sieve', 'Ada'\]"),
        ([{"name": 5}], r"dict \{'name': 5\}"),
        ([{"orcid": "0"}], r"dict \{'orcid': '0'\}"),
        (True, "bool True"),
        ([{"name": "x" * 100, "deep": 1}, {"y" * 100: 1}], "dict .*…"),
    ],
)
def test_anything_else_is_refused_with_what_was_seen(value: object, seen: str) -> None:
    with pytest.raises(InvalidPaper, match=f"authors must be names.*got {seen}"):
        author_names(value)


def test_a_text_of_a_megabyte_and_more_is_refused() -> None:
    with pytest.raises(InvalidPaper, match=r"authors have 1,000,001 characters, at most 1,000,000"):
        split_authors("x" * (MAX_AUTHORS_CHARS + 1))
    with pytest.raises(InvalidPaper, match="Give the names"):
        author_names(["x" * MAX_AUTHORS_CHARS, "y"])


@pytest.mark.parametrize(
    "text", ["(" * 200_000, "A, " * 100_000, "a" * 900_000, "[" * 100_000 + "]"]
)
def test_long_texts_take_no_more_than_linear_time(text: str) -> None:
    split_authors(text)  # the limit on the time of a test ends what is quadratic


def test_five_thousand_authors_are_read() -> None:
    names = tuple(f"Author {chr(97 + i % 26)}{i}" for i in range(5_000))
    assert split_authors(", ".join(names)) == names


@given(st.lists(NAMES, max_size=5))
def test_a_python_list_as_text_is_read_as_the_list(names: list[str]) -> None:
    assert author_names(str(names)) == tuple(names)


@given(st.lists(NAMES, min_size=1, max_size=5), st.sampled_from(["; ", " and ", "\n", " & "]))
def test_names_between_separators_are_found(names: list[str], separator: str) -> None:
    assert split_authors(separator.join(names)) == tuple(names)


@given(st.text())
def test_any_text_gives_names_without_blanks_at_their_ends(text: str) -> None:
    assert all(name and name == name.strip() for name in split_authors(text))


def test_a_paper_from_a_mapping_has_its_authors_and_year() -> None:
    paper = Paper.from_mapping(
        {"title": "T", "authors": ["Ada Sieve"], "published_date": "2020-01-02"}
    )
    assert (paper.authors, paper.published_date) == (("Ada Sieve",), "2020-01-02")
    assert Paper.from_mapping({"title": "T", "published_date": 5}).published_date is None


@pytest.mark.parametrize(
    "filler",
    [" ", ",", ", jr", ", jr, x", "\n", " and ", "(", ")", "[", "{", "'", "\\", "a. ", "; "],
)
def test_what_a_hostile_text_repeats_is_read_in_linear_time(filler: str) -> None:
    text = filler * (MAX_AUTHORS_CHARS // 10 // len(filler))
    start = time.process_time()
    for value in (f"x{text}x", f"x, {text}!", f"['{text}", [f"x{text}x"]):
        author_names(value)
    assert time.process_time() - start < 10  # quadratic time would be minutes


def test_tex_in_a_list_as_text_is_taken_as_it_is() -> None:
    names = (r"Paul Erd\H{o}s", r"S\o ren")
    assert author_names(r"['Paul Erd\H{o}s', 'S\\o ren']") == names


def test_objects_in_objects_are_read_one_deep() -> None:
    person: dict[str, object] = {"name": "Ada Sieve"}
    for _ in range(2):
        person = {"author": person}
    with pytest.raises(InvalidPaper, match="list of objects with a name"):
        author_names([person])


def test_names_that_a_dataset_could_not_be_read_back_with_are_refused() -> None:
    with pytest.raises(InvalidPaper, match=r"at most 1,000,000"):
        author_names(["a"] * (MAX_AUTHORS_CHARS // 4))


@given(st.lists(st.text(), max_size=5) | st.text().filter(lambda text: "[" not in text))
def test_the_column_of_a_dataset_gives_back_the_names_of_any_paper(value: object) -> None:
    names = author_names(value)
    assert author_names(str(list(names))) == names
