"""A classifier is pickled as the path and digest of its bundle, and copied without reading it."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import classmark.errors
from classmark import Classifier
from classmark.bundle import find_bundle
from classmark.client.problems import ServiceBusy, ServiceProblem
from classmark.errors import BundleCorrupt, BundleIncompatible, BundleNotFound, ClassmarkError
from classmark.kernels import RawScores
from classmark.neighbours import (
    Entry,
    EvidenceWeights,
    SideWeights,
    build_index,
    set_evidence,
)
from classmark.papers import RECIPE_VERSION
from classmark.runtime import pickling
from classmark.wire import ProblemDocument
from deep_bundles import DeepFolders, copy_of, write_cascade

Make = Callable[..., Path]
TEXT = "A graph paper\nWe colour a graph and its graph minor"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Let every test read its bundle itself."""
    pickling._loaded.cache_clear()
    yield
    pickling._loaded.cache_clear()


@pytest.fixture
def bundle(make_bundle: Make, word_scorer: object) -> Path:
    return make_bundle("tiny", "1.0", text_recipe=RECIPE_VERSION)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_a_copy_answers_alike(bundle: Path, copied: Callable[[Any], Any]) -> None:
    classifier = Classifier(bundle)
    twin = copied(classifier)
    assert twin is not classifier
    assert twin.classify(TEXT) == classifier.classify(TEXT)
    assert (twin.model, twin.labels) == (classifier.model, classifier.labels)


def test_a_pickle_holds_only_where_the_bundle_is(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.parent)
    pickled = pickle.dumps(Classifier(Path(bundle.name)))
    assert len(pickled) < 1000
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).classify(TEXT).primary == "math.CO"


def test_a_copy_needs_no_bundle_any_more(bundle: Path) -> None:
    classifier = Classifier(bundle)
    shutil.rmtree(bundle)
    assert copy.deepcopy({"it": classifier})["it"].classify(TEXT).primary == "math.CO"


def test_a_bundle_that_was_replaced_is_refused(bundle: Path, make_bundle: Make) -> None:
    pickled = pickle.dumps(Classifier(bundle))
    pickle.loads(pickled)
    shutil.rmtree(bundle)
    labels = ("cs.LG", "hep-th", "math.CO", "stat.ME")
    make_bundle("tiny", "1.0", text_recipe=RECIPE_VERSION, labels=labels)
    with pytest.raises(BundleIncompatible, match=r"was replaced: it has digest .* had "):
        pickle.loads(pickled)


def test_a_bundle_that_was_damaged_or_removed_is_refused(bundle: Path) -> None:
    pickled = pickle.dumps(Classifier(bundle))
    pickle.loads(pickled)
    [weights] = bundle.rglob("weights.npy")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BundleCorrupt, match="has changed since the bundle was written"):
        pickle.loads(pickled)
    shutil.rmtree(bundle)
    with pytest.raises(BundleNotFound):
        pickle.loads(pickled)


