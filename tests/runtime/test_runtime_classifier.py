"""Anything that reads as a paper is classified; anything else is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark import Classifier, Paper
from classmark.bundle import find_bundle, load_bundle, write_bundle
from classmark.errors import (
    BundleCorrupt,
    BundleIncompatible,
    BundleNotFound,
    InvalidPaper,
    UsageError,
)
from classmark.kernels import count_terms
from classmark.kernels.explanation import N_TERMS, explain
from classmark.papers import RECIPE_VERSION
from classmark.runtime import in_batches
from classmark.runtime import intake as intake_module

REPORTS = Path(__file__).parents[2] / "benchmarks" / "reports"
GRAPH_TEXT = "A graph paper\nWe colour a graph and its graph minor"
Make = Callable[..., Path]


@pytest.fixture
def classifier(make_bundle: Make, word_scorer: object) -> Classifier:
    make_bundle("tiny", "1.0", text_recipe=RECIPE_VERSION)
    return Classifier("tiny")


@pytest.mark.parametrize(
    "x",
    [
        GRAPH_TEXT,
        {"title": "A graph paper", "abstract": "We colour a graph and its graph minor"},
        {"summary": "A graph paper. We colour a graph and its graph minor"},
        Paper(title="A graph paper", abstract="We colour a graph and its graph minor"),
    ],
)
def test_one_paper_gives_one_answer_in_every_spelling(classifier: Classifier, x: Any) -> None:
    answer = classifier.classify(x)
    assert (answer.primary, answer.reason) == ("math.CO", "accepted")
    assert classifier.classify([x]) == [answer]


def test_a_list_gives_a_list_in_its_order(classifier: Classifier) -> None:
    texts = ["graph graph", "learning learning", "string string"]
    expected = ["math.CO", "cs.LG", "hep-th"]
    assert [a.primary for a in classifier.classify(texts)] == expected
    assert [a.primary for a in classifier.classify(text for text in texts)] == expected
    assert classifier.classify([]) == []


def test_an_answer_has_the_id_of_its_record(classifier: Classifier) -> None:
    papers = [{"id": 12, "abstract": "graph"}, Paper(id="x", abstract="graph"), "graph"]
    assert [a.id for a in classifier.classify(papers)] == ["12", "x", None]


def test_an_answer_names_the_model_and_its_digest(
    classifier: Classifier, make_bundle: Make
) -> None:
    labels = ("cs.LG", "hep-th", "math.CO", "stat.ME")
    other = make_bundle("other", "1.0", text_recipe=RECIPE_VERSION, labels=labels)
    digest = load_bundle(other).digest
    assert classifier.model.name == "tiny"
    assert classifier.classify("graph").model == classifier.model
    assert len(classifier.model.digest) == len(digest) == 64
    assert classifier.model.digest != digest


def test_top_and_threshold_are_the_callers(classifier: Classifier) -> None:
    assert len(classifier.classify("graph", top=2).ranked) == 2
    assert len(classifier.classify("graph", top=99).ranked) == 4
    assert classifier.classify("graph", threshold=0.99).reason == "below_threshold"
    with pytest.raises(UsageError, match="top must be an integer of at least 1, got 0"):
        classifier.classify("graph", top=0)


@pytest.mark.parametrize("text", ["", "  \n\t ", {"title": " ", "abstract": ""}, Paper()])
def test_a_paper_without_text_is_refused(classifier: Classifier, text: Any) -> None:
    with pytest.raises(InvalidPaper, match="title and abstract are both empty"):
        classifier.classify(text)
    with pytest.raises(InvalidPaper, match="item 1: title and abstract are both empty"):
        classifier.classify(["graph", text])


@pytest.mark.parametrize("x", [None, 3, b"graph", Path("papers.jsonl")])
def test_what_is_no_paper_is_refused_by_its_type(classifier: Classifier, x: Any) -> None:
    with pytest.raises(InvalidPaper, match=f"cannot classify a {type(x).__name__}"):
        classifier.classify(x)
    with pytest.raises(InvalidPaper, match=f"item 0: cannot classify a {type(x).__name__}"):
        classifier.classify([x])


def test_a_mapping_without_text_names_its_keys(classifier: Classifier) -> None:
    with pytest.raises(InvalidPaper, match=r"item 0: .*keys seen: body"):
        classifier.classify([{"body": "graph"}])


def test_scores_are_raw_and_in_label_order(classifier: Classifier) -> None:
    raw = classifier.score([Paper(abstract="graph graph string x")])
    np.testing.assert_allclose(raw.scores, [[0.5, 3.25, 6.0, -0.25]])
    np.testing.assert_allclose(raw.known_share, [0.75])
    assert classifier.labels == ("cs.LG", "hep-th", "math.CO", "stat.ML")
    assert classifier.score([]).scores.shape == (0, 4)
    assert classifier.score([]).known_share.shape == (0,)


def test_an_explanation_sums_to_the_log_odds_against_the_runner_up(
    make_bundle: Make, word_scorer: object, manifest: Callable[..., Any]
) -> None:
    from dataclasses import replace

    policy = replace(manifest().policy, temperature=1.7)
    classifier = Classifier(make_bundle(policy=policy, text_recipe=RECIPE_VERSION))
    answer = classifier.classify("graph graph string", explain=True)
    assert answer.explanation is not None
    assert answer.explanation_method == "exact_linear"
    assert [e.term for e in answer.explanation] == ["graph", "string", "(bias)"]
    top, second = (ranked.probability for ranked in answer.ranked[:2])
    assert math.fsum(e.weight for e in answer.explanation) == pytest.approx(math.log(top / second))
    assert classifier.classify("graph").explanation is None


@given(weights=st.lists(st.floats(-50, 50), max_size=40), temperature=st.floats(0.1, 10))
def test_an_explanation_leaves_nothing_unsaid(weights: list[float], temperature: float) -> None:
    contributions = [(f"t{i}", weight) for i, weight in enumerate(weights)] + [("(bias)", 0.25)]
    evidence = explain(contributions, temperature=temperature)
    total = (math.fsum(weights) + 0.25) / temperature
    assert math.fsum(e.weight for e in evidence) == pytest.approx(total, abs=1e-9)
    terms = [e for e in evidence if not e.term.startswith("(")]
    assert len(terms) == min(len(weights), N_TERMS)
    assert [abs(e.weight) for e in terms] == sorted((abs(e.weight) for e in terms), reverse=True)
    assert [e.term for e in evidence[len(terms) :]] == (
        ["(bias)", "(other terms)"] if len(weights) > N_TERMS else ["(bias)"]
    )


def test_batches_are_bounded_by_papers_and_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MAX_BATCH_PAPERS", 3)
    monkeypatch.setattr(intake_module, "MAX_BATCH_CHARS", 10)
    sizes = [1, 1, 1, 1, 9, 2, 50, 1]
    assert list(in_batches(sizes, lambda n: n)) == [[1, 1, 1], [1, 9], [2], [50], [1]]
    assert list(in_batches([], len)) == []


def test_batches_read_no_further_than_they_must() -> None:
    read: list[int] = []

    def source() -> Any:
        for i in range(10_000):
            read.append(i)
            yield i

    next(in_batches(source(), lambda _: 1))
    assert len(read) == intake_module.MAX_BATCH_PAPERS + 1


def test_batching_does_not_change_answers(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{'graph ' * (i % 3)} string {i}" for i in range(20)]
    whole = classifier.classify(texts, explain=True)
    monkeypatch.setattr(intake_module, "MAX_BATCH_PAPERS", 3)
    assert classifier.classify(texts, explain=True) == whole


@pytest.mark.slow
def test_threads_share_a_classifier(classifier: Classifier) -> None:
    texts = [f"{'graph ' * (i % 4)} string {i}" for i in range(200)]
    expected = classifier.classify(texts)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(classifier.classify, texts)) == expected


def test_columns_of_a_field_that_papers_do_not_have_are_refused(
    make_bundle: Make, word_scorer: object
) -> None:
    folder = make_bundle(text_recipe=RECIPE_VERSION, columns={"colour": "Farbe"})
    with pytest.raises(BundleIncompatible, match=r"model tiny 1\.0: columns .* 'colour'"):
        Classifier(folder)


def test_another_text_recipe_is_refused_and_both_are_told(
    make_bundle: Make, word_scorer: object
) -> None:
    folder = make_bundle(text_recipe="0.9")
    message = (
        rf"tiny 1\.0 was fitted with text recipe '0\.9', this classmark has '{RECIPE_VERSION}'"
    )
    with pytest.raises(BundleIncompatible, match=message):
        Classifier(folder)
    with pytest.raises(BundleIncompatible, match=message):
        Classifier.from_bundle(load_bundle(folder), scorer=word_scorer)  # type: ignore[arg-type]


def test_another_kind_of_model_is_refused(make_bundle: Make) -> None:
    with pytest.raises(
        BundleIncompatible, match="of kind 'oracle', this classmark runs 'linear', 't"
    ):
        Classifier(make_bundle(kind="oracle", text_recipe=RECIPE_VERSION))


def test_a_changed_file_is_refused(make_bundle: Make, word_scorer: object) -> None:
    folder = make_bundle(text_recipe=RECIPE_VERSION)
    (folder / "CARD.md").write_text("# Finy\n")
    with pytest.raises(BundleCorrupt, match=r"CARD\.md has changed"):
        Classifier(folder)


def test_an_unknown_model_is_refused(models_home: Path) -> None:
    with pytest.raises(BundleNotFound, match="no model 'nowhere'"):
        Classifier("nowhere")


FULL = "We bound the second eigenvalue of random regular graphs. " * 4


@pytest.mark.parametrize("text", ["Hello world", "Spectral gaps of random regular graphs"])
def test_the_packaged_model_prints_no_set_that_it_cannot_keep(text: str) -> None:
    answer = Classifier("fast").classify(text)
    assert (answer.set, answer.set_reason) == (None, "few_known_terms")
    published = answer.to_dict()
    assert (published["set"], published["set_reason"]) == (None, "few_known_terms")


def test_a_whole_abstract_gets_a_set_alone_and_in_a_batch() -> None:
    classifier = Classifier("fast")
    alone, batch = classifier.classify(FULL), classifier.classify([FULL, "Hello world"])
    assert alone.set is not None
    assert alone == batch[0]
    assert "set_reason" not in alone.to_dict()
    assert batch[1].set is None


def test_the_packaged_model_says_what_each_category_was_worth_in_its_test() -> None:
    report = json.loads((REPORTS / "fast-2.0-test.json").read_text("utf-8"))
    found = Classifier("fast").classify(FULL, top=149).ranked
    assert len(found) == len(report["categories"]) == 149
    measured = {ranked.code: ranked.reliability for ranked in found}
    for category in report["categories"]:
        reliability = measured[category["code"]]
        assert reliability is not None
        assert reliability.papers == category["predicted"]
        assert reliability.precision == pytest.approx(category["precision"], abs=0.0005)
    never = {code for code, r in measured.items() if r is not None and r.is_rarely_right}
    assert never >= {"econ.EM", "econ.GN", "econ.TH", "cs.PF"}
    assert len(never) == 9


@pytest.mark.parametrize(
    ("title", "abstract", "n_terms"),
    [("", "", 0), ("A title", "and  two\nlines", 5), ("a " * 90, "", 60), ("", "x" * 600, 60)],
)
def test_terms_are_counted_as_far_as_they_matter(title: str, abstract: str, n_terms: int) -> None:
    assert count_terms([(title, abstract)], 60).tolist() == [n_terms]


def test_vectors_are_those_of_the_kernel_for_one_paper_and_for_many() -> None:
    classifier = Classifier()
    one, two = classifier.vectors([FULL, "We colour graphs."])
    assert one.shape == (128,)
    assert (classifier.vectors(FULL)[0] == one).all()
    assert (one != two).any()
    assert classifier.vectors([]).shape == (0, 128)


def test_a_model_that_is_not_of_the_fast_tier_has_no_vectors() -> None:
    class Other:
        explanation_method = "occlusion"

    bundle = load_bundle(find_bundle("fast"))
    classifier = Classifier.from_bundle(bundle, scorer=cast("Any", Other()))
    with pytest.raises(UsageError, match=r"model fast has no vectors.*--model fast"):
        classifier.vectors(FULL)


def test_a_bundle_without_a_table_of_authors_ignores_them_and_its_evidence_says_so(
    tmp_path: Path,
) -> None:
    packaged = load_bundle(find_bundle("fast"))
    arrays = {
        name: array
        for name, array in packaged.arrays.items()
        if not name.startswith(("author_", "join_"))
    }
    manifest = replace(packaged.manifest, name="plain", version="1.0", authors={})
    write_bundle(tmp_path / "plain-1.0", manifest, arrays, {"CARD.md": "# plain 1.0\n"})
    paper = {"title": "Dualities of branes", "abstract": "We study branes in string theory. " * 5}
    named = {**paper, "authors": ["J. Smith", "Y. Wang"]}
    fast, plain = Classifier(), Classifier(tmp_path / "plain-1.0")
    assert "authors" in fast.classify(named).evidence
    answer = plain.classify(named)
    assert answer.evidence == ("title", "abstract")
    assert answer == plain.classify(paper)
    assert answer.probability == fast.classify(named, authors=False).probability
