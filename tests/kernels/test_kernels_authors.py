"""The author table counts what a reader would count by hand, whatever the batch and the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from classmark.bundle import Bundle, load_bundle, write_bundle
from classmark.errors import Refused
from classmark.export.authors import CountedPapers, Forgotten, count_authors, forget_authors
from classmark.kernels import RawScores
from classmark.kernels.authors import MOST_AUTHORS, AuthorTable, Career, column_type
from classmark.kernels.explanation import terms_beside_text
from classmark.kernels.featuriser import KERNEL
from classmark.kernels.joining import AuthorJoin, JoinWeights, load_join
from classmark.kernels.votes import N_FEATURES, ONE_PAPER, Votes
from classmark.records import BundleManifest, Paper
from classmark.training.authors import Steps, fit_join, fit_profile

Manifest = Callable[..., BundleManifest]
K = 3
# Names, year, columns: the primary first.
PAPERS = [
    (["Ada Sieve"], 2010, [0]),
    (["Ada Sieve", "Bo Graph"], 2012, [1, 0]),
    (["Bo Graph"], 2012, [2]),
    (["Ann Sieve"], 2012, [2, 1]),
    ([], 2012, [0]),
    (["Cy Undated"], 0, [0]),
]


def counted(
    papers: Sequence[tuple[list[str], int, list[int]]] = PAPERS,
    max_entries: int = 1000,
    n_labels: int = K,
) -> AuthorTable:
    columns = [listed for _, _, listed in papers]
    found = count_authors(
        CountedPapers(
            authors=[names for names, _, _ in papers],
            years=np.array([year for _, year, _ in papers], dtype=np.int16),
            listed_indptr=np.cumsum([0, *map(len, columns)]).astype(np.int64),
            listed_indices=np.concatenate([*map(np.array, columns), []]).astype(np.int16),
            n_labels=n_labels,
        ),
        max_entries,
    )
    assert found is not None
    return AuthorTable(*found)


def papers_of(votes: Votes) -> list[list[list[float]]]:
    """Votes in papers, two digits."""
    return np.round(votes.votes / ONE_PAPER, 2).tolist()  # type: ignore[no-any-return]


def votes_of(table: AuthorTable, names: list[str], year: int) -> Votes:
    return table.votes([names], np.array([year]))


def test_earlier_papers_count_less_the_longer_ago_they_are() -> None:
    votes = votes_of(counted(), ["Ada Sieve"], 2012)
    by_name, cross_listed, by_initial, initial_cross_listed = papers_of(votes)[0]
    # One paper of two years ago, exp(-2 / 4), one of the same two years; three by the initials.
    assert by_name == [0.61, 1.0, 0.0]
    assert cross_listed == [1.0, 0.0, 0.0]
    assert by_initial == [0.61, 1.0, 1.0]
    assert initial_cross_listed == [1.0, 1.0, 0.0]
    assert (votes.known.tolist(), votes.authors.tolist()) == ([[1, 1]], [1])


def test_papers_of_later_periods_do_not_count() -> None:
    assert papers_of(votes_of(counted(), ["Ada Sieve"], 2010))[0][0] == [1.0, 0.0, 0.0]
    assert not votes_of(counted(), ["Bo Graph"], 2010).known.any()


def test_without_a_year_all_papers_count() -> None:
    table = counted()
    assert papers_of(votes_of(table, ["Ada Sieve"], 0)) == papers_of(
        votes_of(table, ["Ada Sieve"], 2013)
    )


def test_initials_find_a_name_that_is_spelled_out_elsewhere() -> None:
    votes = votes_of(counted(), ["Graph, B."], 2012)
    assert votes.known.tolist() == [[0, 1]]
    assert papers_of(votes)[0][2] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("names", [[], ["Nobody Known"], ["Cy Undated"], ["12"]])
def test_authors_without_papers_in_the_table_give_nothing(names: list[str]) -> None:
    votes = votes_of(counted(), names, 2012)
    assert not votes.votes.any()
    assert not votes.known.any()


def test_no_author_counts_more_than_three_papers() -> None:
    table = counted([(["Ada Sieve"], 2012, [0])] * 30 + [(["Bo Graph"], 2012, [1])])
    votes = votes_of(table, ["Ada Sieve", "Bo Graph"], 2012)
    assert papers_of(votes)[0][0] == [3.0, 1.0, 0.0]


def test_a_papers_own_entries_are_left_out_of_its_votes() -> None:
    table = counted()
    own = [np.array(listed, dtype=np.int16) for _, _, listed in PAPERS]
    years = np.array([year for _, year, _ in PAPERS])
    votes = table.votes([names for names, _, _ in PAPERS], years, own=own)
    by_name = np.array(papers_of(votes))[:, 0].tolist()
    assert by_name[0] == [0.0, 0.0, 0.0]  # her first paper
    assert by_name[1] == [0.61, 0.0, 1.0]  # her first, and his other one
    assert by_name[2] == [0.0, 1.0, 0.0]
    assert votes.known.tolist()[0] == [0, 0]


def test_two_authors_with_the_same_initials_leave_their_paper_out_twice() -> None:
    papers = [(["Ada Sieve", "Ann Sieve"], 2012, [1])]
    own = [np.array([1], dtype=np.int16)]
    votes = counted(papers).votes([papers[0][0]], np.array([2012]), own=own)
    assert not votes.votes.any()


def test_an_author_is_counted_once_in_a_paper_and_the_first_ones_only() -> None:
    table = counted([(["Ada Sieve", "Sieve, Ada"], 2012, [0])])
    assert papers_of(votes_of(table, ["Ada Sieve"] * 2, 2012))[0][0] == [1.0, 0.0, 0.0]
    crowd = [f"Nobody {'x' * (i % 50 + 1)}{chr(97 + i // 50)}" for i in range(MOST_AUTHORS)]
    assert not votes_of(table, [*crowd, "Ada Sieve"], 2012).known.any()


def test_a_table_that_must_be_smaller_keeps_those_with_recent_papers() -> None:
    papers = [(["Old Hand"], 1990, [0]), (["New Comer"], 2012, [1])]
    table = counted(papers, max_entries=1)
    assert votes_of(table, ["New Comer"], 2012).known.all()
    assert not votes_of(table, ["Old Hand"], 2012).known.any()


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["Ada Sieve", "Ann Sieve", "Bo Graph", "Plato"]), max_size=3),
            st.integers(2000, 2009),
            st.permutations([0, 1, 2]).map(lambda columns: columns[:2]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_each_papers_votes_are_those_that_it_gets_alone(
    papers: list[tuple[list[str], int, list[int]]],
) -> None:
    papers = [(["Ada Sieve"], 2000, [0]), *papers]
    table = counted(papers)
    names, years = [p[0] for p in papers], np.array([p[1] for p in papers])
    together = table.votes(names, years)
    for i in range(len(papers)):
        alone = table.votes(names[i : i + 1], years[i : i + 1])
        assert np.array_equal(alone.votes[0], together.votes[i])
        assert np.array_equal(alone.features()[0], together.features()[i])


def test_no_paper_with_an_author_gives_no_table() -> None:
    papers = CountedPapers(
        authors=[[]],
        years=np.array([2012]),
        listed_indptr=np.array([0, 1]),
        listed_indices=np.array([0], dtype=np.int16),
        n_labels=K,
    )
    assert count_authors(papers, 10) is None


def test_columns_of_many_labels_have_two_bytes() -> None:
    assert [column_type(k) for k in (2, 256, 257)] == [np.uint8, np.uint8, np.uint16]


def as_bundle(folder: Path, table: AuthorTable, manifest: Manifest) -> Bundle:
    """A bundle whose weights are zero; its table is this one."""
    join = AuthorJoin(table, 1.0, JoinWeights.none())
    spread = join.weights._replace(context=np.ones_like(join.weights.context))
    join = replace(join, weights=spread)
    described = manifest(labels=("cs.LG", "math.CO", "quant-ph"), authors=join.to_dict())
    write_bundle(folder, described, join.bundle_arrays())
    return load_bundle(folder)


def without(
    folder: Path, manifest: Manifest, table: AuthorTable, *names: str
) -> tuple[AuthorTable, Forgotten]:
    done = forget_authors(
        as_bundle(folder / "a-1.0", table, manifest),
        names,
        folder / "a-1.1",
        name="a",
        version="1.1",
        overwrite=False,
    )
    join = load_join(load_bundle(folder / "a-1.1"))
    assert join is not None
    return join.table, done


def test_a_forgotten_name_leaves_what_others_with_its_initials_wrote(
    tmp_path: Path, manifest: Manifest
) -> None:
    table, done = without(tmp_path, manifest, counted(), "Sieve, Ada", "Ada Sieve")
    assert (done.names, done.entries, done.sharing) == (1, 3, 1)
    votes = votes_of(table, ["Ada Sieve"], 2012)
    assert votes.known.tolist() == [[0, 1]]  # by her initials, which Ann Sieve shares
    assert papers_of(votes)[0][2] == [0.0, 0.0, 1.0]
    for name in ("Ann Sieve", "Bo Graph"):
        before = votes_of(counted(), [name], 2012).votes[0, :2]
        assert np.array_equal(votes_of(table, [name], 2012).votes[0, :2], before)
    table, _ = without(tmp_path / "both", manifest, counted(), "Ada Sieve", "Ann Sieve")
    assert not votes_of(table, ["Ada Sieve", "A. Sieve"], 2012).known.any()


def test_papers_without_a_year_are_counted_from_the_same_period_when_its_only_author_is_forgotten(
    tmp_path: Path, manifest: Manifest
) -> None:
    papers = [*PAPERS, (["New Comer"], 2020, [0])]
    table, _ = without(tmp_path, manifest, counted(papers), "New Comer")
    undated = [votes_of(t, ["Bo Graph", "Ada Sieve"], 0).votes for t in (counted(papers), table)]
    assert np.array_equal(*undated)
    assert not votes_of(table, ["New Comer"], 0).known.any()


def test_the_only_author_of_a_table_is_not_forgotten(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(Refused, match=r"only name in the table.*max_author_entries=0"):
        without(tmp_path, manifest, counted(PAPERS[:1]), "Ada Sieve")


def fitted_join() -> AuthorJoin:
    """A join on a table in which two authors write of one label each."""
    papers = [(["Ada Sieve"], 2012, [0]), (["Bo Graph"], 2012, [1])] * 4
    table = counted(papers)
    votes = table.votes([names for names, _, _ in papers], np.array([2012] * 8))
    labels = np.array([listed[0] for _, _, listed in papers])
    arrays = table.arrays
    steps = Steps(epochs=100, batch_size=8, rate=0.05, decay=1e-5)
    losses: list[float] = []
    profile, scale = fit_profile(
        csr_array(votes.features()),
        labels,
        arrays.prior,
        seed=1,
        each_epoch=lambda _, loss: losses.append(loss),
        steps=steps,
    )
    assert len(losses) == 100
    assert losses[-1] < losses[0]
    table = AuthorTable(replace(arrays, profile=profile), table.first_year)
    join = AuthorJoin(table, scale, JoinWeights.none())
    unsure = np.zeros((8, K), dtype=np.float32)
    sides = join.sides(unsure, votes.evidence(profile), 1.0)
    weights = fit_join(sides, arrays.prior, labels, np.ones(8), seed=1, steps=steps)
    return replace(join, weights=weights)


def raw_of(n: int) -> RawScores:
    scores = np.tile(np.array([0.0, 0.0, 0.5], np.float32), (n, 1))
    return RawScores(scores, np.ones(n, dtype=np.float32))


def test_known_authors_move_the_answer_and_unknown_ones_do_not_touch_a_bit() -> None:
    raw = raw_of(4)
    papers = [
        Paper(title="T", authors=("A. Sieve",)),
        Paper(title="T"),
        Paper(title="T", authors=("Nobody Known",)),
        Paper(title="T", authors=("Bo Graph",), published_date="2013-01-01"),
    ]
    joined = fitted_join().join(raw, papers, 1.0)
    assert joined.scores.argmax(axis=1).tolist() == [0, 2, 2, 1]
    assert joined.with_authors.tolist() == [True, False, False, True]
    assert joined.text_scores is raw.scores
    assert np.array_equal(joined.scores[1:3], raw.scores[1:3])


def test_a_career_counts_the_papers_up_to_the_period_of_the_paper() -> None:
    authors = ["Nobody Known", "Sieve, A.", "Bo Graph", "Graph, Bo", "12"]
    [sieve, graph] = counted().careers(authors, 2013)
    assert (sieve.name, dict(sieve.papers), sieve.is_named) == (
        "Sieve, A.",
        {0: 1, 1: 1, 2: 1},
        False,
    )
    assert (graph.name, dict(graph.papers), graph.is_named) == ("Bo Graph", {1: 1, 2: 1}, True)
    [sieve] = counted().careers(["Ada Sieve", "Bo Graph"], 2011)
    assert dict(sieve.papers) == {0: 1}
    assert counted().careers([], 2012) == []


def test_the_authors_of_a_paper_share_what_they_change() -> None:
    join, raw, pair = fitted_join(), raw_of(1), [0, 1]

    def gap(*names: str) -> float:
        return gap_of(join, raw, names)

    for names in (["Ada Sieve"], ["Ada Sieve", "Bo Graph"], ["A. Sieve", "Nobody", "Bo Graph"]):
        paper, change = Paper(title="T", authors=tuple(names)), gap(*names) - gap()
        shares = join.shares(raw, paper, pair, 1.0, change)
        assert [career.name for career, _ in shares] == [n for n in names if n != "Nobody"]
        assert sum(weight for _, weight in shares) == pytest.approx(change, abs=1e-12)
    both = gap("Ada Sieve", "Bo Graph")
    paper = Paper(title="T", authors=("Ada Sieve", "Bo Graph"))
    [(_, ada), (_, bo)] = join.shares(raw, paper, pair, 1.0, both - gap())
    assert ada == pytest.approx((gap("Ada Sieve") - gap() + both - gap("Bo Graph")) / 2)
    assert ada > 0 > bo


def gap_of(join: AuthorJoin, raw: RawScores, names: tuple[str, ...]) -> float:
    scores = join.join(raw, [Paper(title="T", authors=names)], 1.0).scores.astype(float)
    return float(scores[0, 0] - scores[0, 1])


@pytest.mark.parametrize(
    ("career", "term"),
    [
        (
            Career("Emmy  Noether", Counter({1: 9, 0: 3}), True),
            "Emmy Noether: 12 earlier papers: b 9, a 3",
        ),
        (
            Career("E. N", Counter({0: 1}), False),
            "E. N (by surname and initial): 1 earlier paper: a 1",
        ),
        (
            Career("X" * 99, Counter({0: 4, 1: 3, 2: 2, 3: 1}), True),
            f"{'X' * 59}…: 10 earlier papers: a 4, b 3, c 2, others 1",
        ),
    ],
)
def test_an_author_is_a_term_with_the_largest_part_of_the_career(career: Career, term: str) -> None:
    assert terms_beside_text([(career, 0.5)], "abcd", 0.5) == [(term, 0.5)]


@pytest.mark.parametrize("authors", [(), ("Nobody Known",)])
def test_without_known_authors_the_scores_are_the_very_same(authors: tuple[str, ...]) -> None:
    raw = raw_of(1)
    assert fitted_join().join(raw, [Paper(title="T", authors=authors)], 1.0) is raw
    assert not raw.with_authors.any()
    assert raw.of_text is raw.scores


def test_papers_before_the_first_entry_have_no_known_authors() -> None:
    raw = raw_of(1)
    paper = Paper(title="T", authors=("Ada Sieve",), published_date="2005")
    assert fitted_join().join(raw, [paper], 1.0) is raw


def test_scores_of_batches_are_joined_with_what_is_known_of_authors() -> None:
    raw, papers = raw_of(2), [Paper(title="T", authors=("Ada Sieve",)), Paper(title="U")]
    join = fitted_join()
    whole = join.join(raw, papers, 1.0)
    parts = [join.join(raw.rows(i, i + 1), papers[i : i + 1], 1.0) for i in range(2)]
    again = RawScores.joined(parts)
    assert np.array_equal(again.scores, whole.scores)
    assert again.with_authors.tolist() == [True, False]
    assert np.array_equal(again.of_text, raw.scores)
    assert np.array_equal(whole.rows(0, 1).of_text, raw.scores[:1])


def test_votes_of_some_papers_are_taken_by_row() -> None:
    votes = counted().votes([["Ada Sieve"], []], np.array([2012, 2012]))
    taken = votes.rows(np.array([1]))
    assert taken.features().shape == (1, N_FEATURES * K)
    assert taken.rows(np.array([], np.intp)).features().shape == (0, N_FEATURES * K)
    assert not taken.features().any()


needs_kernel = pytest.mark.skipif(KERNEL is None, reason="no C compiler at install")
SURNAMES = ["Sieve", "Graph", "Erdős", "Gödel", "O'Neil", "Ångström", "Collaboration", "王", "Jr."]
LISTED = st.lists(
    st.builds(
        "{} {}".format, st.sampled_from(["Ada", "A.", "Ann", "Bo", ""]), st.sampled_from(SURNAMES)
    ),
    max_size=4,
)
# Whatever takes part in folding, and what C leaves to the reference.
PARTS = ["Jr", "III", "Team", " ", ",", "'", "`", "{", "\\", '\\"o', "\0", "_", "7", "’"]
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(PARTS),
        st.characters(max_codepoint=0x7F),
        st.characters(max_codepoint=0x180),
        st.characters(),
    ),
    max_size=30,
).map("".join)


def assert_same_from_c(table: AuthorTable, names: list[list[str]], years: Sequence[int]) -> None:
    """Both paths say the same to the last bit."""
    slow = AuthorTable(table.arrays, table.first_year, use_kernel=False)
    fast, wanted = (t.evidence(names, np.array(years, dtype=np.int64)) for t in (table, slow))
    assert np.array_equal(fast.sums, wanted.sums)
    assert np.array_equal(fast.papers, wanted.papers)
    assert np.array_equal(fast.known, wanted.known)
    assert np.array_equal(fast.authors, wanted.authors)
    assert np.array_equal(fast.ages, wanted.ages)


@needs_kernel
@given(
    st.lists(st.tuples(LISTED, st.integers(1990, 2024), st.integers(0, 2)), min_size=1),
    st.lists(st.tuples(LISTED, st.sampled_from([0, 1, 1990, 2011, 2012, 2030, 9999]))),
    st.integers(0, 2**32 - 1),
)
def test_c_and_numpy_say_the_same_of_any_table(
    known: list[tuple[list[str], int, int]], asked: list[tuple[list[str], int]], seed: int
) -> None:
    table = counted(
        [(["Ada Sieve"], 2000, [0]), *((n, year, [c, (c + 1) % K]) for n, year, c in known)]
    )
    random, a = np.random.default_rng(seed), table.arrays
    arrays = replace(
        a,
        counts=random.integers(0, 256, len(a.counts)).astype(np.uint8),
        labels=random.integers(0, K, len(a.labels)).astype(np.uint8 if seed % 2 else np.uint16),
        profile=random.integers(-(1 << 15), 1 << 15, a.profile.shape).astype(np.int16),
    )
    papers = [*asked, *((names, year) for names, year, _ in known)]
    table = AuthorTable(arrays, table.first_year)
    assert_same_from_c(table, [names for names, _ in papers], [year for _, year in papers])


@needs_kernel
@given(st.lists(HOSTILE, min_size=1, max_size=5))
@example(["King, Jr.", ", Jr.", "King, Ada, Jr.", "Jr., III", "King Team", "Ada King III"])
def test_c_and_numpy_find_the_same_authors_by_any_name(names: list[str]) -> None:
    table = counted([([*names, "Ada Sieve"], 2012, [1])])
    swapped = [f"{name.partition(' ')[2]}, {name.partition(' ')[0]}" for name in names]
    asked = [names, swapped, [name.upper() for name in names], *([name] for name in names)]
    assert_same_from_c(table, asked, [2012] * len(asked))


@needs_kernel
@pytest.mark.parametrize(
    "name",
    ["Ada " + "x" * 295, "Ada " + "x" * 297, "Ada " + "é" * 148, "A " * 400, "Ada\ud800 Sieve"],
)
def test_c_and_numpy_cut_long_and_broken_names_alike(name: str) -> None:
    table = counted([([name[:298], "Ada Sieve"], 2012, [1])])
    assert_same_from_c(table, [[name], [name[:298]], [name + "y"], [name[:200]]], [2012] * 4)


@needs_kernel
def test_c_reads_the_first_authors_of_a_crowd_only() -> None:
    crowd = [f"Nobody {chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(MOST_AUTHORS)]
    table = counted([(["Ada Sieve", *crowd], 2012, [0])])
    assert_same_from_c(table, [[*crowd, "Ada Sieve"], ["Ada Sieve", *crowd], crowd * 2], [2012] * 3)


@needs_kernel
@pytest.mark.parametrize("weight", [-(1 << 15), (1 << 15) - 1])
def test_sums_of_many_great_features_are_exact_in_c(weight: int) -> None:
    crowd = [f"Ada S{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(100)]
    table = counted([([name], 2012, [i]) for i, name in enumerate(crowd)] * 3, n_labels=100)
    profile = np.full_like(table.arrays.profile, weight)
    table = AuthorTable(replace(table.arrays, profile=profile), table.first_year)
    assert np.abs(table.evidence([crowd], np.array([2012])).sums).min() > 1 << 31
    assert_same_from_c(table, [crowd, crowd[:49], crowd[::-1]], [2012] * 3)


@needs_kernel
def test_c_refuses_arrays_that_do_not_fit_each_other() -> None:
    table = counted()
    spoilt = AuthorTable(replace(table.arrays, counts=table.arrays.counts[1:]), table.first_year)
    with pytest.raises(ValueError, match="table has the wrong size"):
        spoilt.evidence([["Ada Sieve"]], np.array([2012]))


@needs_kernel
def test_a_name_that_is_no_text_fails_as_with_numpy() -> None:
    names: Any = [("Ada Sieve", 7)]
    with pytest.raises(TypeError):
        counted().evidence(names, np.array([2012]))