def test_a_pool_that_unpickles_for_every_task_reads_the_bundle_once(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = pickle.dumps(Classifier(bundle))
    n_read = 0
    load = pickling.load_bundle

    def counted(folder: Path) -> Any:
        nonlocal n_read
        n_read += 1
        return load(folder)

    monkeypatch.setattr(pickling, "load_bundle", counted)
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    first.labels = ()
    assert second.labels
    assert n_read == 1


class FlatScorer:
    """A kernel of the caller's own, to which all labels are alike."""

    explanation_method = "exact_linear"

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        return RawScores(np.zeros((len(papers), 4), np.float32), np.ones(len(papers), np.float32))

    def contributions(self, *_: object) -> list[tuple[str, float]]:
        return []


def test_a_scorer_of_the_callers_own_is_pickled_too(bundle: Path) -> None:
    loaded = pickling.load_bundle(bundle)
    classifier = Classifier.from_bundle(loaded, scorer=FlatScorer())
    restored = pickle.loads(pickle.dumps(classifier))
    assert type(restored._scorer) is FlatScorer
    assert restored.classify(TEXT) == classifier.classify(TEXT)


class Named(Classifier):
    """A class of a caller's own."""


def test_a_class_of_the_callers_own_is_kept(bundle: Path) -> None:
    assert type(pickle.loads(pickle.dumps(Named(bundle)))) is Named
    assert type(copy.deepcopy(Named(bundle))) is Named


def test_answers_are_pickled_and_copied_as_a_list() -> None:
    answers = Classifier().classify([TEXT, "Sparse graphs"])
    assert pickle.loads(pickle.dumps(answers)) == list(answers)
    assert copy.deepcopy(answers) == copy.copy(answers) == list(answers)


# --- other processes ----------------------------------------------------------------------------


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_the_work_of_the_packaged_model(method: str) -> None:
    classifier = Classifier()
    texts = ["The planets of distant stars", "The chromatic number of sparse graphs"]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(classifier.classify, texts) == classifier.classify(texts)


@pytest.mark.slow  # starts a process
def test_another_process_refuses_a_bundle_that_was_changed(tmp_path: Path) -> None:
    folder = copy_of(find_bundle(), tmp_path)
    classifier = Classifier(folder)
    (folder / "CARD.md").write_text("another card", encoding="utf-8")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        reason = pool.submit(_unpickled, pickle.dumps(classifier)).result()
    assert "CARD.md has changed since the bundle was written" in reason


def _unpickled(pickled: bytes) -> str:
    try:
        pickle.loads(pickled)
    except BundleCorrupt as error:
        return str(error)
    return "unpickled"


@pytest.mark.slow  # makes deep bundles
def test_a_deep_model_and_a_cascade_are_pickled(deep: DeepFolders, fast_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    both = write_cascade(
        deep.fp32.with_name("pickled-1.0"), {"fast": fast_bundle, "deep": deep.fp32}
    )
    texts = ["Graphs and colours", "Planets of a star"]
    context = multiprocessing.get_context("spawn")
    for folder in (deep.fp32, both):
        classifier = Classifier(folder)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(classifier.classify, texts).result() == classifier.classify(texts)
        assert copy.deepcopy(classifier).classify(texts) == classifier.classify(texts)


@pytest.mark.slow  # reads five bundles
def test_a_cascade_of_linear_models_is_pickled(tmp_path: Path) -> None:
    source = find_bundle()
    parts = {"fast": Path(shutil.copytree(source, tmp_path / source.name)), "deep": source}
    cascade = write_cascade(tmp_path / "both-1.0", parts)
    classifier = Classifier(cascade)
    restored = pickle.loads(pickle.dumps(classifier))
    assert restored.classify(TEXT) == classifier.classify(TEXT)


# --- errors -------------------------------------------------------------------------------------


def _errors() -> list[type[ClassmarkError]]:
    found = [kind for kind in vars(classmark.errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, ClassmarkError)]


@pytest.mark.parametrize("kind", _errors())
def test_every_error_survives_the_way_between_processes(kind: type[ClassmarkError]) -> None:
    arguments = ("Training", "train") if kind is classmark.errors.MissingExtra else ("it failed.",)
    error = kind(*arguments)
    restored = pickle.loads(pickle.dumps(error))
    assert (type(restored), str(restored), restored.kind) == (kind, str(error), error.kind)


@pytest.mark.parametrize("kind", [ServiceProblem, ServiceBusy])
def test_a_problem_of_a_service_survives_the_way_between_processes(
    kind: type[ServiceProblem],
) -> None:
    document = ProblemDocument(
        type="", title="", status=429, detail="slow down", instance="", kind="rate_exceeded"
    )
    error = kind(document, 2.0)
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is kind
    assert (str(restored), restored.retry_after_s) == (str(error), 2.0)


def test_copies_and_pickles_use_the_index_of_neighbours(tmp_path: Path) -> None:
    plain, text = Classifier(), "We colour sparse graphs with few colours."
    entries = [Entry("a", 2019, ("cs.CG",))]
    build_index(tmp_path / "index", [(entries, plain.vectors([text]))], plain.model)
    weights = EvidenceWeights(1.1, SideWeights((1.0, 0.5, 0.5, 0.0)))
    set_evidence(tmp_path / "index", weights, plain.model)
    classifier = plain.with_index(tmp_path / "index")
    answer = classifier.classify(text)
    assert answer.evidence == ("abstract", "neighbours")
    for twin in (copy.copy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert twin.classify(text) == answer
    assert plain.classify(text).evidence == ("abstract",)
