"""The offline path in order: compose, fit, score, calibrate, evaluate, export.

``compose_config`` gives the configuration of a fit. What only one kind of model does is in the wing
of that kind, see ``kinds``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np

from classmark.bundle import write_bundle
from classmark.bundle.files import CARD_FILE
from classmark.dataset import iter_texts, load_manifest
from classmark.export import render_card
from classmark.export.bento import check_bentoml, write_bento
from classmark.pipeline.authors import join_table
from classmark.pipeline.cluster import train_on_cluster
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.export import (
    Calibration,
    Candidate,
    ExportOptions,
    RunToExport,
    calibrate,
    card_facts,
    describe_bundle,
    evaluate,
    evaluate_with_authors,
    open_run,
)
from classmark.pipeline.kinds import check_packages, check_processes, wing
from classmark.pipeline.profiled import profiled
from classmark.pipeline.run_folder import check_runs_dir, fit_into_bucket
from classmark.records import SILENT, BundleManifest, EvaluationReport, Progress
from classmark.runtime import Decider
from classmark.runtime.features import MOST_LABELS, WatchedPapers
from classmark.runtime.reference import MOST_REFERENCE, Reference, make_reference
from classmark.storage import is_remote, local_copy, scratch_folder


def train(config: TrainConfig, *, command: str, progress: Progress = SILENT) -> Path:
    """Return the run folder of a fit: weights, and scores of the valid and test splits.

    A tracker that fails is one warning; the fit continues.

    Args:
        config: what to fit on what.
        command: the command line, for the record of the run.
        progress: of steps, papers, loss and speed.

    Raises:
        InvalidDataset: the dataset is missing, changed, or has one label only.
        InvalidConfig: an option does not suit the dataset or the model.
        TrainingFailed: nothing to fit, or the loss is not a number.
        MissingExtra: packages that this kind of model needs are not installed.
        StorageFailed: nothing can be written where runs go, or where the profile does.
        WorkerFailed: the system does not let the profiler look into the process.
        ClassmarkError: what else the wing of the kind raises.
    """
    check_packages(config.kind)
    if is_remote(config.runs_dir):
        return fit_into_bucket(config, partial(train, command=command, progress=progress))
    if config.trainer.engine == "ray":
        return train_on_cluster(config, command, progress)
    check_processes(config.kind)
    check_runs_dir(config.runs_dir)
    config = replace(config, dataset=local_copy(config.dataset))
    with profiled(config, command, progress) as fit:
        manifest = load_manifest(config.dataset)
        fit.run = wing(config.kind).train(config, manifest, command, fit.progress)
        return fit.run


def export_run(
    run_folder: Path, output: Path, options: ExportOptions, progress: Progress = SILENT
) -> tuple[BundleManifest, EvaluationReport]:
    """Return manifest and test report of the bundle that is made from a run.

    In another format, the manifest is that of a bundle, with the files that were written.

    Args:
        run_folder: what ``train`` returned.
        output: the bundle's folder.
        options: name, version, and how the run becomes a bundle.
        progress: of steps and papers.

    Raises:
        RunNotFound: there is no such run.
        RunCorrupt: a file of the run is missing or damaged.
        InvalidDataset: its dataset is missing or has changed.
        InvalidConfig: this kind of model cannot be written in the format, or made smaller.
        ParityFailed: the converted model does not give what the fitted one gave, or the pruned one
            may have lost too much.
        MissingExtra: packages that this kind of model needs are not installed.
        StorageFailed: the bundle cannot be written, or would replace what it is made from.
    """
    run = open_run(run_folder, output, options, progress)
    if options.format == "hf":
        return _export_to_hugging_face(run, output)
    if options.format == "bento":
        return _export_to_bento(run, output)
    return _write_bundle(run, output)


def _write_bundle(run: RunToExport, output: Path) -> tuple[BundleManifest, EvaluationReport]:
    """Write the bundle of a run; return its manifest, and its report on the test split."""
    options = run.options
    candidate = wing(run.record.kind).make_candidate(run)
    bundle, report, calibration, joined = _measure(run, candidate)
    card = render_card(
        f"{options.name} {options.version}",
        report,
        card_facts(run, candidate, bundle),
        options.about,
        with_authors=joined,
    )
    authors = calibration.authors
    arrays = {**candidate.arrays, **(authors.bundle_arrays() if authors else {})}
    if reference := _reference_of(run, bundle, calibration):
        arrays |= reference.arrays()
    written = write_bundle(
        *(output, bundle, arrays, {**candidate.files, CARD_FILE: card}),
        overwrite=options.overwrite,
        measured=report.categories,
    )
    return written, report


def _reference_of(
    run: RunToExport, bundle: BundleManifest, calibration: Calibration
) -> Reference | None:
    """Return what the monitor will compare with: features of up to 5,000 valid papers.

    Returns:
        None for a model of so many labels that the journal does not keep its scores.
    """
    valid, source, authors = calibration.valid, run.source, calibration.authors
    if len(bundle.labels) > MOST_LABELS:
        return None
    chosen = np.zeros(len(valid), dtype=np.bool_)
    chosen[np.random.default_rng(run.record.seed).permutation(len(valid))[:MOST_REFERENCE]] = True
    if authors is not None:
        valid = replace(
            valid,
            used_authors=join_table(authors, source, valid, bundle.policy.temperature).used_authors,
        )
    texts = compress(iter_texts(source.dataset, "valid", source.manifest), chosen)
    table = valid.select(chosen)
    papers = WatchedPapers.of_texts(table.scores, table.known_share, texts, table.used_authors)
    return make_reference(
        papers, Decider(bundle, run.options.model), table.primary.astype(np.intp), table.years
    )


def _measure(
    run: RunToExport, candidate: Candidate
) -> tuple[BundleManifest, EvaluationReport, Calibration, EvaluationReport | None]:
    """Return the manifest of a bundle, its report on the test split, and what was calibrated.

    Last the report with authors, if the bundle has a table.
    """
    run.progress.step("calibrating on the valid split")
    calibration = calibrate(run, candidate)
    run.progress.step("measuring on the test split")
    test, report = evaluate(run, candidate, calibration)
    joined = evaluate_with_authors(run, calibration, test)
    bundle = describe_bundle(run, candidate, calibration, test, report, joined)
    return bundle, report, calibration, joined


def _export_to_bento(run: RunToExport, output: Path) -> tuple[BundleManifest, EvaluationReport]:
    """Write a folder that BentoML serves, which holds the bundle."""
    check_bentoml()
    with scratch_folder() as scratch:
        bundle, report = _write_bundle(run, scratch / output.name)
        run.progress.step("building the bento")
        files = write_bento(scratch / output.name, output, overwrite=run.options.overwrite)
    return replace(bundle, files=files), report


def _export_to_hugging_face(
    run: RunToExport, output: Path
) -> tuple[BundleManifest, EvaluationReport]:
    """Write a folder that Transformers loads; it measures what a bundle in fp32 would give.

    Without a curve and without authors, which no class of Transformers has.
    """
    from classmark.pipeline.transformer.export import candidate_of
    from classmark.pipeline.transformer.huggingface import open_network, write_folder

    run = replace(run, options=replace(run.options, quantize="fp32"))
    prepared = open_network(run)
    candidate = replace(candidate_of(run, prepared), wants_curve=False, authors=None)
    bundle, report, *_ = _measure(run, candidate)
    return write_folder(run, output, prepared.network, candidate, bundle, report), report
