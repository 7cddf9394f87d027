"""The stages in order: what each reads, which parameters decide its outputs, and how it runs."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from classmark.bundle import read_manifest
from classmark.bundle.manifest import manifest_digest
from classmark.dataset import Origin, build_dataset, load_manifest, sample_dataset
from classmark.errors import (
    CandidateRefused,
    Interrupted,
    RegistryNotFound,
    UnreadableSource,
)
from classmark.evaluation import evaluate_table
from classmark.pages import gate_page, render_figures
from classmark.pages.text import verdict
from classmark.pipeline.config import read_train_config
from classmark.pipeline.gate import (
    DEFAULT_RULES,
    SAMPLE_RULES,
    GateSubject,
    gate_candidate,
    read_rules_file,
)
from classmark.pipeline.kinds import KINDS
from classmark.pipeline.path import export_run, train
from classmark.pipeline.scoring import score_dataset
from classmark.pipeline.stages.config import WRITER, PipelineConfig
from classmark.pipeline.unfinished import find_unfinished, resumed_config
from classmark.records import EvaluationReport, Progress
from classmark.registry import Proof, Registry
from classmark.storage import atomic_folder, remove, storage_errors, write_json, write_text

DATASET, RUN, BUNDLE, EVALUATION = "dataset", "run", "bundle", "evaluation"
METRICS, PLOTS = "metrics.json", "plots"
GATE, REGISTERED = "gate", "registered.json"
LOG = f"{RUN}/log.csv"
_REPORT = "report.json"
_WHO = "classmark pipeline"
_MODEL_PATHS = ("encoder", "start", "fast", "deep")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: as ``--stage`` takes it.
        params: names of the parameters that decide its outputs, with dots.
        inputs: files and folders that it reads.
        outputs: files and folders that it writes, each whole or not at all.
        make: writes the outputs; takes the command line for the records.
    """

    name: str
    params: Callable[[PipelineConfig], tuple[str, ...]]
    inputs: Callable[[PipelineConfig], tuple[str, ...]]
    outputs: tuple[str, ...]
    make: Callable[[PipelineConfig, str, Progress], None]


def _build(config: PipelineConfig, command: str, progress: Progress) -> None:
    output = Path(DATASET)
    if config.papers:
        sources, origin = [Path(name) for name in config.papers], Origin(command=command)
        build_dataset(
            *(sources, output, config.build), origin=origin, overwrite=True, progress=progress
        )
        return
    sample_dataset(
        *(output, config.sample),
        periods=config.build.periods,
        command=command,
        overwrite=True,
        progress=progress,
    )


def _train(config: PipelineConfig, command: str, progress: Progress) -> None:
    fit = config.train
    if (unfinished := _unfinished_fit(config, progress)) is not None:
        progress.step(f"resuming {unfinished.name}")
        continued = {**resumed_config(unfinished, DATASET), "runs_dir": "."}
        ours = {group: fit.composed[group] for group in ("tracker", "profiler")}
        fit = read_train_config({**continued, **ours})
    try:
        folder = train(fit, command=command, progress=progress)
    except Interrupted as error:
        raise Interrupted(
            "interrupted in stage train: run the same command again, and it is resumed."
        ) from error
    remove(Path(RUN))
    with storage_errors(Path(RUN)):
        folder.rename(RUN)


def _unfinished_fit(config: PipelineConfig, progress: Progress) -> Path | None:
    """Return the newest unfinished run of the same fit on the same dataset, None if none."""
    if not KINDS[config.train.kind].can_resume:
        return None
    return find_unfinished(
        Path(), config.train.kind, config.train.composed, Path(DATASET), progress
    )


def _export(config: PipelineConfig, command: str, progress: Progress) -> None:
    about = ""
    if config.export.about:
        try:
            about = Path(config.export.about).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadableSource(
                f"export.about: cannot read {config.export.about}: {error}. Give a UTF-8 text file."
            ) from error
    options = replace(config.export.options(command), dataset=Path(DATASET), about=about)
    export_run(Path(RUN), Path(BUNDLE), options, progress)


def _evaluate(config: PipelineConfig, command: str, progress: Progress) -> None:
    progress.step("scoring the test split")
    table = score_dataset(f"./{BUNDLE}", Path(DATASET), "test", progress)
    progress.step("measuring")
    report = evaluate_table(table, config=config.evaluate, command=command)
    with atomic_folder(Path(EVALUATION), overwrite=True) as folder:
        (folder / "scores.npz").write_bytes(table.to_bytes())
        write_json(folder / _REPORT, report.to_dict())
    with atomic_folder(Path(PLOTS), overwrite=True) as folder:
        for name, content in render_figures(table).items():
            write_text(folder / name, content)
        write_text(folder / "years.csv", _by_year(report))
    write_json(Path(METRICS), {name: metric.value for name, metric in report.metrics.items()})


