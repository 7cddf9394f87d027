"""Feedback is a label only where a policy says so, and no client can label too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark.dataset import (
    DatasetConfig,
    ExtendConfig,
    FeedbackPolicy,
    NewPapers,
    build_dataset,
    extend_dataset,
)
from classmark.dataset.build.feedback import over_share
from classmark.errors import InvalidConfig, InvalidDataset, InvalidJournal
from classmark.papers import text_fingerprint
from classmark.records import (
    DatasetManifest,
    FeedbackEvent,
    Paper,
    Prediction,
    PredictionEvent,
    derived_prediction_id,
)
from classmark.wire import ModelRef
from dataset_records import Record, record, records

COUNTS = {"cs.LG": 60, "math.CO": 60}
GENEROUS = FeedbackPolicy(client_share=1.0, category_share=1.0)
DAY = "2026-11-20"


def asked(number: int, words: Mapping[str, str] | None = None, **changes: Any) -> Prediction:
    """One prediction, and what each client said of it, in order of time."""
    title, abstract = f"Asked {number}", f"A question about knots of kind {number}."
    values: dict[str, Any] = {
        "prediction_id": derived_prediction_id(f"paper {number}", at_ms=number + 1),
        "at_utc": f"{DAY}T10:00:00.000Z",
        "model": ModelRef("fast", "1.0", "d" * 64),
        "text_fingerprint": text_fingerprint(Paper(title=title, abstract=abstract)),
        "primary": "cs.LG",
        "reason": "accepted",
        "ranked": (("cs.LG", 0.75),),
        **{"set": (), "cross_lists": (), "known_share": 0.5, "n_chars": 90, "n_words": 14},
        **{"latex_share": 0.0, "latency_ms": 1.5, "text": f"{title}\n{abstract}"},
        **changes,
    }
    said = tuple(
        FeedbackEvent(
            prediction_id=values["prediction_id"],
            category=category,
            at_utc=f"{DAY}T11:{place:02d}:00.000Z",
            client=client,
        )
        for place, (client, category) in enumerate((words or {}).items())
    )
    return Prediction(PredictionEvent(**values), said)


def both(category: str = "math.CO") -> dict[str, str]:
    return {"ann": category, "bob": category}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    write_rows(folder / "before.jsonl", records(COUNTS))
    build_dataset([folder / "before.jsonl"], folder / "before", DatasetConfig(min_papers=2))
    return folder / "before"


def write_rows(path: Path, rows: Iterable[Record]) -> Path:
    frame = pl.DataFrame(list(rows))
    frame.write_ndjson(path)
    return path


def extend(
    parent: Path,
    output: Path,
    said: Iterable[Prediction],
    *sources: Path,
    policy: FeedbackPolicy = GENEROUS,
) -> DatasetManifest:
    predictions = list(said)
    new = NewPapers(sources=sources, feedback=lambda: iter(predictions))
    return extend_dataset(parent, new, output, ExtendConfig(feedback=policy))


def labels_in(folder: Path) -> dict[str, str]:
    frames = [pl.read_parquet(folder / f"{name}.parquet") for name in ("train", "valid", "test")]
    new = pl.concat(frames).filter(pl.col("title").str.starts_with("Asked"))
    return dict(new.select("title", "category_code").iter_rows())


@pytest.mark.parametrize(
    ("words", "policy", "reason"),
    [
        ({"ann": "math.CO"}, {}, "feedback_few_agree"),
        ({"": "math.CO"}, {}, "feedback_few_agree"),
        ({"": "math.CO"}, {"agree": 1}, ""),
        ({"ann": "math.CO", "bob": "cs.LG"}, {}, "feedback_few_agree"),
        (both(), {}, ""),
        ({**both(), "eve": "cs.LG"}, {}, "feedback_disputed"),
        ({**both(), "eve": "cs.LG"}, {"agreement": 0.6}, ""),
        ({**both(), "eve": "cs.LG"}, {"trust": {"eve": 0.0}}, ""),
        ({"ann": "math.CO"}, {"trust": {"ann": 2.0}}, ""),
        (both(), {"trust": {"ann": 0.5}}, "feedback_few_agree"),
        ({"ann": "math.CO"}, {"trust": {"ann": 0.0}, "agree": 0.5}, "feedback_few_agree"),
    ],
)
def test_a_word_is_a_label_when_enough_trusted_keys_agree(
    parent: Path, tmp_path: Path, words: dict[str, str], policy: dict[str, Any], reason: str
) -> None:
    chosen = FeedbackPolicy(client_share=1.0, category_share=1.0, **policy)
    said = [asked(1, words), asked(2, {"cat": "cs.LG", "dan": "cs.LG"})]
    manifest = extend(parent, tmp_path / "after", said, policy=chosen)
    labels = labels_in(tmp_path / "after")
    assert labels["Asked 2"] == "cs.LG"
    assert labels.get("Asked 1") == (None if reason else "math.CO")
    assert manifest.dropped == ({reason: 1} if reason else {})


def test_the_last_word_of_a_client_counts_over_all_predictions_of_a_paper(
    parent: Path, tmp_path: Path
) -> None:
    first, again = asked(1, both("cs.LG")), asked(1, {"cat": "cs.LG", "ann": "math.CO"})
    later = PredictionEvent.from_dict(
        {**again.event.to_dict(), "prediction_id": derived_prediction_id("again", at_ms=9)}
    )
    changed = tuple(
        FeedbackEvent(
            prediction_id=later.prediction_id,
            category="math.CO",
            at_utc="2026-11-21T00:00:00.000Z",
            client=client,
        )
        for client in ("ann", "bob")
    )
    extend(parent, tmp_path / "after", [Prediction(later, changed), first])
    assert labels_in(tmp_path / "after") == {"Asked 1": "math.CO"}


def test_texts_that_are_not_kept_are_counted_and_a_journal_without_any_is_refused(
    parent: Path, tmp_path: Path
) -> None:
    bare = asked(1, both(), text=None)
    manifest = extend(parent, tmp_path / "after", [bare, asked(2, both())])
    assert manifest.dropped == {"feedback_without_text": 1}
    assert manifest.config["extension"]["feedback"] == {
        **{"papers": 2, "labels": 1, "clients": 2, "distrusted": 0}
    }
    with pytest.raises(InvalidJournal, match=r"feedback on 1 papers.*--journal-text"):
        extend(parent, tmp_path / "none", [bare])
    with pytest.raises(InvalidDataset, match="no new paper"):
        extend(parent, tmp_path / "none", [asked(3)])


def test_a_paper_that_the_archive_has_too_takes_its_label_from_there(
    parent: Path, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "new.jsonl", [record(70_001, published_date=DAY)])
    known = [
        asked(1, both(), paper_id="1607.00001v2"),
        asked(2, both(), text="Other\nWe study example number 5 in depth."),
        asked(3, both(), paper_id="arXiv:1607.70001"),
        asked(4, both()),
    ]
    manifest = extend(parent, tmp_path / "after", known, source)
    assert manifest.dropped == {"known_id": 1, "known_text": 1, "duplicate_id": 1}
    assert labels_in(tmp_path / "after") == {"Asked 4": "math.CO"}


def test_held_out_are_papers_of_the_archive_as_long_as_there_are_any(
    parent: Path, tmp_path: Path
) -> None:
    rows = [record(70_000 + n, published_date=f"2026-10-{n:02d}") for n in range(1, 21)]
    source = write_rows(tmp_path / "new.jsonl", rows)
    said = [asked(n, both()) for n in range(10)]
    extend(parent, tmp_path / "after", said, source)
    train = pl.read_parquet(tmp_path / "after" / "train.parquet")
    assert train["title"].str.starts_with("Asked").sum() == 10
    alone = extend(parent, tmp_path / "alone", said)
    assert alone.config["extension"]["new"] == {"train": 8, "valid": 1, "test": 1}


def test_a_client_that_is_wrong_on_known_papers_is_not_heard(parent: Path, tmp_path: Path) -> None:
    known = [
        asked(n, {"eve": "math.CO", "ann": "cs.LG"}, paper_id=f"1607.{n:05d}") for n in range(1, 6)
    ]
    said = [*known, asked(50, {"eve": "math.CO", "bob": "math.CO"}), asked(51, both())]
    manifest = extend(parent, tmp_path / "after", said)
    assert labels_in(tmp_path / "after") == {"Asked 51": "math.CO"}
    assert manifest.config["extension"]["feedback"]["distrusted"] == 1
    policy = FeedbackPolicy(client_share=1.0, category_share=1.0, checks=6)
    extend(parent, tmp_path / "lenient", said, policy=policy)
    assert set(labels_in(tmp_path / "lenient")) == {"Asked 50", "Asked 51"}


def test_a_poisoned_pair_of_keys_labels_no_more_than_its_share(
    parent: Path, tmp_path: Path
) -> None:
    rows = [record(70_000 + n, published_date=f"2026-10-{n % 28 + 1:02d}") for n in range(90)]
    source = write_rows(tmp_path / "new.jsonl", rows)
    poison = [asked(n, {"eve": "math.CO", "mal": "math.CO"}) for n in range(200)]
    policy = FeedbackPolicy(category_share=1.0)
    manifest = extend(parent, tmp_path / "after", poison, source, policy=policy)
    n = manifest.config["extension"]["feedback"]["labels"]
    assert n == 30  # a quarter of 120
    assert manifest.dropped == {"feedback_client_share": 170}
    manifest = extend(parent, tmp_path / "usual", poison, source, policy=FeedbackPolicy())
    assert manifest.config["extension"]["categories"]["math.CO"] == {"before": 60, "after": 66}


def test_the_order_of_journals_does_not_matter(parent: Path, tmp_path: Path) -> None:
    said = [asked(n, both("cs.LG" if n % 2 else "math.CO")) for n in range(30)]
    policy = FeedbackPolicy(client_share=1.0, category_share=0.1)
    one = extend(parent, tmp_path / "one", said, policy=policy)
    two = extend(parent, tmp_path / "two", reversed(said), policy=policy)
    assert one.digest == two.digest
    assert sum(one.dropped.values()) > 0


WORDS = st.dictionaries(
    st.sampled_from(["ann", "bob", "cat", "dan", "eve"]),
    st.sampled_from(["cs.LG", "math.CO"]),
    max_size=5,
)
SHARES = st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0])


@given(
    said=st.lists(WORDS, max_size=25), n_new=st.integers(1, 12), shares=st.tuples(SHARES, SHARES)
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_clients_say_none_has_more_than_its_share_and_the_counts_add_up(
    parent: Path, said: list[dict[str, str]], n_new: int, shares: tuple[float, float]
) -> None:
    policy = FeedbackPolicy(client_share=shares[0], category_share=shares[1])
    predictions = [asked(number, words) for number, words in enumerate(said)]
    with TemporaryDirectory() as place:
        rows = [record(70_000 + n, published_date=f"2026-10-{n + 1:02d}") for n in range(n_new)]
        source = write_rows(Path(place, "new.jsonl"), rows)
        manifest = extend(parent, Path(place, "after"), predictions, source, policy=policy)
        labels = labels_in(Path(place, "after"))
    assert manifest.read == manifest.kept + sum(manifest.dropped.values())
    assert manifest.read == 120 + n_new + sum(1 for words in said if words)
    changes = manifest.config["extension"]
    assert changes["feedback"]["labels"] == len(labels)
    counts: Counter[Any] = Counter()
    for title, code in labels.items():
        words = said[int(title.split()[1])]
        agreeing = [client for client, category in words.items() if category == code]
        assert len(agreeing) >= 2
        assert len(agreeing) >= 0.75 * len(words)
        counts.update(agreeing)
        counts.update((client, code) for client in agreeing)
    n_all = sum(changes["new"].values())
    for who, n in counts.items():
        if isinstance(who, str):
            assert n <= shares[0] * n_all + 1e-9
        else:
            assert n <= shares[1] * changes["categories"][who[1]]["after"] + 1e-9


def test_nothing_is_over_a_share_where_nothing_is_fed_back() -> None:
    schema = {"row": pl.UInt32, "fingerprint": pl.String, "category_code": pl.String}
    none = pl.DataFrame(schema={**schema, "clients": pl.List(pl.String)})
    assert not any(over_share(none, {}, FeedbackPolicy(), 7).values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"agree": 0.0},
        {"agreement": 0.4},
        {"client_share": 1.5},
        {"category_share": -0.1},
        {"trust": {"ann": float("nan")}},
        {"trust": {"ann": -1.0}},
        {"checks": 0},
    ],
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        FeedbackPolicy(**wrong)
    with pytest.raises(InvalidConfig, match="no paper for training"):
        ExtendConfig(test_share=0.5, valid_share=0.5)
