"""From a run to a bundle: convert, calibrate on valid, measure on test, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import iter_texts, load_manifest
from classmark.errors import InvalidDataset
from classmark.evaluation import EvaluationConfig, evaluate_table
from classmark.evaluation.robustness import OtherTexts, read_non_papers
from classmark.export import fit_curve, fit_policy, render_card
from classmark.kernels import RawScores, count_terms
from classmark.kernels.curve import CalibrationCurve
from classmark.papers import RECIPE_VERSION
from classmark.pipeline.candidate import Candidate, ExportOptions, make_candidate
from classmark.pipeline.run_folder import find_dataset, without_folders
from classmark.pipeline.scoring import (
    OnProgress,
    Source,
    score_split,
    with_curve,
    with_policy,
)
from classmark.records import (
    BundleManifest,
    DatasetManifest,
    EvaluationReport,
    Paper,
    Policy,
    RunRecord,
    ScoreTable,
)
from classmark.records.bundle import SET_TERMS
from classmark.runtime import Decider
from classmark.storage import check_apart, check_folder_place
from classmark.taxonomy import VERSION as TAXONOMY_VERSION
from classmark.wire import ModelRef

HEADLINE = ("top_1", "top_3", "top_5", "macro_f1", "ece", "set_coverage", "set_size")
_PROVENANCE = ("command", "seed", "dataset_digest", "date", "commit", "packages", "generated")

OnStep = Callable[[str], None]


def export_run(  # noqa: PLR0913 - one parameter an option of the verb
    run_folder: Path,
    output: Path,
    *,
    name: str,
    version: str,
    dataset: Path | None = None,
    about: str = "",
    non_papers: OtherTexts | None = None,
    overwrite: bool = False,
    command: str = "",
    options: ExportOptions | None = None,
    on_step: OnStep = lambda _: None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[BundleManifest, EvaluationReport]:
    """Convert a run, fit its policy on valid, measure it on test, and write the bundle.

    Args:
        run_folder: the folder that ``train`` returned.
        output: the bundle's folder.
        name: of the bundle.
        version: of the bundle.
        dataset: where the dataset of the run is now; None if it stayed where it was.
        about: Markdown for the card.
        non_papers: texts that are out of scope; None: the invented ones of classmark.
        overwrite: replace a bundle that is there.
        command: the command line to name in the report.
        options: what only some kinds of model heed.
        on_step: hears of every step.
        on_progress: hears of papers done.

    Raises:
        RunNotFound: there is no such run.
        RunCorrupt: a file of the run is missing or damaged.
        InvalidDataset: its dataset is missing or has changed.
        ParityFailed: the converted model does not give what the fitted one gave.
        MissingExtra: packages that this kind of model needs are not installed.
        StorageFailed: the bundle cannot be written there, or would replace what it is made from.
    """
    from classmark.bundle import write_bundle

    check_apart((output,), (run_folder, dataset))
    check_folder_place(output, overwrite=overwrite)
    record = RunRecord.read(run_folder)
    check_apart((output,), (dataset or find_dataset(run_folder, record),))
    source = _open_source(run_folder, record, dataset, on_progress)
    candidate = make_candidate(run_folder, source, options or ExportOptions(), on_step)
    on_step("calibrating on the valid split")
    ref = ModelRef(name, version, "")
    labels = record.labels
    uncurved = score_split(candidate.scorer, source, "valid", labels, ref)
    curve = fit_curve(uncurved) if candidate.wants_curve else None
    others = read_non_papers() if non_papers is None else non_papers
    other = _score_texts(candidate, others.texts, curve)
    is_arxiv = record.label_space == "arxiv"
    has_cross_lists = is_arxiv or bool((uncurved.listed_count > 1).any())
    policy = fit_policy(
        *(with_curve(uncurved, curve), other, _count_terms(source)),
        has_cross_lists=has_cross_lists,
    )
    on_step("measuring on the test split")
    test = with_curve(score_split(candidate.scorer, source, "test", labels, ref), curve)
    report = evaluate_table(with_policy(test, policy), config=EvaluationConfig(), command=command)
    report = _with_choice(report, candidate)
    bundle = replace(
        _describe_bundle(record, candidate, policy, report),
        name=name,
        version=version,
        columns=source.manifest.columns,
        parameters=candidate.parameters(curve),
    )
    scope = _measure_scope(
        Decider(bundle, ref), others, test, _score_texts(candidate, others.held_out, curve)
    )
    bundle = replace(bundle, provenance={**bundle.provenance, "other_texts": scope})
    facts = {**_facts(record, bundle, candidate), "out of scope": _scope_in_words(scope)}
    card = render_card(f"{name} {version}", report, facts, about)
    files = {**candidate.files, "CARD.md": card}
    written = write_bundle(
        *(output, bundle, candidate.arrays, files), overwrite=overwrite, measured=report.categories
    )
    return written, report


def _open_source(
    run_folder: Path, record: RunRecord, dataset: Path | None, on_progress: OnProgress
) -> Source:
    folder = dataset or find_dataset(run_folder, record)
    manifest: DatasetManifest = load_manifest(folder)
    if manifest.digest != record.dataset_digest:
        raise InvalidDataset(
            f"dataset {folder} has digest {manifest.digest[:12]}, the run was fitted on "
            f"{record.dataset_digest[:12]}. Restore that dataset, or train again."
        )
    return Source(folder, manifest, on_progress)


def _measure_scope(
    decider: Decider, others: OtherTexts, test: ScoreTable, held_out: RawScores | None
) -> dict[str, Any]:
    """Return what fitted the scope score, and the shares of texts that it takes for no papers.

    ``rejected`` is that of held-out other texts, ``lost`` that of test papers.
    """
    measured = {"rejected": held_out}
    if others.texts:
        measured["lost"] = RawScores(test.scores, test.known_share)
    shares = {
        name: round(float(decider.decide(raw).out_of_scope.mean()), 4)
        for name, raw in measured.items()
        if raw is not None and len(raw.known_share)
    }
    return {"source": others.source, "fitted": len(others.texts), **shares}


def _scope_in_words(scope: Mapping[str, Any]) -> str:
    if not scope["fitted"]:
        return "nothing is: the model was given no other texts"
    kinds = {"lost": "test papers", "rejected": "held-out other texts"}
    shares = ", ".join(f"{scope[key]:.1%} of {kind}" for key, kind in kinds.items() if key in scope)
    return f"fitted on {scope['fitted']} other texts ({scope['source']}): {shares}"


def _score_texts(
    candidate: Candidate, texts: Sequence[str], curve: CalibrationCurve | None
) -> RawScores | None:
    if not texts:
        return None
    papers = [Paper.from_text(text) for text in texts]
    raw = candidate.scorer.score([(paper.title, paper.abstract) for paper in papers])
    return raw if curve is None else RawScores(curve.apply(raw.scores), raw.known_share)


def _count_terms(source: Source) -> NDArray[np.int32]:
    """Return how many words each validation text has, as far as it matters for its set."""
    return count_terms(iter_texts(source.dataset, "valid", source.manifest), 2 * SET_TERMS)


def _with_choice(report: EvaluationReport, candidate: Candidate) -> EvaluationReport:
    """Return a report that says which precision was kept and why, if there was a choice."""
    choice = {key: v for key, v in candidate.provenance.items() if key == "precision"}
    return replace(report, config={**report.config, **choice})


def _describe_bundle(
    record: RunRecord, candidate: Candidate, policy: Policy, report: EvaluationReport
) -> BundleManifest:
    measured = {"all": report.metrics, **{p.name: p.metrics for p in report.periods}}
    return BundleManifest(
        name="",
        version="",
        kind=candidate.kind,
        label_space=record.label_space,
        labels=record.labels,
        text_recipe=RECIPE_VERSION,
        featuriser=candidate.featuriser,
        taxonomy=TAXONOMY_VERSION if record.label_space == "arxiv" else "",
        policy=policy,
        files={},
        metrics={
            period: {key: round(metrics[key].value, 4) for key in HEADLINE if key in metrics}
            for period, metrics in measured.items()
        },
        provenance={
            **{name: getattr(record, name) for name in _PROVENANCE},
            "command": without_folders(record.command),
            **candidate.provenance,
        },
    )


def _facts(record: RunRecord, bundle: BundleManifest, candidate: Candidate) -> dict[str, str]:
    return {
        "kind": candidate.what,
        "labels": f"{len(bundle.labels)} ({bundle.label_space})",
        **candidate.facts,
        "text recipe, featuriser": f"{bundle.text_recipe}, {bundle.featuriser}",
        "temperature": f"{bundle.policy.temperature:.3f}",
        "dataset": f"sha256 {record.dataset_digest[:16]}",
        "fitted": f"{record.date}, seed {record.seed}",
    }