def _by_year(report: EvaluationReport) -> str:
    """Return accuracy by year of the papers as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("year", "papers", "top_1", "top_5"))
    for year in report.years:
        shares = (repr(year.metrics[name].value) for name in ("top_1", "top_5"))
        writer.writerow((year.name, year.n, *shares))
    return text.getvalue()


def check_gate_rules(config: PipelineConfig) -> None:
    """Read the rules of the gate, which would be missed only after the fit.

    Raises:
        InvalidGates: they cannot be used.
    """
    if config.gate.rules:
        read_rules_file(Path(config.gate.rules))


def _gate(config: PipelineConfig, command: str, progress: Progress) -> None:
    registry, candidate = _registry(config), read_manifest(Path(BUNDLE))
    champion = registry.pointer().channels.champion if registry else None
    if champion == manifest_digest(candidate):  # nothing to compare it with
        champion = None
    subject = GateSubject(
        candidate=Path(BUNDLE),
        champion=registry.bundle(champion) if registry and champion else None,
        dataset=Path(DATASET),
        registry=registry,
        key=Path(config.gate.key) if config.gate.key else None,
    )
    is_generated = load_manifest(Path(DATASET), verify=False).generated
    file = Path(config.gate.rules) if config.gate.rules else None
    rules = read_rules_file(file, SAMPLE_RULES if is_generated else DEFAULT_RULES)
    report = gate_candidate(subject, rules, progress, command=command)
    with atomic_folder(Path(GATE), overwrite=True) as folder:
        write_json(folder / _REPORT, report.to_dict())
        write_text(folder / "report.html", gate_page(report))
    if not report.passed:
        raise CandidateRefused(
            f"{candidate.name} {candidate.version} is not registered, {verdict(report)}. Read "
            f"{GATE}/report.html; the limits are gate.rules."
        )


def _register(config: PipelineConfig, command: str, progress: Progress) -> None:
    """Add the bundle to the registry, unless it has one that answers the same."""
    registry = _registry(config)
    if registry is None:
        registry = Registry.create(Path(config.gate.registry), who=_WHO, why=command)
    digest = manifest_digest(read_manifest(Path(BUNDLE)))
    if digest not in registry.pointer().bundles:
        progress.step(f"adding {digest[:12]} to {registry.path}")
        proof = Proof(key=Path(config.gate.key) if config.gate.key else None)
        registry.add(Path(BUNDLE), who=_WHO, why=command, proof=proof)
    registry.keep_report(Path(GATE, _REPORT).read_bytes())
    known = registry.pointer().bundles[digest]
    facts = {"digest": digest, "name": known.name, "version": known.version}
    dataset = load_manifest(Path(DATASET), verify=False).digest
    write_json(Path(REGISTERED), {**facts, "dataset_digest": dataset})


def _registry(config: PipelineConfig) -> Registry | None:
    """Return the registry, None if there is none yet."""
    with suppress(RegistryNotFound):
        return Registry.open(Path(config.gate.registry))
    return None


def _files_of_build(config: PipelineConfig) -> tuple[str, ...]:
    if not config.papers:
        return ()
    lists = (config.build.test_ids, config.build.valid_ids)
    return (*config.papers, *(path.as_posix() for path in lists if path is not None))


def _files_of_train(config: PipelineConfig) -> Iterator[str]:
    """Yield the dataset, and models on disk that the fit begins with."""
    yield DATASET
    for name in _MODEL_PATHS:
        value = getattr(config.train.model, name, None)
        if value is not None and Path(value).is_dir():
            yield str(value)


STAGES = (
    Stage(
        "build",
        lambda c: (WRITER, "papers", *(("build",) if c.papers else ("sample", "build.periods"))),
        _files_of_build,
        (DATASET,),
        _build,
    ),
    Stage(
        "train",
        lambda _: (WRITER, "seed", "model"),
        lambda c: tuple(_files_of_train(c)),
        (RUN,),
        _train,
    ),
    Stage(
        "export",
        lambda _: (WRITER, "export"),
        lambda c: (DATASET, RUN, *((c.export.about,) if c.export.about else ())),
        (BUNDLE,),
        _export,
    ),
    Stage(
        "evaluate",
        lambda _: (WRITER, "evaluate"),
        lambda _: (DATASET, BUNDLE),
        (EVALUATION, PLOTS, METRICS),
        _evaluate,
    ),
    Stage(
        "gate",
        lambda _: (WRITER, "gate"),
        lambda c: (DATASET, BUNDLE, *((c.gate.rules,) if c.gate.rules else ())),
        (GATE,),
        _gate,
    ),
    Stage(
        "register",
        lambda _: (WRITER, "gate.registry", "gate.key"),
        lambda _: (DATASET, BUNDLE, GATE),
        (REGISTERED,),
        _register,
    ),
)
"""The only list of stages: the walk, ``dvc.yaml`` and the help follow it."""


def command_of(config: PipelineConfig) -> str:
    """Return the command line for the records of the stages."""
    return shlex.join(["classmark", "pipeline", "run", *config.overrides])
