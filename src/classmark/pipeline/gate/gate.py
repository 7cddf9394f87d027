"""The gate: what the rules ask for is measured on one dataset, then judged."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from classmark.bundle import Bundle, load_bundle
from classmark.dataset import load_manifest
from classmark.errors import EmptyEvaluation, UsageError
from classmark.evaluation import (
    RobustnessConfig,
    compare_tables,
    evaluate_table,
    make_gates,
    measure_robustness,
    read_gates,
)
from classmark.evaluation.behaviour import BehaviourRate
from classmark.evaluation.gate import (
    Cost,
    Finding,
    GateRules,
    LabelFacts,
    Leaks,
    Measured,
    Parity,
    Replay,
    check_rules,
)
from classmark.evaluation.metrics.outcomes import is_arxiv
from classmark.evaluation.report import describe_machine
from classmark.pipeline.gate.goldens import read_goldens, replay_goldens
from classmark.pipeline.gate.measure import (
    SPLIT,
    as_gated,
    compare_kernels,
    draw_test_papers,
    find_leaks,
    look_at_signature,
    measure_behaviours,
    measure_costs,
)
from classmark.pipeline.robustness import judge_robustness
from classmark.pipeline.scoring import score_dataset
from classmark.records import (
    ComparisonReport,
    DatasetManifest,
    EvaluationReport,
    GateReport,
    Paper,
    Progress,
    RobustnessGates,
    RobustnessReport,
    ScoreTable,
)
from classmark.registry import Registry
from classmark.runtime import Classifier
from classmark.wire import ModelRef


@dataclass(frozen=True, kw_only=True)
class GateSubject:
    """Who is judged, beside whom, on what.

    Attributes:
        candidate: folder of its bundle.
        champion: folder of the bundle in use; None if there is none.
        dataset: folder whose test papers are measured.
        registry: that would have the candidate's signature; None if there is none.
        key: private key that signs the candidate when it is added after this; None if it is not.
    """

    candidate: Path
    champion: Path | None
    dataset: Path
    registry: Registry | None = None
    key: Path | None = None


def gate_candidate(
    subject: GateSubject, rules: GateRules, progress: Progress, *, command: str = ""
) -> GateReport:
    """Measure what the rules ask for, and return every line of the gate.

    Args:
        subject: candidate, champion and dataset.
        rules: as ``read_rules_file`` returns them.
        progress: of the measurement.
        command: the command line to name in the report.

    Raises:
        UsageError: the champion is the candidate.
        EmptyEvaluation: the dataset has no test papers.
        LabelMismatch: the candidate has no label of the dataset, or none of the champion's.
        InvalidDataset, InvalidGates, BundleNotFound, BundleCorrupt, WorkerFailed: something that
            is needed cannot be used.
    """
    manifest = load_manifest(subject.dataset)
    candidate, champion = _load_both(subject)
    if SPLIT not in manifest.splits or not manifest.splits[SPLIT].papers:
        raise EmptyEvaluation(
            f"{subject.dataset} has no test papers to measure a candidate on. Build a dataset that "
            "has some."
        )
    measurement = _Measurement(subject, rules, manifest, progress)
    measured = measurement.measure(candidate, champion)
    return GateReport(
        candidate=_named(candidate),
        champion=None if champion is None else _named(champion),
        dataset_digest=manifest.digest,
        split=SPLIT,
        generated=manifest.generated,
        n=measured.report.n,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(),
        command=command,
        rules=rules.to_dict(),
        left_out=rules.left_out,
        checks=check_rules(rules, measured),
    )


def _load_both(subject: GateSubject) -> tuple[Bundle, Bundle | None]:
    candidate = load_bundle(subject.candidate)
    champion = None if subject.champion is None else load_bundle(subject.champion)
    if champion is not None and champion.digest == candidate.digest:
        raise UsageError(
            f"the candidate {candidate.manifest.name} {candidate.manifest.version} is the champion "
            f"(digest {candidate.digest[:12]}): every comparison would hold. Give another one "
            "with --against."
        )
    return candidate, champion


def _named(bundle: Bundle) -> ModelRef:
    return ModelRef(bundle.manifest.name, bundle.manifest.version, bundle.digest)


class _Measurement:
    """Measures a candidate beside a champion, group by group; what is not asked for is None."""

    def __init__(
        self, subject: GateSubject, rules: GateRules, manifest: DatasetManifest, progress: Progress
    ) -> None:
        """Read the files that the rules name: what cannot be used is found before the work."""
        self._subject, self._rules = subject, rules
        self._manifest, self._progress = manifest, progress
        self._goldens = read_goldens(rules.goldens.file) if rules.goldens else None
        given = rules.robustness.gates if rules.robustness else None
        self._gates = read_gates(given) if given else None

    def measure(self, candidate: Bundle, champion: Bundle | None) -> Measured:
        """Return everything that the rules ask for."""
        own = self._score(self._subject.candidate)
        other = None if self._subject.champion is None else self._score(self._subject.champion)
        report = evaluate_table(own, config=self._rules.measurement)
        classifier = Classifier(self._subject.candidate)
        return Measured(
            report=report,
            comparison=None if other is None else self._compare(other, own),
            periods={} if other is None else self._compare_periods(other, own, report),
            labels=_label_facts(candidate, champion, report),
            robustness=self._robustness(),
            behaviour=self._behaviour(classifier),
            goldens=self._replay(classifier),
            kernels=self._parity(candidate),
            costs=self._costs(candidate, champion),
            signature=self._signature(candidate.digest),
            fit=self._leaks(candidate),
        )

    def _score(self, model: Path) -> ScoreTable:
        self._progress.step(f"scoring with {model.name}")
        return score_dataset(str(model.resolve()), self._subject.dataset, SPLIT, self._progress)

    def _compare(self, champion: ScoreTable, candidate: ScoreTable) -> ComparisonReport:
        self._progress.step("comparing")
        return compare_tables(champion, candidate, config=self._rules.measurement, common=True)

    def _compare_periods(
        self, champion: ScoreTable, candidate: ScoreTable, report: EvaluationReport
    ) -> dict[str, ComparisonReport]:
        limits = self._rules.periods
        if limits is None or not (limits.most_fall or limits.most_rise):
            return {}
        found, of_paper = {}, np.array(candidate.periods)
        for part in report.periods:
            rows = of_paper == part.name
            if part.n >= limits.papers:
                with suppress(EmptyEvaluation):  # no paper of it that both know: a line says so
                    found[part.name] = self._compare(champion.select(rows), candidate.select(rows))
        return found

    def _robustness(self) -> tuple[RobustnessReport, RobustnessGates] | None:
        rules, subject = self._rules.robustness, self._subject
        if rules is None:
            return None
        if self._gates is not None:
            config = as_gated(self._gates, self._rules.measurement)
            return self._robust(subject.candidate, config), self._gates
        if subject.champion is None:
            return None
        config = RobustnessConfig(
            papers=rules.papers, kinds=rules.kinds, measurement=self._rules.measurement
        )
        minima = make_gates(self._robust(subject.champion, config), rules.margin)
        return self._robust(subject.candidate, config), minima

    def _robust(self, model: Path, config: RobustnessConfig) -> RobustnessReport:
        self._progress.step(f"perturbing papers for {model.name}")
        study = judge_robustness(
            str(model.resolve()), self._subject.dataset, SPLIT, config, self._progress
        )
        return measure_robustness(study, config=config)

    def _behaviour(self, classifier: Classifier) -> tuple[BehaviourRate, ...] | None:
        if self._rules.behaviour is None or not is_arxiv(tuple(classifier.labels)):
            return None
        return measure_behaviours(classifier, self._progress)

    def _replay(self, classifier: Classifier) -> Replay | None:
        return None if self._goldens is None else replay_goldens(classifier, self._goldens)

    def _parity(self, candidate: Bundle) -> Parity | None:
        rules = self._rules.kernels
        return None if rules is None else compare_kernels(candidate, self._papers(rules.papers))

    def _costs(self, candidate: Bundle, champion: Bundle | None) -> dict[str, Cost]:
        rules = self._rules.cost
        if rules is None:
            return {}
        papers = self._papers(rules.papers)
        return measure_costs((candidate, champion), papers, rules.rounds, self._progress)

    def _signature(self, digest: str) -> Finding | None:
        if self._rules.signature is None:
            return None
        return look_at_signature(self._subject.registry, digest, self._subject.key)

    def _leaks(self, candidate: Bundle) -> Leaks | None:
        if self._rules.fit is None:
            return None
        return find_leaks(candidate, self._subject.dataset, self._manifest, self._rules.fit)

    def _papers(self, most: int) -> tuple[Paper, ...]:
        seed = self._rules.measurement.seed
        return draw_test_papers(self._subject.dataset, self._manifest, most, seed)


def _label_facts(
    candidate: Bundle, champion: Bundle | None, report: EvaluationReport
) -> LabelFacts:
    unknown = report.n_unknown / (report.n + report.n_unknown)
    if champion is None:
        return LabelFacts(missing=None, new=(), unknown=unknown)
    own, other = set(candidate.manifest.labels), set(champion.manifest.labels)
    missing, new = tuple(sorted(other - own)), tuple(sorted(own - other))
    return LabelFacts(missing=missing, new=new, unknown=unknown)
