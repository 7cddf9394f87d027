"""Live accuracy from a real journal: who tells the category of a paper, and what is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark.errors import InvalidReport
from classmark.journal import JournalConfig
from classmark.journal.reading import PredictionFilter
from classmark.journal.writer import FileWriter
from classmark.monitor.labels import (
    EVERY_KEY,
    MIN_CATEGORY_LABELS,
    LabelSources,
    live_accuracy,
    scores_over_time,
)
from classmark.papers import read_papers, text_fingerprint
from classmark.records import BadRecord, FeedbackEvent, Paper, PredictionEvent, new_prediction_id
from classmark.records.drift import LiveAccuracy
from classmark.wire import ModelRef

NOVEMBER = "2024-11-05T12:00:00.000Z"
LATER = "2024-11-20T12:00:00.000Z"
FIRST, SECOND = ModelRef("fast", "1.0", "d" * 64), ModelRef("fast", "2.0", "e" * 64)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def paper(number: int, category: str = "cs.LG", **changes: Any) -> Paper:
    values: dict[str, Any] = {
        "id": f"2411.{number:05d}",
        "title": f"Sieves, part {number}",
        "abstract": f"We sieve graphs of {number} nodes.",
        "category_code": category,
        "published_date": "2024-11-10",
    }
    return Paper(**{**values, **changes})


def asked(of: Paper, **changes: Any) -> PredictionEvent:
    """Return a prediction of a paper: cs.LG, accepted."""
    values: dict[str, Any] = {
        "prediction_id": new_prediction_id(),
        "at_utc": NOVEMBER,
        "model": FIRST,
        "paper_id": None,
        "text_fingerprint": text_fingerprint(of),
        "primary": "cs.LG",
        "reason": "accepted",
        "ranked": (("cs.LG", 0.75), ("stat.ML", 0.125), ("cs.AI", 0.0625)),
        "set": ("cs.LG", "stat.ML"),
        "cross_lists": (),
        "known_share": 0.5,
        "n_chars": 900,
        "n_words": 140,
        "latex_share": 0.0,
        "latency_ms": 1.5,
    }
    return PredictionEvent(**{**values, **changes})


def said(of: PredictionEvent, category: str, at_utc: str = LATER, **changes: Any) -> FeedbackEvent:
    return FeedbackEvent(
        prediction_id=of.prediction_id, category=category, at_utc=at_utc, **changes
    )


def write(path: Path, *events: PredictionEvent | FeedbackEvent) -> None:
    writer = FileWriter(JournalConfig(path=path))
    outcome = writer.write(events)
    writer.close()
    assert outcome.refused == 0, outcome.problem


def test_a_paper_is_found_by_its_text_whatever_its_spelling(journal: Path) -> None:
    write(journal, asked(paper(1, title="Sieves on $\\alpha$-graphs")))
    score = live_accuracy(journal, [paper(9, title="Sieves on α-Graphs", id="x")]).overall
    assert score is None  # another abstract
    harvested = paper(1, title="SIEVES on α-graphs", id="x")
    score = live_accuracy(journal, [harvested]).overall
    assert score is not None
    assert (score.n, score.top1.value, score.abstained) == (1, 1.0, 0.0)


@pytest.mark.parametrize(
    ("given_id", "harvested_id"),
    [
        ("2411.00001", "2411.00001v3"),
        ("arXiv:2411.00001v1", "2411.00001"),
        ("cs-9308101", "cs/9308101"),
        ("math.GT/0309136v2", "math-0309136"),
    ],
)
def test_a_paper_that_was_revised_is_found_by_its_identifier(
    journal: Path, given_id: str, harvested_id: str
) -> None:
    write(journal, asked(paper(1), paper_id=given_id))
    revised = paper(1, "math.CO", title="Another title", id=harvested_id)
    found = live_accuracy(journal, [revised])
    assert (found.n_harvested, found.overall and found.overall.top1.value) == (1, 0.0)


def test_what_the_text_says_goes_before_what_the_identifier_says(journal: Path) -> None:
    write(journal, asked(paper(1), paper_id="2411.00002"))
    found = live_accuracy(journal, [paper(1, "cs.LG"), paper(2, "math.CO")])
    assert found.overall is not None
    assert found.overall.top1.value == 1.0


def test_the_last_word_on_a_prediction_counts(journal: Path) -> None:
    event = asked(paper(1))
    write(
        journal,
        event,
        said(event, "cs.LG", "2024-11-06T00:00:00.000Z"),
        said(event, "math.CO", "2024-11-07T00:00:00.000Z"),
    )
    found = live_accuracy(journal)
    assert (found.n_feedback, found.n_disagreeing) == (1, 0)
    assert found.overall is not None
    assert found.overall.top1.value == 0.0


@pytest.mark.parametrize(
    ("words", "truth"),
    [(("cs.LG", "math.CO", "cs.LG"), "cs.LG"), (("cs.LG", "math.CO"), None)],
)
def test_where_people_disagree_the_majority_counts_and_a_tie_does_not(
    journal: Path, words: tuple[str, ...], truth: str | None
) -> None:
    events = [asked(paper(1)) for _ in words]
    write(journal, *events, *(said(e, word) for e, word in zip(events, words, strict=True)))
    found = live_accuracy(journal)
    assert (found.n_predictions, found.n_duplicates) == (len(words), len(words) - 1)
    assert (found.n_feedback, found.n_ambiguous) == ((1, 0) if truth else (0, 1))
    assert found.n_disagreeing == 1


def test_a_harvested_category_goes_before_feedback(journal: Path) -> None:
    event = asked(paper(1))
    write(journal, event, said(event, "math.CO"))
    found = live_accuracy(journal, [paper(1)])
    assert (found.n_harvested, found.n_feedback) == (1, 0)
    assert found.overall is not None
    assert found.overall.top1.value == 1.0


def test_two_harvested_papers_of_one_text_tell_nothing(journal: Path) -> None:
    event = asked(paper(1))
    other = asked(paper(2))
    write(journal, event, other, said(other, "cs.LG"))
    twins = [
        paper(n, code, id=f"2411.1{n}{code[:2]}") for n in (1, 2) for code in ("cs.LG", "math.CO")
    ]
    found = live_accuracy(journal, twins)
    assert (found.n_harvested, found.n_feedback, found.n_ambiguous) == (0, 1, 1)


def test_what_the_author_gave_is_counted_apart(journal: Path) -> None:
    write(journal, asked(paper(1), author_category="stat.ML"), asked(paper(2)))
    found = live_accuracy(journal, [paper(2)])
    assert found.overall is not None
    assert (found.overall.n, found.overall.top1.value) == (1, 1.0)
    assert found.by_author is not None
    assert (found.by_author.n, found.by_author.top1.value) == (1, 0.0)
    assert found.by_author.top5.value == 1.0


def test_aliases_and_retired_archives_are_todays_categories_or_none(journal: Path) -> None:
    ranked = (("cs.CL", 0.9),)
    answered = asked(paper(1), ranked=ranked, primary="cs.CL", set=("cs.CL",))
    write(journal, answered, asked(paper(2)), asked(paper(3)))
    papers = [paper(1, "cmp-lg"), paper(2, "cond-mat"), paper(3, "my own label")]
    found = live_accuracy(journal, papers)
    assert (found.n_harvested, found.n_retired) == (2, 1)
    assert found.overall is not None
    assert found.overall.top1.value == 0.5
    assert found.overall.covered is not None
    assert found.overall.covered.value == 0.5


def test_the_shares_are_those_of_their_groups(journal: Path) -> None:
    december = {"at_utc": "2024-12-01T00:00:00.000Z"}
    events = [
        asked(paper(1)),
        asked(paper(2), primary=None, reason="below_threshold", set=()),
        asked(paper(3), **december),
        asked(paper(4), **december, model=SECOND),
        asked(paper(4), **december, model=SECOND),
    ]
    write(journal, *events)
    codes = ("cs.LG", "stat.ML", "cs.AI", "math.CO")
    found = live_accuracy(journal, [paper(n, code) for n, code in enumerate(codes, 1)])
    score = found.overall
    assert score is not None
    assert (score.n, score.n_accepted, score.n_sets) == (4, 3, 3)
    assert (score.top1.value, score.top5.value, score.abstained) == (0.25, 0.75, 0.25)
    assert score.accepted is not None
    assert score.covered is not None
    assert (score.accepted.value, score.covered.value) == pytest.approx((1 / 3, 1 / 3))
    assert score.top1.low is not None
    assert score.top1.high is not None
    assert score.top1.low < 0.25 < score.top1.high
    assert [(m.name, m.n, m.top1.value) for m in found.months] == [
        ("2024-11", 2, 0.5),
        ("2024-12", 2, 0.0),
    ]
    assert [(v.name, v.n) for v in found.versions] == [("fast@1.0", 3), ("fast@2.0", 1)]
    assert (found.categories, found.n_duplicates) == ((), 1)


def test_a_category_has_a_score_of_its_own_with_enough_labels(journal: Path) -> None:
    papers = [paper(n) for n in range(MIN_CATEGORY_LABELS)]
    papers += [paper(100 + n, "math.CO") for n in range(MIN_CATEGORY_LABELS - 1)]
    write(journal, *map(asked, papers))
    (score,) = live_accuracy(journal, papers).categories
    assert (score.name, score.n) == ("cs.LG", MIN_CATEGORY_LABELS)


def test_nothing_counts_that_was_not_known_then(journal: Path) -> None:
    early, late = asked(paper(1)), asked(paper(2), at_utc="2024-11-12T00:00:00.000Z")
    write(journal, early, late, said(early, "math.CO", "2024-11-08T00:00:00.000Z"))
    papers = [paper(1), paper(2, published_date=None)]

    def known(as_of_utc: str | None) -> tuple[int, int, int]:
        found = live_accuracy(journal, papers, as_of_utc=as_of_utc)
        return found.n_predictions, found.n_feedback, found.n_harvested

    assert known("2024-11-01T00:00:00.000Z") == (0, 0, 0)
    assert known("2024-11-06T00:00:00.000Z") == (1, 0, 0)
    assert known("2024-11-09T00:00:00.000Z") == (1, 1, 0)
    assert known("2024-11-10T12:00:00.000Z") == (1, 1, 0)  # of that day, so known the day after
    assert known("2024-11-13T00:00:00.000Z") == (2, 0, 1)  # no date: unknown when it was known
    assert known(None) == (2, 0, 2)


def test_a_paper_without_letters_is_no_duplicate_of_another(journal: Path) -> None:
    write(journal, *(asked(paper(n), text_fingerprint="", paper_id=str(n)) for n in range(3)))
    found = live_accuracy(
        journal, [BadRecord(id="1", kind="x", message="y"), Paper(title="No code")]
    )
    assert (found.n_predictions, found.n_duplicates, found.n_unlabelled) == (3, 0, 3)


def test_a_filter_chooses_the_predictions_and_a_journal_may_be_empty(journal: Path) -> None:
    assert live_accuracy(journal).n_predictions == 0
    write(journal, asked(paper(1)), asked(paper(1), model=SECOND))
    found = live_accuracy(journal, [paper(1)], wanted=PredictionFilter(version="2.0"))
    assert [v.name for v in found.versions] == ["fast@2.0"]


def test_the_record_is_read_back_as_it_was_written(journal: Path, tmp_path: Path) -> None:
    event = asked(paper(1), author_category="cs.LG")
    write(journal, event)
    file = tmp_path / "papers.jsonl"
    line = {"id": "2411.00001", "title": paper(1).title, "abstract": paper(1).abstract}
    file.write_text(json.dumps({**line, "categories": ["cs.LG", "stat.ML"]}))
    found = live_accuracy(journal, read_papers(file))
    assert found.n_harvested == 1
    assert LiveAccuracy.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(InvalidReport, match="'n_predictions' is 'x', it must be a whole number"):
        LiveAccuracy.from_dict({**found.to_dict(), "n_predictions": "x"})


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 6),
            st.sampled_from([FIRST, SECOND]),
            st.sampled_from([None, "cs.LG", "math.CO", "cond-mat"]),
        ),
        max_size=12,
    ),
    st.dictionaries(st.integers(1, 6), st.sampled_from(["cs.LG", "math.CO", "astro-ph"])),
)
def test_the_counts_add_up_whatever_was_said(
    tmp_path_factory: pytest.TempPathFactory,
    asks: list[tuple[int, ModelRef, str | None]],
    harvested: dict[int, str],
) -> None:
    journal = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    events = [asked(paper(n), model=model) for n, model, _ in asks]
    words = [said(event, code) for event, (_, _, code) in zip(events, asks, strict=True) if code]
    write(journal, *events, *words)
    found = live_accuracy(journal, [paper(n, code) for n, code in harvested.items()])
    labelled = found.n_harvested + found.n_feedback
    others = found.n_ambiguous + found.n_retired + found.n_unlabelled
    assert found.n_predictions == len(asks) == labelled + others + found.n_duplicates
    assert found.n_duplicates == len(asks) - len({(n, m) for n, m, _ in asks})
    pairs = {(n, m) for n, m, _ in asks}
    assert found.n_harvested == sum(harvested.get(n, "astro-ph") != "astro-ph" for n, _ in pairs)
    for groups in (found.months, found.versions):
        assert sum(group.n for group in groups) == labelled
    assert Counter(m for _, m in pairs)[FIRST] >= next(
        (v.n for v in found.versions if v.name == "fast@1.0"), 0
    )


def test_scores_over_time_are_of_each_version_in_groups(journal: Path) -> None:
    times = [f"2024-11-05T12:00:{second:02d}.000Z" for second in range(6)]
    models = (FIRST, FIRST, SECOND, FIRST, SECOND, FIRST)
    ids = sorted(new_prediction_id() for _ in range(6))
    events = [
        asked(paper(number), prediction_id=ids[number], at_utc=times[number], model=models[number])
        for number in range(6)
    ]
    truths = ("cs.LG", "math.CO", "cs.LG", "cs.LG", "cs.LG", "cs.LG")
    words = [said(event, truth) for event, truth in zip(events, truths, strict=True)]
    write(journal, *events, *words, asked(paper(9)))
    found = scores_over_time(journal, LabelSources(feedback_of=(EVERY_KEY,)), papers_each=2)
    assert [(at, s.name, s.n, s.top1.value) for at, s in found] == [
        (times[0], "fast@1.0", 2, 0.5),
        (times[2], "fast@2.0", 2, 1.0),
        (times[3], "fast@1.0", 2, 1.0),
    ]
