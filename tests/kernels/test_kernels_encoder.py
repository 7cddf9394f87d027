"""The kernel of the deep tier: answers know no company, bad bundles are refused."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from classmark import Classifier
from classmark.bundle import load_bundle, write_bundle
from classmark.errors import BundleCorrupt, BundleIncompatible, InvalidConfig
from classmark.evaluation.behaviour import invented_papers
from classmark.kernels.encoder import (
    RUN_TOKENS,
    THREADS_VARIABLE,
    EncoderScorer,
    default_threads,
    load_scorer,
    plan_runs,
)
from classmark.records import Paper
from deep_bundles import DeepFolders, copy_of

pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds

FP32_TOLERANCE = 1e-4

Pairs = list[tuple[str, str]]


def golden_papers() -> Pairs:
    return [(paper.title, paper.abstract) for paper in invented_papers()]


@pytest.fixture(scope="module")
def fp32(deep: DeepFolders) -> EncoderScorer:
    return load_scorer(load_bundle(deep.fp32))


@pytest.fixture(scope="module")
def int8(deep: DeepFolders) -> EncoderScorer:
    return load_scorer(load_bundle(deep.int8))


def test_golden_papers_score_alike_in_any_company(fp32: EncoderScorer, int8: EncoderScorer) -> None:
    papers = golden_papers()
    for scorer, tolerance in ((fp32, FP32_TOLERANCE), (int8, 0.0)):
        together = scorer.score(papers).scores
        alone = np.concatenate([scorer.score([paper]).scores for paper in papers])
        backwards = scorer.score(papers[::-1]).scores[::-1]
        np.testing.assert_allclose(together, alone, rtol=0, atol=tolerance)
        np.testing.assert_allclose(together, backwards, rtol=0, atol=tolerance)


WORDS = st.sampled_from(["graph", "theory", "we", "prove", "neural", "galaxy", "x", "protein"])
TEXTS = st.lists(WORDS, max_size=70).map(" ".join)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(papers=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=9), data=st.data())
def test_any_part_of_a_batch_gives_the_same_scores(
    fp32: EncoderScorer, int8: EncoderScorer, papers: Pairs, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(papers) - 1), min_size=1, max_size=5))
    part = [papers[row] for row in rows]
    np.testing.assert_allclose(
        fp32.score(part).scores, fp32.score(papers).scores[rows], rtol=0, atol=FP32_TOLERANCE
    )
    np.testing.assert_array_equal(int8.score(part).scores, int8.score(papers).scores[rows])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paper=st.tuples(TEXTS, TEXTS))
def test_int8_stays_close_to_fp32(
    fp32: EncoderScorer, int8: EncoderScorer, paper: tuple[str, str]
) -> None:
    plain, small = fp32.score([paper]), int8.score([paper])
    spread = float(np.ptp(plain.scores)) + 1.0
    assert np.abs(plain.scores - small.scores).max() < 0.25 * spread
    assert plain.known_share == small.known_share


def test_no_papers_give_no_scores(fp32: EncoderScorer) -> None:
    assert fp32.score([]).scores.shape == (0, 24)


@given(st.lists(st.integers(3, 300), max_size=60))
def test_runs_hold_every_paper_once_sorted_and_within_the_bound(lengths: list[int]) -> None:
    runs = list(plan_runs(lengths, RUN_TOKENS))
    assert sorted(place for run in runs for place in run) == list(range(len(lengths)))
    flat = [lengths[place] for run in runs for place in run]
    assert flat == sorted(flat)
    for run in runs:
        assert len(run) == 1 or len(run) * max(lengths[p] for p in run) <= RUN_TOKENS
    assert all(len(run) == 1 for run in plan_runs(lengths, 1))


def test_an_explanation_by_occlusion_leaves_nothing_unsaid(deep: DeepFolders) -> None:
    answer = Classifier(deep.int8).classify(
        Paper(title="Sparse graphs", abstract="We prove a bound for graphs."), explain=True
    )
    assert answer.explanation is not None
    assert answer.explanation_method == "occlusion"
    terms = [evidence.term for evidence in answer.explanation]
    assert {"sparse", "graphs", "prove", "bound", "for"} == set(terms) - {"(residual)"}
    assert terms[-1] == "(residual)"
    top, second = (ranked.probability for ranked in answer.ranked[:2])
    total = math.fsum(evidence.weight for evidence in answer.explanation)
    assert total == pytest.approx(math.log(top / second), abs=1e-3)


def test_a_changed_byte_of_network_or_tokenizer_is_refused(
    deep: DeepFolders, tmp_path: Path
) -> None:
    for name in ("model.onnx", "tokenizer.json"):
        folder = copy_of(deep.int8, tmp_path / name)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(BundleCorrupt, match=f"{name}.*has changed"):
            Classifier(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"model.onnx": b"\x08\x09"}}, "onnxruntime .* cannot load the network"),
        ({"files": {"tokenizer.json": b"{}"}}, "lacks what an encoder needs"),
        ({"parameters": {"precision": "int4"}}, "is in 'int4', .* runs fp32, fp16, int8"),
        ({"parameters": {"inputs": ["input_ids"]}}, "the bundle says input_ids and 24"),
        ({"featuriser": "bytes-1"}, "needs tokens 'bytes-1'"),
    ],
)
def test_a_bundle_that_cannot_be_run_says_why(
    deep: DeepFolders, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    from dataclasses import replace

    bundle = load_bundle(deep.int8)
    files = {name: bundle.content(name) for name in ("model.onnx", "tokenizer.json")}
    files |= changes.pop("files", {})  # type: ignore[call-overload]
    seen: dict[str, object] = dict(changes)
    if "parameters" in seen:
        seen["parameters"] = {**bundle.manifest.parameters, **seen["parameters"]}  # type: ignore[dict-item]
    manifest = replace(bundle.manifest, **seen)  # type: ignore[arg-type]
    write_bundle(tmp_path / "spoilt-1.0", manifest, {}, files)
    with pytest.raises(BundleIncompatible, match=message):
        Classifier(tmp_path / "spoilt-1.0")


def test_a_forked_process_answers_with_threads_of_its_own(int8: EncoderScorer) -> None:
    papers = golden_papers()[:3]
    expected = int8.score(papers).scores.tobytes()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"same" if int8.score(papers).scores.tobytes() == expected else b"other")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"same"
    os.waitpid(child, 0)


def test_threads_are_the_operators_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "3")
    assert default_threads() == 3
    monkeypatch.setenv(THREADS_VARIABLE, "many")
    with pytest.raises(InvalidConfig, match="CLASSMARK_THREADS is 'many'"):
        default_threads()
    monkeypatch.delenv(THREADS_VARIABLE)
    assert 1 <= default_threads() <= 4


CLASSIFY_WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Blocker())
from classmark.__main__ import main
sys.argv = ["classmark", "classify", "--model", {model!r}, "We prove a bound on graphs."]
sys.exit(main())
"""
TRAINING = {"torch", "lightning", "transformers", "sklearn", "scipy", "hydra", "omegaconf"}
TRAINING |= {"polars", "mlflow", "onnx", "safetensors", "pyarrow"}


def classify_without(blocked: set[str], model: Path) -> subprocess.CompletedProcess[str]:
    code = CLASSIFY_WITHOUT.format(blocked=blocked, model=str(model))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_deep_model_classifies_where_nothing_that_trains_is_installed(deep: DeepFolders) -> None:
    result = classify_without(TRAINING, deep.int8)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_without_the_extra_one_line_names_it(deep: DeepFolders) -> None:
    result = classify_without({*TRAINING, "onnxruntime", "tokenizers"}, deep.int8)
    assert result.returncode == 1
    assert "pip install 'classmark[onnx]'" in result.stderr
    assert "Traceback" not in result.stderr
