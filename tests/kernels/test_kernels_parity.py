from __future__ import annotations

from pathlib import Path

import pytest

from authored_models import BRANES, KNOWN
from classmark.bundle import find_bundle, load_bundle
from classmark.evaluation.behaviour import invented_papers
from classmark.kernels.featuriser import KERNEL, fold, fold_in_python
from classmark.kernels.parity import count_differences
from classmark.records import Paper
from deep_bundles import DeepFolders

needs_kernel = pytest.mark.skipif(KERNEL is None, reason="there is no C kernel to compare with")
ODD = ["", "?!", "Ünïcödé – and \u200b more", r"$\alpha \leq \beta$ {\it in} TeX", "a" * 5000]


@needs_kernel
def test_both_kernels_give_the_packaged_model_the_same_bits() -> None:
    papers = [*invented_papers(), *(Paper(title=text, abstract=text) for text in ODD)]
    assert count_differences(load_bundle(find_bundle("fast")), papers) == 0


@needs_kernel
def test_authors_are_joined_on_both_ways(authored_model: Path) -> None:
    bundle = load_bundle(authored_model)
    assert bundle.manifest.authors
    papers = [
        Paper(**BRANES, authors=names, published_date="2015")
        for names in ((), tuple(KNOWN), ("A. Sieve", "Nobody Known"))
    ]
    assert count_differences(bundle, papers) == 0


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text)[:12])
def test_texts_are_folded_alike_by_both(text: str) -> None:
    assert fold(text, text) == fold_in_python(text, text)


@pytest.mark.slow  # importing torch and exporting an encoder take seconds
def test_a_transformer_has_nothing_to_compare(deep: DeepFolders) -> None:
    assert count_differences(load_bundle(deep.fp32), [Paper(title="On rings")]) is None
