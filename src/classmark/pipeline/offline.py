"""The offline path in order: compose, fit, score, calibrate, evaluate, export."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from classmark.dataset import iter_texts, load_manifest, read_split
from classmark.errors import InvalidDataset, LabelMismatch
from classmark.evaluation import EvaluationConfig, evaluate_table
from classmark.export import fit_curve, fit_policy, quantise, render_card
from classmark.papers import RECIPE_VERSION
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.fitting import (
    Listener,
    OnProgress,
    OnStep,
    check_periods,
    fit_and_prune,
    scratch_for,
)
from classmark.pipeline.run_folder import (
    describe_environment,
    find_dataset,
    path_from_run,
    read_run,
    reserve_run_folder,
    without_folders,
    write_run,
)
from classmark.pipeline.tables import make_table
from classmark.pipeline.tracked import describe_run, keep_results, tracked
from classmark.records import (
    BundleManifest,
    DatasetManifest,
    EvaluationReport,
    ModelRef,
    Paper,
    Policy,
    ScoreTable,
)
from classmark.runtime import Classifier, RawScores
from classmark.runtime.featuriser import FEATURISER_VERSION
from classmark.runtime.linear import LinearScorer
from classmark.storage import check_folder_place
from classmark.taxonomy import VERSION as TAXONOMY_VERSION
from classmark.tracking import warn_on_stderr
from classmark.training import LinearWeights, read_occurrences, to_sparse

CHUNK_PAPERS = 500
HEADLINE = ("top_1", "top_3", "top_5", "macro_f1", "ece", "set_coverage", "set_size")


def train_linear(
    config: TrainConfig,
    *,
    command: str,
    on_step: OnStep,
    on_progress: OnProgress,
    on_warning: OnStep = warn_on_stderr,
) -> Path:
    """Fit the fast tier, score the other splits, and return the run folder.

    A tracker that fails is one warning; the fit goes on.

    Raises:
        InvalidDataset: the dataset is missing, changed, or has one label only.
        InvalidConfig: a period is weighted that the dataset does not have.
        TrainingFailed: nothing to fit, or the loss is no number.
        StorageFailed: there is no writing where runs go.
    """
    check_folder_place(config.runs_dir / "run", overwrite=True)
    manifest = load_manifest(config.dataset)
    check_periods(config, manifest)
    with reserve_run_folder(config.runs_dir, "linear") as folder:
        told = {
            "command": command,
            "dataset": path_from_run(config.dataset, folder),
            "dataset_digest": manifest.digest,
            **describe_environment(),
        }
        run = describe_run(folder.name, "linear", config.composed, told)
        with tracked(config.tracker, folder, run, on_step, on_warning) as trackers:
            _train(config, folder, told, manifest, Listener(on_step, on_progress, trackers))
    return folder


def _train(
    config: TrainConfig,
    folder: Path,
    told: Mapping[str, Any],
    manifest: DatasetManifest,
    listener: Listener,
) -> None:
    started = time.monotonic()
    parent, weights = fit_and_prune(config, manifest, listener)
    listener.on_step("scoring the valid and test splits")
    tables = {
        f"{stage}-{name}": table
        for name in ("valid", "test")
        for stage, table in _score_stages(
            config, name, manifest, {"parent": parent, "model": weights}
        )
    }
    provenance = {
        **told,
        "kind": "linear",
        "seed": config.seed,
        "labels": list(manifest.labels),
        "label_space": manifest.label_space,
        "generated": manifest.generated,
        "features": {"parent": len(parent.keys), "kept": len(weights.keys)},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "fit_seconds": round(time.monotonic() - started, 1),
        "kernel": LinearScorer.best_kernel(),
    }
    write_run(folder, config, provenance, weights, tables, listener.log)
    keep_results(listener.trackers, folder, tables)


def export_run(  # noqa: PLR0913 - one parameter an option of the verb
    run_folder: Path,
    output: Path,
    *,
    name: str,
    version: str,
    dataset: Path | None = None,
    about: str = "",
    non_papers: Sequence[str] = (),
    overwrite: bool = False,
    command: str = "",
    on_step: OnStep = lambda _: None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[BundleManifest, EvaluationReport]:
    """Quantise a run, fit its policy on valid, measure it on test, and write the bundle.

    Args:
        run_folder: the folder that ``train`` returned.
        output: the bundle's folder.
        name: of the bundle.
        version: of the bundle.
        dataset: where the dataset of the run is now; None if it stayed where it was.
        about: Markdown for the card.
        non_papers: texts that are out of scope.
        overwrite: replace a bundle that is there.
        command: the command line to name in the report.
        on_step: hears of every step.
        on_progress: hears of papers done.

    Raises:
        InvalidDataset: the run or its dataset is missing or has changed.
        StorageFailed: the bundle cannot be written there.
    """
    from classmark.bundle import write_bundle

    check_folder_place(output, overwrite=overwrite)
    run = read_run(run_folder)
    dataset = dataset or find_dataset(run)
    manifest = load_manifest(dataset)
    if manifest.digest != run.provenance["dataset_digest"]:
        raise InvalidDataset(
            f"dataset {dataset} has digest {manifest.digest[:12]}, the run was fitted on "
            f"{run.provenance['dataset_digest'][:12]}. Restore that dataset, or train again."
        )
    on_step(f"quantising {len(run.weights.keys):,} features")
    fitted = run.weights
    arrays = quantise(fitted.keys, fitted.embedding, fitted.head, fitted.bias)
    scorer = LinearScorer(arrays)
    on_step("calibrating on the valid split")
    ref = ModelRef(name, version, "")
    source = _Source(dataset, manifest, on_progress)
    uncurved = _score_split(scorer, source, "valid", run.labels, ref)
    arrays = replace(arrays, curve=fit_curve(uncurved))
    scorer = LinearScorer(arrays)
    valid = _score_split(scorer, source, "valid", run.labels, ref)
    strangers = scorer.score([_as_pair(text) for text in non_papers]) if non_papers else None
    policy = fit_policy(valid, strangers)
    on_step("measuring on the test split")
    test = _score_split(scorer, source, "test", run.labels, ref)
    report = evaluate_table(_with_policy(test, policy), config=EvaluationConfig(), command=command)
    bundle = _describe_bundle(run.provenance, name, version, policy, report, arrays.parameters())
    facts = _facts(bundle, len(run.weights.keys))
    card = render_card(f"{name} {version}", report, facts, about)
    written = write_bundle(output, bundle, arrays.arrays(), {"CARD.md": card}, overwrite=overwrite)
    return written, report


def score_dataset(model: str, dataset: Path, split: str, on_progress: OnProgress) -> ScoreTable:
    """Score a split of a dataset with an installed model.

    Raises:
        LabelMismatch: the model has none of the dataset's labels.
    """
    classifier = Classifier(model)
    manifest = load_manifest(dataset)
    if not set(classifier.labels) & set(manifest.labels):
        raise LabelMismatch(
            f"model {classifier.model.name} has none of the {len(manifest.labels)} labels of "
            f"{dataset} (first: {manifest.labels[0]!r}). Use a model that was fitted on them."
        )
    source = _Source(dataset, manifest, on_progress)
    labels = tuple(classifier.labels)
    table = _score_split(classifier, source, split, labels, classifier.model)
    return _with_policy(table, classifier.policy)


@dataclass(frozen=True)
class _Source:
    """A dataset whose splits are scored, and who counts the papers."""

    dataset: Path
    manifest: DatasetManifest
    on_progress: OnProgress


def _score_stages(
    config: TrainConfig, name: str, manifest: DatasetManifest, stages: Mapping[str, LinearWeights]
) -> Iterator[tuple[str, ScoreTable]]:
    split = read_split(config.dataset, name, manifest, texts=False)
    if not len(split):
        return
    folder = scratch_for(len(split), config.runs_dir)
    texts = iter_texts(config.dataset, name, manifest)
    occurrences = read_occurrences(texts, lambda _: None, folder)
    for stage, weights in stages.items():
        scores = weights.score(to_sparse(occurrences, weights.keys, folder))
        known = np.zeros(len(split), dtype=np.float32)
        ref = ModelRef(stage, "0", "")
        raw = RawScores(scores, known)
        yield stage, make_table(raw, split, name, manifest, manifest.labels, ref)


def _score_split(
    scorer: LinearScorer | Classifier,
    source: _Source,
    name: str,
    labels: tuple[str, ...],
    model: ModelRef,
) -> ScoreTable:
    split = read_split(source.dataset, name, source.manifest, texts=False)
    texts = iter_texts(source.dataset, name, source.manifest)
    parts = []
    while pairs := list(islice(texts, CHUNK_PAPERS)):
        if isinstance(scorer, Classifier):
            parts.append(scorer.score([Paper(title=t, abstract=a) for t, a in pairs]))
        else:
            parts.append(scorer.score(pairs))
        source.on_progress(len(pairs))
    raw = RawScores(
        np.concatenate([np.zeros((0, len(labels)), np.float32), *(p.scores for p in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(p.known_share for p in parts)]),
    )
    return make_table(raw, split, name, source.manifest, labels, model)


def _with_policy(table: ScoreTable, policy: Policy) -> ScoreTable:
    return ScoreTable(
        **{
            **table.__dict__,
            "temperature": policy.temperature,
            "set_threshold": policy.set_threshold,
            "set_coverage": policy.set_coverage,
            "thresholds": policy.thresholds,
        }
    )


def _describe_bundle(
    provenance: Mapping[str, Any],
    name: str,
    version: str,
    policy: Policy,
    report: EvaluationReport,
    parameters: Mapping[str, Any],
) -> BundleManifest:
    measured = {"all": report.metrics, **{p.name: p.metrics for p in report.periods}}
    keys = ("command", "seed", "dataset_digest", "date", "commit", "packages", "generated")
    return BundleManifest(
        name=name,
        version=version,
        kind="linear",
        label_space=provenance["label_space"],
        labels=tuple(provenance["labels"]),
        text_recipe=RECIPE_VERSION,
        featuriser=FEATURISER_VERSION,
        taxonomy=TAXONOMY_VERSION if provenance["label_space"] == "arxiv" else "",
        policy=policy,
        files={},
        parameters=dict(parameters),
        metrics={
            period: {key: round(metrics[key].value, 4) for key in HEADLINE if key in metrics}
            for period, metrics in measured.items()
        },
        provenance={
            **{key: provenance[key] for key in keys},
            "command": without_folders(provenance["command"]),
        },
    )


def _facts(bundle: BundleManifest, n_features: int) -> dict[str, str]:
    return {
        "kind": "linear over hashed words and word pairs, 128 dimensions, 2-bit rows",
        "labels": f"{len(bundle.labels)} ({bundle.label_space})",
        "features": f"{n_features:,}",
        "text recipe, featuriser": f"{bundle.text_recipe}, {bundle.featuriser}",
        "temperature": f"{bundle.policy.temperature:.3f}",
        "dataset": f"sha256 {bundle.provenance['dataset_digest'][:16]}",
        "fitted": f"{bundle.provenance['date']}, seed {bundle.provenance['seed']}",
    }


def _as_pair(text: str) -> tuple[str, str]:
    paper = Paper.from_text(text)
    return paper.title, paper.abstract
