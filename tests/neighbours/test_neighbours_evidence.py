"""Neighbours as evidence: what they change, whom they are asked about, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark import Classifier, Index, Paper
from classmark.errors import IndexCorrupt, NotFound, UsageError
from classmark.kernels import RawScores
from classmark.kernels.calibration import CalibrationCurve, log_softmax
from classmark.neighbours import (
    Entry,
    EvidenceWeights,
    NeighbourJoin,
    SideWeights,
    add_papers,
    build_index,
    remove_papers,
    set_evidence,
)
from classmark.neighbours.evidence import FADING_YEARS, SHARPNESS
from classmark.neighbours.index import MANIFEST_FILE

SPARSE = "We colour sparse graphs with few colours and bound their chromatic number."
PLANAR = "We colour planar graphs and bound the chromatic number."
GALAXIES = "We measure the stellar mass of dwarf galaxies and their dark matter halos."
TRUSTING = SideWeights((0.5, 1.5, 0.5, 0.0))
WEIGHTS = EvidenceWeights(1.1, TRUSTING, replace(TRUSTING, sides=(1.0, 0.1, 0.0, 0.0)))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def indexed(
    folder: Path, classifier: Classifier, *entries: Entry, weights: EvidenceWeights | None = WEIGHTS
) -> Index:
    """An index in which every paper is about colouring sparse graphs."""
    vectors = classifier.vectors([SPARSE] * len(entries))
    build_index(folder / "index", [(list(entries), vectors)], classifier.model)
    if weights is not None:
        set_evidence(folder / "index", weights, classifier.model)
    return Index.open(folder / "index")


def test_neighbours_move_the_answer_which_says_so(tmp_path: Path, classifier: Classifier) -> None:
    index = indexed(tmp_path, classifier, Entry("a", 2019, ("cs.CG", "math.CO")))
    alone, answer = (c.classify(PLANAR) for c in (classifier, classifier.with_index(index)))
    assert answer.ranked[0].code == "cs.CG" != alone.ranked[0].code
    assert answer.evidence == ("abstract", "neighbours")
    assert answer.text_alone is not None
    assert (answer.text_alone.code, answer.text_alone.probability) == (
        alone.ranked[0].code,
        alone.ranked[0].probability,
    )
    assert sum(r.probability for r in answer.ranked) <= 1


def test_an_explanation_lists_what_neighbours_change(
    tmp_path: Path, classifier: Classifier
) -> None:
    index = indexed(tmp_path, classifier, Entry("a", 2019, ("cs.CG",)))
    answer = classifier.with_index(index).classify(PLANAR, explain=True)
    first, second = answer.ranked[:2]
    terms = {evidence.term: evidence.weight for evidence in answer.explanation or ()}
    assert terms["(neighbours)"] > 0
    assert math.fsum(terms.values()) == pytest.approx(
        math.log(first.probability / second.probability), abs=1e-4
    )


def test_papers_that_are_not_asked_about_keep_their_scores_to_the_last_bit(
    tmp_path: Path, classifier: Classifier
) -> None:
    papers = [Paper(abstract=PLANAR), Paper(abstract=GALAXIES), Paper(title="Qqqq zzzz")]
    raw = classifier.score(papers)
    tops = np.exp(log_softmax(raw.scores, classifier.policy.temperature)).max(axis=1)
    index = indexed(tmp_path, classifier, Entry("a", 2019, ("cs.CG",)))
    for ask_below in (0.0, *sorted(tops.tolist()), 1.1):
        set_evidence(index.path, replace(WEIGHTS, ask_below=ask_below), classifier.model)
        joined = classifier.with_index(index.path).score(papers)
        asked = joined.with_neighbours
        assert (asked <= (tops < ask_below)).all()
        assert np.array_equal(joined.scores[~asked], raw.scores[~asked])
        assert np.array_equal(joined.of_text, raw.scores)
    # The others are like no paper of the index, however unsure the model is.
    assert asked.tolist() == [True, False, False]


def test_a_batch_gives_each_paper_the_answer_that_it_gets_alone(
    tmp_path: Path, classifier: Classifier
) -> None:
    index = indexed(tmp_path, classifier, Entry("a", 2019, ("cs.CG",)), Entry("b", 2001, ()))
    both = classifier.with_index(index)
    papers = [Paper(id=str(i), abstract=text) for i, text in enumerate((PLANAR, GALAXIES, SPARSE))]
    assert both.classify(papers) == [both.classify(paper) for paper in papers]


@pytest.mark.parametrize(
    ("entry", "paper"),
    [
        (Entry("own", 2019, ("cs.CG",)), Paper(id="own", abstract=PLANAR)),
        (Entry("later", 2021, ("cs.CG",)), Paper(abstract=PLANAR, published_date="2020-05-01")),
        (Entry("of no category", 2019, ()), Paper(abstract=PLANAR)),
        (Entry("of another taxonomy", 2019, ("my label",)), Paper(abstract=PLANAR)),
    ],
)
def test_what_counts_nothing_changes_nothing(
    tmp_path: Path, classifier: Classifier, entry: Entry, paper: Paper
) -> None:
    index = indexed(tmp_path, classifier, entry)
    assert classifier.with_index(index).classify(paper) == classifier.classify(paper)


def test_an_index_that_is_not_calibrated_is_no_evidence(
    tmp_path: Path, classifier: Classifier
) -> None:
    index = indexed(tmp_path, classifier, Entry("a"), weights=None)
    with pytest.raises(UsageError, match=r"not calibrated.*classmark index calibrate"):
        Classifier(index=index.path)


def test_the_index_of_the_package_is_asked_for_by_name(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match=r"'arxiv' is not installed.*classmark-neighbours"):
        Index.open("arxiv")
    package = tmp_path / "site" / "classmark_neighbours"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    indexed(package, classifier, Entry("packaged"))
    monkeypatch.syspath_prepend(package.parent)
    assert Index.open("arxiv").id_of(0) == "packaged"
    indexed(tmp_path, classifier, Entry("own"))
    (tmp_path / "index").rename("arxiv")
    assert Index.open("arxiv").id_of(0) == "own"


def test_changes_keep_how_far_an_index_is_trusted(tmp_path: Path, classifier: Classifier) -> None:
    index = indexed(tmp_path, classifier, Entry("a"), Entry("b"))
    add_papers(index.path, [([Entry("c")], classifier.vectors([SPARSE]))], classifier.model)
    remove_papers(index.path, ["a"])
    assert Index.open(index.path).manifest.evidence == WEIGHTS


HOSTILE = [
    {"ask_below": math.nan},
    {"ask_below": "0.5"},
    {"text": None},
    {"text": {"sides": [1, 0, 0], "curve": None}},
    {"text": {"sides": [1, 0, 0, 1e300], "curve": None}},
    {"text": {"sides": [1, 0, 0, True], "curve": None}},
    {"text": {"sides": [1, 0, 0, 0], "curve": {"gaps": [0], "factors": []}}},
    {"authors": []},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_weights_that_no_join_can_have_are_refused(
    tmp_path: Path, classifier: Classifier, change: dict[str, Any]
) -> None:
    index = indexed(tmp_path, classifier, Entry("a"))
    path = index.path / MANIFEST_FILE
    value = json.loads(path.read_text())
    value["evidence"] |= change
    path.write_text(json.dumps(value))
    with pytest.raises(IndexCorrupt, match=r"index.json is not valid"):
        Index.open(index.path)


def test_weights_are_read_as_they_were_written(tmp_path: Path, classifier: Classifier) -> None:
    curve = CalibrationCurve(factors=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    weights = EvidenceWeights(0.3, replace(TRUSTING, curve=curve))
    index = indexed(tmp_path, classifier, Entry("a"), weights=weights)
    assert index.manifest.evidence == weights


def test_papers_of_known_authors_are_joined_by_weights_of_their_own(
    tmp_path: Path, classifier: Classifier
) -> None:
    index = indexed(tmp_path, classifier, Entry("a", 2019, ("cs.CG",)))
    papers = [Paper(abstract=PLANAR)] * 2
    raw = classifier.score(papers)
    raw = replace(raw, text_scores=raw.scores, used_authors=np.array([True, False]))
    for weights, asked in (
        (WEIGHTS, [True, True]),
        (replace(WEIGHTS, authors=None), [False, True]),
    ):
        join = NeighbourJoin(index, classifier.labels, weights)
        joined = join.join(raw, papers, classifier.policy.temperature, classifier.vectors)
        assert joined.with_neighbours.tolist() == asked
        assert joined.with_authors.tolist() == [True, False]
        assert not np.array_equal(joined.scores[0], joined.scores[1])
        parts = RawScores.joined([joined.rows(0, 1), joined.rows(1, 2)])
        assert parts.with_neighbours.tolist() == asked
        assert np.array_equal(parts.scores, joined.scores)


CODES = ("cs.CG", "math.CO", "hep-th", "no label")


@settings(max_examples=30, deadline=None)
@given(
    papers=st.lists(
        st.tuples(st.sampled_from([0, 2015, 2018, 2020]), st.lists(st.sampled_from(CODES))),
        min_size=1,
        max_size=8,
    ),
    year=st.sampled_from([0, 2018, 2020]),
)
def test_shares_are_those_of_the_formula(
    tmp_path_factory: pytest.TempPathFactory,
    papers: list[tuple[int, list[str]]],
    year: int,
) -> None:
    classifier = Classifier()
    entries = [Entry(str(i), y, tuple(codes)) for i, (y, codes) in enumerate(papers)]
    index = indexed(tmp_path_factory.mktemp("found"), classifier, *entries)
    join = NeighbourJoin(index, classifier.labels, WEIGHTS)
    asked = Paper(abstract=PLANAR, published_date=f"{year:04}" if year else None)
    vector = classifier.vectors([PLANAR])
    found = join.find(vector, [asked])
    near = index.search(vector, 200)
    now = year or max(y for y, _ in papers)
    first, listed = (np.zeros(len(classifier.labels)) for _ in range(2))
    for row, similarity in zip(near.rows[0].tolist(), near.similarity[0].tolist(), strict=True):
        if row < 0 or index.years[row] > now:
            continue
        apart = now - int(index.years[row]) if index.years[row] else 0
        weight = math.exp(SHARPNESS * (similarity - near.similarity[0, 0]) - apart / FADING_YEARS)
        for i, code in enumerate(index.categories_of(row)):
            if code in classifier.labels:
                listed[classifier.labels.index(code)] += weight
                first[classifier.labels.index(code)] += weight * (i == 0)
    total = first.sum()
    assert found.known.tolist() == [bool(total > 0)]
    if total > 0:
        np.testing.assert_allclose(found.primaries[0], first / total, rtol=1e-6)
        np.testing.assert_allclose(found.listed[0], listed / total, rtol=1e-6)
