"""Measures what rules ask for beside the metrics: robustness, behaviour, parity, cost, leaks."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np

from classmark.bundle import Bundle
from classmark.dataset import (
    category_sentences,
    count_leaks,
    iter_authors,
    iter_texts,
    load_manifest,
    read_split,
)
from classmark.errors import InvalidGates, SignatureRefused
from classmark.evaluation import (
    ROBUSTNESS_KINDS,
    EvaluationConfig,
    RobustnessConfig,
)
from classmark.evaluation.behaviour import BEHAVIOURS, BehaviourRate, measure_behaviour
from classmark.evaluation.gate import Cost, Finding, Leaks, Parity
from classmark.evaluation.gate.rules import FitRules
from classmark.evaluation.robustness.gates import CLEAN
from classmark.kernels import kernel_of
from classmark.kernels.cascade import with_members
from classmark.kernels.parity import count_differences
from classmark.pipeline.scoring import as_paper
from classmark.profiling.turns import ModelCost, median_interval, take_turns
from classmark.records import DatasetManifest, Paper, Progress, RobustnessGates
from classmark.registry import Registry
from classmark.registry.signatures import own_public_key
from classmark.runtime import Classifier

SPLIT = "test"
_FITTED = ("train", "valid")
"""A fit is calibrated on valid papers: one of these in the test split is a leak too."""
_MB = 1e6


def draw_test_papers(
    dataset: Path, manifest: DatasetManifest, most: int, seed: int
) -> tuple[Paper, ...]:
    """Return at most so many test papers, with the authors and years that the dataset names."""
    split = read_split(dataset, SPLIT, manifest, texts=False)
    rows = np.random.default_rng(seed).permutation(len(split))[:most]
    wanted = set(rows.tolist())
    texts = iter_texts(dataset, SPLIT, manifest)
    names = iter_authors(dataset, SPLIT, manifest)
    papers = zip(texts, names, split.years.tolist(), strict=True)
    return tuple(as_paper(*paper) for row, paper in enumerate(papers) if row in wanted)


def as_gated(gates: RobustnessGates, measurement: EvaluationConfig) -> RobustnessConfig:
    """Return the measurement that a gate file is about: its kinds, papers and seed.

    Raises:
        InvalidGates: it is about none that this classmark knows.
    """
    unknown = sorted(set(gates.minimum) - {CLEAN, *ROBUSTNESS_KINDS})
    if unknown or gates.papers < 1 or gates.seed < 0:
        fault = f"the kind {unknown[0]!r}" if unknown else "its number of papers or seed"
        raise InvalidGates(
            f"the gate file of robustness cannot be used: {fault} is unknown. Write one with "
            "`classmark evaluate robustness --write-gates FILE`."
        )
    return RobustnessConfig(
        papers=gates.papers,
        kinds=tuple(kind for kind in ROBUSTNESS_KINDS if kind in gates.minimum),
        measurement=replace(measurement, seed=gates.seed),
    )


def measure_behaviours(classifier: Classifier, progress: Progress) -> tuple[BehaviourRate, ...]:
    """Return the rate of every behaviour."""
    progress.step("asking for behaviour")
    sentences, rates = category_sentences(), []
    for name in BEHAVIOURS:
        rates.append(measure_behaviour(name, classifier, sentences))
        progress.advance(1)
    return tuple(rates)


def compare_kernels(bundle: Bundle, papers: tuple[Paper, ...]) -> Parity:
    """Return how many papers C and numpy score differently."""
    differ = count_differences(bundle, papers)
    if differ is not None:
        return Parity(differ=differ, papers=len(papers))
    note = f"a {bundle.manifest.kind} has one kernel"
    if kernel_of(bundle.manifest).in_c:
        note = "the C kernel is not installed here"
    return Parity(differ=None, papers=0, note=note)


def measure_costs(
    both: tuple[Bundle, Bundle | None], papers: tuple[Paper, ...], rounds: int, progress: Progress
) -> dict[str, Cost]:
    """Return latency, memory and size of candidate and champion, which take turns.

    Raises:
        WorkerFailed: a process died.
    """
    progress.step("taking turns")
    candidate, champion = both
    folders = [bundle.path.resolve() for bundle in both if bundle is not None]
    found = take_turns(folders, papers, rounds, progress)
    own, other = found[0], found[1] if champion else None
    return {
        "latency": _latency(own, other),
        "memory": _once(own.peak_mb or 0.0, other.peak_mb if other else None),
        "size": _once(_size_mb(candidate), _size_mb(champion) if champion else None),
    }


def _latency(own: ModelCost, other: ModelCost | None) -> Cost:
    candidate = statistics.median(own.latency_ms)
    if other is None:
        return Cost(candidate=candidate)
    ratios = [a / b for a, b in zip(own.latency_ms, other.latency_ms, strict=True)]
    low, high = median_interval(ratios)
    return Cost(
        candidate=candidate,
        champion=statistics.median(other.latency_ms),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
    )


def _once(candidate: float, champion: float | None) -> Cost:
    if not champion:
        return Cost(candidate=candidate)
    return Cost(candidate=candidate, champion=champion, ratio=candidate / champion)


def _size_mb(bundle: Bundle) -> float:
    """Return the size of a bundle, and of the models that a cascade names."""
    folders = [bundle.path, *(member.path for member in with_members(bundle).members.values())]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / _MB


def look_at_signature(registry: Registry | None, digest: str, key: Path | None) -> Finding:
    """Return whether a key that a registry trusts signed a bundle of it, or is going to.

    Args:
        registry: that would have the signature.
        digest: of the bundle.
        key: private key that will sign it when it is added; None if it is not added after this.

    Raises:
        BundleCorrupt: a file of the bundle has changed.
        InvalidKeys: the key cannot be read.
    """
    if registry is None:
        return Finding(holds=None, note="no registry is given, which would have the signature")
    pointer = registry.pointer()
    if not registry.trusted(pointer):
        return Finding(holds=None, note="the registry trusts no key")
    if digest not in pointer.bundles and key is not None:
        trusted = own_public_key(key).keys() & registry.trusted(pointer).keys()
        note = "it is signed when it is added" if trusted else f"{key.name} is not trusted"
        return Finding(holds=bool(trusted), note=note)
    if digest not in pointer.bundles:
        return Finding(holds=False, note="it is not in the registry, which keeps signatures")
    try:
        registry.load(digest)
    except SignatureRefused as error:
        return Finding(holds=False, note=str(error))
    return Finding(holds=True)


def find_leaks(bundle: Bundle, dataset: Path, manifest: DatasetManifest, rules: FitRules) -> Leaks:
    """Return how many test papers the candidate was fitted or calibrated on, by id and abstract.

    Which dataset that was, the bundle states; its papers are sought in the dataset of the gate
    and in the folders that the rules name.

    Raises:
        InvalidDataset: one of those folders is not a dataset.
    """
    members = with_members(bundle).members.values()
    stated = [b.manifest.provenance.get("dataset_digest") for b in (bundle, *members)]
    digests = {digest for digest in stated if isinstance(digest, str) and digest}
    if not digests:
        return Leaks(papers=None, note="the bundle does not say on which dataset it was fitted")
    folders = {manifest.digest: (dataset, manifest)}
    for place in rules.trained_on:
        known = load_manifest(place)
        folders.setdefault(known.digest, (place, known))
    absent = sorted(digests - folders.keys())
    if absent:
        return Leaks(
            papers=None,
            note=f"it was fitted on dataset {absent[0][:12]}, which is not in the folders given; "
            "name its folder in fit.trained_on",
        )
    used = [folders[digest] for digest in sorted(digests)]
    fitted = [p / m.splits[name].file for p, m in used for name in _FITTED if name in m.splits]
    count = count_leaks(dataset / manifest.splits[SPLIT].file, fitted)
    names = ", ".join(digest[:12] for digest in sorted(digests))
    return Leaks(papers=count, note=f"of {manifest.splits[SPLIT].papers:,}; fitted on {names}")
