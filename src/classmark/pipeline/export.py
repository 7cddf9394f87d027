"""From a run to a bundle: what every kind of model shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from classmark.bundle.files import MANIFEST_FILE
from classmark.dataset import iter_texts, load_manifest
from classmark.errors import InvalidConfig, InvalidDataset, MissingExtra, RunCorrupt
from classmark.evaluation import EvaluationConfig, evaluate_table
from classmark.evaluation.robustness import OtherTexts, read_non_papers
from classmark.export import Pruning, fit_curve, fit_policy
from classmark.kernels import RawScores, Scorer, count_terms
from classmark.kernels.calibration import CalibrationCurve
from classmark.kernels.joining import AuthorJoin
from classmark.papers import RECIPE_VERSION
from classmark.pipeline.authors import FittedAuthors, fit_author_join, join_table
from classmark.pipeline.kinds import check_format, check_smaller, check_threshold
from classmark.pipeline.run_folder import find_dataset, without_folder, without_folders
from classmark.pipeline.scoring import Source, score_split, with_curve, with_policy
from classmark.records import (
    BundleManifest,
    EvaluationReport,
    MetricValue,
    Paper,
    Policy,
    Progress,
    RunRecord,
    ScoreTable,
)
from classmark.records.manifests import SET_TERMS
from classmark.runtime import Decider
from classmark.storage import check_apart, check_folder_place
from classmark.taxonomy import VERSION as TAXONOMY_VERSION
from classmark.tracking.runs import read_config
from classmark.tracking.tracker import flat
from classmark.wire import ModelRef

HEADLINE = ("top_1", "top_3", "top_5", "macro_f1", "ece", "set_coverage", "set_size")
_PROVENANCE = ("command", "seed", "dataset_digest", "date", "commit", "packages", "generated")

_WITH = " with authors"
"""After the name of a period: of its metrics with all evidence."""
CHOICES = ("precision", "pruning")
"""What a candidate's provenance says of a choice that an export made."""
Quantize = Literal["auto", "fp32", "fp16", "int8"]
Format = Literal["bundle", "hf", "onnx", "bento"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a run becomes a bundle.

    Attributes:
        name, version: of the bundle.
        dataset: where the dataset of the run is now; None if it was not moved.
        about: Markdown for the card.
        non_papers: texts that are out of scope; None: those that classmark invents.
        overwrite: replace a bundle that exists.
        format: ``bundle``; ``hf``, a folder that Transformers loads, in fp32 and calibrated by a
            temperature alone; ``onnx``, one graph from text to scores, which no kind has yet;
            ``bento``, a folder that BentoML serves, with the bundle in it.
        command: the command line to name in the report.
        quantize: precision of a transformer's weights: ``auto`` measures fp32 and int8 and decides;
            ``fp32``, ``fp16`` and ``int8`` decide.
        prune: what to prune from a transformer, as ``vocabulary=SHARE,layers=N,heads=N``; "":
            nothing.
        most_loss: validation accuracy that pruning may lose, and int8 with ``auto``, 0..1: the
            interval of what is lost must lie within it.
        threshold: of a cascade: another point of its curve; None is the one the run chose.
    """

    name: str
    version: str
    dataset: Path | None = None
    about: str = ""
    non_papers: OtherTexts | None = None
    overwrite: bool = False
    format: Format = "bundle"
    command: str = ""
    quantize: Quantize = "auto"
    prune: str = ""
    most_loss: float = 0.005
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("quantize", Quantize), ("format", Format)):
            if getattr(self, name) not in get_args(choices):
                raise InvalidConfig(
                    f"--{name} {getattr(self, name)!r} must be one of "
                    f"{', '.join(get_args(choices))}."
                )
        if self.format == "hf" and self.quantize in ("fp16", "int8"):
            raise InvalidConfig(
                f"--quantize {self.quantize} is of bundles; --format hf writes fp32. Leave one of "
                "them out."
            )
        pruning = self.pruning
        if self.format == "hf" and pruning.heads:
            raise InvalidConfig(
                "--prune heads is of bundles: a configuration of Transformers has as many heads in "
                "each layer. Prune layers or vocabulary with --format hf."
            )
        for name in ("most_loss", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidConfig(f"--{name.replace('_', '-')} {value} must be within 0..1.")

    @property
    def pruning(self) -> Pruning:
        """Return what leaves a transformer.

        Raises:
            InvalidConfig: ``prune`` is not understood.
        """
        return Pruning.parse(self.prune)

    @property
    def model(self) -> ModelRef:
        """Return how score tables call the bundle, which has no digest yet."""
        return ModelRef(self.name, self.version, "")


@dataclass(frozen=True, eq=False)
class RunToExport:
    """A finished run, its dataset, and how it becomes a bundle."""

    folder: Path
    record: RunRecord
    source: Source
    options: ExportOptions

    @property
    def progress(self) -> Progress:
        """Return where steps and papers are shown."""
        return self.source.progress


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """What a run contributes to its bundle.

    Attributes:
        what: the kind in words, for the card.
        featuriser: version of what reads the text.
        scorer: gives raw scores without a curve.
        parameters: what the bundle keeps for the kernel, given the curve.
        arrays, files: of the bundle.
        facts: rows of the card.
        provenance: more of it.
        wants_curve: False where the scores are calibrated already.
        authors: the table of the run; None if it has none.
    """

    what: str
    featuriser: str
    scorer: Scorer
    parameters: Callable[[CalibrationCurve | None], dict[str, Any]]
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    wants_curve: bool = True
    authors: FittedAuthors | None = None

    def score_texts(self, texts: Sequence[str], curve: CalibrationCurve | None) -> RawScores | None:
        """Return the scores of texts as the bundle will give them; None if there are no texts."""
        if not texts:
            return None
        papers = [Paper.from_text(text) for text in texts]
        raw = self.scorer.score([(paper.title, paper.abstract) for paper in papers])
        return raw if curve is None else RawScores(curve.apply(raw.scores), raw.known_share)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was fitted on the valid split, its scores, and the other texts that were used."""

    curve: CalibrationCurve | None
    policy: Policy
    others: OtherTexts
    authors: AuthorJoin | None
    valid: ScoreTable


def open_run(
    run_folder: Path, output: Path, options: ExportOptions, progress: Progress
) -> RunToExport:
    """Return a run whose dataset is as it was, once the output is checked.

    Raises:
        RunNotFound, RunCorrupt: as ``RunRecord.read`` says.
        InvalidConfig: it is a bundle, or this kind of model cannot be written in the format or
            made smaller, or has no threshold.
        InvalidDataset: its dataset is missing or has changed.
        StorageFailed: the bundle cannot be written there, or would replace what it is made from.
    """
    check_apart((output,), (run_folder, options.dataset))
    check_folder_place(output, overwrite=options.overwrite)
    if (run_folder / MANIFEST_FILE).is_file():
        raise InvalidConfig(
            f"{run_folder} is a bundle, which is exported already. Give the run that it was made "
            "from: its CARD.md names it."
        )
    record = RunRecord.read(run_folder)
    check_format(record.kind, options.format)
    if options.pruning or options.quantize != "auto":
        check_smaller(record.kind)
    if options.threshold is not None:
        check_threshold(record.kind)
    dataset = options.dataset or find_dataset(run_folder, record)
    check_apart((output,), (dataset,))
    manifest = load_manifest(dataset)
    if manifest.digest != record.dataset_digest:
        raise InvalidDataset(
            f"dataset {dataset} has digest {manifest.digest[:12]}, the run was fitted on "
            f"{record.dataset_digest[:12]}. Restore that dataset, or train again."
        )
    return RunToExport(run_folder, record, Source(dataset, manifest, progress), options)


def calibrate(run: RunToExport, candidate: Candidate) -> Calibration:
    """Return curve, policy and join, fitted on the valid split and texts that are not papers."""
    source, labels = run.source, run.record.labels
    valid = score_split(candidate.scorer, source, "valid", labels, run.options.model)
    curve = fit_curve(valid) if candidate.wants_curve else None
    valid = with_curve(valid, curve)
    others = read_non_papers() if run.options.non_papers is None else run.options.non_papers
    policy = fit_policy(
        valid,
        candidate.score_texts(others.texts, curve),
        # How many words each text has, as far as it matters for its set.
        count_terms(iter_texts(source.dataset, "valid", source.manifest), 2 * SET_TERMS),
        has_cross_lists=run.record.label_space == "arxiv" or bool((valid.listed_count > 1).any()),
    )
    joined = fit_author_join(source, candidate.authors, valid, policy.temperature)
    if joined is None:
        return Calibration(curve, policy, others, None, valid)
    authors, set_threshold = joined
    policy = replace(policy, author_set_threshold=set_threshold)
    return Calibration(curve, policy, others, authors, valid)


def evaluate(
    run: RunToExport, candidate: Candidate, calibration: Calibration
) -> tuple[ScoreTable, EvaluationReport]:
    """Return the scores of the test split, and their report.

    The report says what was pruned, and which precision was kept and why.
    """
    raw = score_split(candidate.scorer, run.source, "test", run.record.labels, run.options.model)
    test = with_curve(raw, calibration.curve)
    report = evaluate_table(
        with_policy(test, calibration.policy),
        config=EvaluationConfig(),
        command=run.options.command,
    )
    choice = {key: v for key, v in candidate.provenance.items() if key in CHOICES}
    return test, replace(report, config={**report.config, **choice})


def evaluate_with_authors(
    run: RunToExport, calibration: Calibration, test: ScoreTable
) -> EvaluationReport | None:
    """Return the report of the test papers, with authors where the table knows any.

    Args:
        run: whose test papers are measured.
        calibration: of text and authors; None is returned if it has no join.
        test: scores of the text alone.
    """
    if calibration.authors is None:
        return None
    policy = calibration.policy
    joined = join_table(calibration.authors, run.source, test, policy.temperature)
    return evaluate_table(
        with_policy(joined, policy), config=EvaluationConfig(), command=run.options.command
    )


def _metrics_by_period(report: EvaluationReport) -> dict[str, Mapping[str, MetricValue]]:
    return {"all": report.metrics, **{p.name: p.metrics for p in report.periods}}


def describe_bundle(
    run: RunToExport,
    candidate: Candidate,
    calibration: Calibration,
    test: ScoreTable,
    report: EvaluationReport,
    joined: EvaluationReport | None,
) -> BundleManifest:
    """Return the manifest of the bundle, without the digests of its files."""
    record = run.record
    measured = _metrics_by_period(report)
    if joined:
        measured |= {f"{name}{_WITH}": m for name, m in _metrics_by_period(joined).items()}
    bundle = BundleManifest(
        name=run.options.name,
        version=run.options.version,
        kind=record.kind,
        label_space=record.label_space,
        labels=record.labels,
        text_recipe=RECIPE_VERSION,
        featuriser=candidate.featuriser,
        taxonomy=TAXONOMY_VERSION if record.label_space == "arxiv" else "",
        policy=calibration.policy,
        files={},
        columns=run.source.manifest.columns,
        authors=calibration.authors.to_dict() if calibration.authors else {},
        parameters=candidate.parameters(calibration.curve),
        metrics={
            period: {key: round(metrics[key].value, 4) for key in HEADLINE if key in metrics}
            for period, metrics in measured.items()
        },
        provenance={
            **{name: getattr(record, name) for name in _PROVENANCE},
            "command": without_folders(record.command),
            "config": _model_options(run.folder),
            **candidate.provenance,
        },
    )
    held_out = candidate.score_texts(calibration.others.held_out, calibration.curve)
    scope = _measure_scope(Decider(bundle, run.options.model), calibration.others, test, held_out)
    return replace(bundle, provenance={**bundle.provenance, "other_texts": scope})


def _model_options(folder: Path) -> dict[str, Any]:
    """Return the composed options of the model of a run; empty if they cannot be read."""
    try:
        options = read_config(folder).get("model")
    except (MissingExtra, RunCorrupt):
        return {}
    named = flat(options) if isinstance(options, dict) else ()
    return {k: without_folder(value) if isinstance(value, str) else value for k, value in named}


def _measure_scope(
    decider: Decider, others: OtherTexts, test: ScoreTable, held_out: RawScores | None
) -> dict[str, Any]:
    """Return what the scope score was fitted on, and the shares of texts it takes for no papers.

    ``rejected`` is the share of held-out other texts, ``lost`` that of test papers.
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


def card_facts(run: RunToExport, candidate: Candidate, bundle: BundleManifest) -> dict[str, str]:
    """Return the rows of the card that are not metrics."""
    record = run.record
    return {
        "kind": candidate.what,
        "labels": f"{len(bundle.labels)} ({bundle.label_space})",
        **candidate.facts,
        **({"authors": _authors_in_words(candidate, bundle)} if bundle.authors else {}),
        "text recipe, featuriser": f"{bundle.text_recipe}, {bundle.featuriser}",
        "temperature": f"{bundle.policy.temperature:.3f}",
        "dataset": f"sha256 {record.dataset_digest[:16]}",
        "fitted": f"{record.date}, seed {record.seed}",
        "out of scope": _scope_in_words(bundle.provenance["other_texts"]),
    }


def _authors_in_words(candidate: Candidate, bundle: BundleManifest) -> str:
    """Return how many names the table has, and what it does to the test papers."""
    names = candidate.authors.facts.names if candidate.authors else 0
    top = {name: bundle.metrics[name]["top_1"] for name in ("all", f"all{_WITH}")}
    return (
        f"{names:,} names, as fingerprints: top-1 {top[f'all{_WITH}']:.3f} where papers come with "
        f"their authors, {top['all']:.3f} without"
    )


def _scope_in_words(scope: Mapping[str, Any]) -> str:
    if not scope["fitted"]:
        return "nothing is: the model was given no other texts"
    kinds = {"lost": "test papers", "rejected": "held-out other texts"}
    shares = ", ".join(f"{scope[key]:.1%} of {kind}" for key, kind in kinds.items() if key in scope)
    return f"fitted on {scope['fitted']} other texts ({scope['source']}): {shares}"
