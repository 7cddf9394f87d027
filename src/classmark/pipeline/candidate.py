"""What each kind of run brings to a bundle: a scorer, its files, and what to say of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import load_bundle, read_digest
from classmark.dataset import read_split
from classmark.errors import InvalidConfig, ParityFailed
from classmark.export import quantise
from classmark.kernels import Scorer
from classmark.kernels.calibration import CalibrationCurve
from classmark.kernels.cascade import find_member
from classmark.kernels.featuriser import FEATURISER_VERSION
from classmark.kernels.linear import LinearScorer
from classmark.pipeline.run_folder import read_run
from classmark.pipeline.scoring import Source
from classmark.records import CascadeModel, CascadePart, RunRecord, ScoreTable, TransformerPart

if TYPE_CHECKING:
    from classmark.export.onnx import Exported, Sample

SAMPLE_PAPERS = 4000
"""Of MiniLM int8 changes the verdict on 1 paper of 80: 1,000 cannot tell a loss of .005."""
COMPARED_PAPERS = 500
LEAST_AGREEMENT = 0.97
"""Share of papers whose first label must be the one that the run gave them, fp16 fits included."""
_SEED = 0

OnStep = Callable[[str], None]
Precision = Literal["auto", "fp32", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What only some kinds of model heed.

    Attributes:
        precision: of a transformer: ``auto`` measures, ``fp32`` and ``int8`` are kept as asked.
        most_loss: validation accuracy that int8 may lose with ``auto``, 0..1: the interval of what
            it loses must lie within it.
        threshold: of a cascade: another point of its curve; None is the one the run chose.
    """

    precision: Precision = "auto"
    most_loss: float = 0.005
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            choices = ", ".join(get_args(Precision))
            raise InvalidConfig(f"--precision {self.precision!r} must be one of {choices}.")
        for name in ("most_loss", "threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidConfig(f"--{name.replace('_', '-')} {value} must be within 0..1.")


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A run on its way to a bundle.

    Attributes:
        kind: of the bundle.
        what: the kind in words, for the card.
        featuriser: version of what reads the text.
        scorer: gives raw scores without a curve.
        parameters: what the bundle keeps for the kernel, given the curve.
        arrays, files: of the bundle.
        facts: rows of the card.
        provenance: more of it.
        wants_curve: False where the scores are calibrated already.
    """

    kind: str
    what: str
    featuriser: str
    scorer: Scorer
    parameters: Callable[[CalibrationCurve | None], dict[str, Any]]
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    wants_curve: bool = True


def make_candidate(
    run_folder: Path, source: Source, options: ExportOptions, on_step: OnStep
) -> Candidate:
    """Return what a run brings to its bundle.

    Raises:
        RunNotFound: it is no run.
        RunCorrupt: a file of the run is missing or damaged, or it is of an unknown kind.
        ParityFailed: the converted model does not give what the fitted one gave.
    """
    record = RunRecord.read(run_folder)
    makers = {"linear": _linear, "transformer": _transformer, "cascade": _cascade}
    return makers[record.kind](_Order(run_folder, record, source, options, on_step))


@dataclass(frozen=True, eq=False)
class _Order:
    """A run, and how it becomes a candidate."""

    folder: Path
    record: RunRecord
    source: Source
    options: ExportOptions
    on_step: OnStep


def _linear(order: _Order) -> Candidate:
    fitted = read_run(order.folder).weights
    order.on_step(f"quantising {len(fitted.keys):,} features")
    arrays = quantise(fitted.keys, fitted.embedding, fitted.head, fitted.bias)
    return Candidate(
        kind="linear",
        what="linear over hashed words and word pairs, 128 dimensions, 2-bit rows",
        featuriser=FEATURISER_VERSION,
        scorer=LinearScorer(arrays),
        parameters=lambda curve: replace(arrays, curve=curve).parameters(),
        arrays=arrays.arrays(),
        facts={"features": f"{len(fitted.keys):,}"},
    )


def _transformer(order: _Order) -> Candidate:
    from classmark.export.onnx import OPSET, export_network
    from classmark.kernels.encoder import MODEL_FILE, TOKENIZER_FILE, EncoderConfig, EncoderScorer
    from classmark.kernels.tokens import TOKENS_VERSION
    from classmark.pipeline.deep_run import read_network, tokenizer_json

    part, options = order.record.part_as(TransformerPart), order.options
    order.on_step(f"converting the encoder to ONNX, precision {options.precision}")
    network = read_network(order.folder, order.record)
    ids, sample = _draw_sample(order.source, order.record.labels)
    exported = export_network(
        network, sample, precision=options.precision, most_loss=options.most_loss
    )
    choice = exported.choice
    order.on_step(f"kept {choice.kept}: {choice.reason}")
    config = EncoderConfig(choice.kept, network.inputs, network.n_labels)
    scorer = EncoderScorer(exported.model, network.tokenizer, config)
    plain = EncoderScorer(exported.plain, network.tokenizer, replace(config, precision="fp32"))
    _check_against_run(order.folder, ids[:COMPARED_PAPERS], sample, plain)
    parameters = {
        "max_length": network.tokenizer.max_length,
        "pooling": part.pooling,
        "precision": choice.kept,
        "inputs": list(network.inputs),
        "opset": OPSET,
    }
    return Candidate(
        kind="transformer",
        what=f"{part.encoder.name} encoder, {part.pooling} pooling, ONNX",
        featuriser=TOKENS_VERSION,
        scorer=scorer,
        parameters=lambda curve: {**parameters, "curve": asdict(curve) if curve else None},
        files={MODEL_FILE: exported.model, TOKENIZER_FILE: tokenizer_json(order.folder)},
        facts=_facts_of(exported, network.tokenizer.max_length),
        provenance={"encoder": asdict(part.encoder), "precision": choice.to_dict()},
    )


def _cascade(order: _Order) -> Candidate:
    from classmark.kernels import make_scorer
    from classmark.kernels.cascade import CASCADE_VERSION, CascadeScorer, make_member

    part, asked = order.record.part_as(CascadePart), order.options.threshold
    threshold = part.threshold if asked is None else asked
    models = {"fast": part.fast, "deep": part.deep}
    folders = [find_part(order.folder, model) for model in models.values()]
    order.on_step(f"joining {' and '.join(folder.name for folder in folders)} at {threshold:g}")
    labels = order.record.labels
    fast, deep = (make_member(load_bundle(folder), labels, make_scorer) for folder in folders)
    named = {name: _reference(model) for name, model in models.items()}
    parameters = {**named, "threshold": threshold, "mix": part.mix}
    return Candidate(
        kind="cascade",
        what=f"{part.fast.spec} first, {part.deep.spec} below a probability of {threshold:g}",
        featuriser=CASCADE_VERSION,
        scorer=CascadeScorer(fast, deep, threshold, part.mix),
        parameters=lambda _: parameters,
        facts=_cascade_facts(part, threshold),
        provenance={"speeds": asdict(part.speeds)},
        wants_curve=False,
    )


def _reference(model: CascadeModel) -> dict[str, str]:
    """Return what a bundle says of a model that it joins."""
    return {"name": model.name, "version": model.version, "digest": model.digest}


def find_part(run_folder: Path, model: CascadeModel) -> Path:
    """Return the folder of a model that a run of a cascade names: where it was, or by name.

    Raises:
        BundleNotFound, BundleIncompatible: as ``find_member`` says.
    """
    place = Path(os.path.normpath(run_folder.resolve() / model.folder))
    if (place / "bundle.json").is_file() and read_digest(place) == model.digest:
        return place
    return find_member(run_folder, _reference(model))


def _cascade_facts(part: CascadePart, threshold: float) -> dict[str, str]:
    facts = {
        "mix": "none" if part.mix is None else f"{part.mix:g} of the deep model",
        "papers a CPU-second": f"fast {part.speeds.fast:,.0f}, deep {part.speeds.deep:.1f}",
    }
    if threshold != part.threshold:
        return facts
    for split, point in part.chosen.items():
        facts[f"on {split}"] = (
            f"asks the deep model about {point.deep_share:.1%}, {point.cheaper:.1f} times "
            f"cheaper than it, loses {point.loss:.4f} of its top-1"
        )
    return facts


def _facts_of(exported: Exported, max_length: int) -> dict[str, str]:
    facts = {"tokens": f"at most {max_length}", "precision": exported.choice.reason}
    for name, trial in exported.trials.items():
        accuracy = "no labels" if trial.accuracy is None else f"top-1 {trial.accuracy:.4f}"
        facts[f"{name} on the sample"] = (
            f"{trial.papers_per_cpu_s:.1f} papers a CPU-second, {accuracy}, "
            f"{trial.bytes / 1e6:.1f} MB"
        )
    return facts


def _draw_sample(source: Source, labels: tuple[str, ...]) -> tuple[list[str], Sample]:
    """Return ids and papers of the validation split, drawn by a seed."""
    from classmark.export.onnx import Sample

    split = read_split(source.dataset, "valid", source.manifest)
    rows = np.random.default_rng(_SEED).permutation(len(split))[:SAMPLE_PAPERS].tolist()
    column = {label: i for i, label in enumerate(labels)}
    truth = [column.get(source.manifest.labels[split.labels[row]], -1) for row in rows]
    papers = [(split.titles[row], split.abstracts[row]) for row in rows]
    return [split.ids[row] for row in rows], Sample(papers, np.array(truth, dtype=np.intp))


def _check_against_run(run_folder: Path, ids: list[str], sample: Sample, scorer: Scorer) -> None:
    """Compare with the scores that the fit itself wrote: pooling, tokens, weights are the same.

    In fp32: what int8 changes is judged by its accuracy, not by papers on which labels nearly tie.
    """
    path = run_folder / "scores" / "model-valid.npz"
    if not path.is_file():
        return
    table = ScoreTable.read(path)
    place = {identifier: row for row, identifier in enumerate(table.ids)}
    both = [(i, place[identifier]) for i, identifier in enumerate(ids) if identifier in place]
    if not both:
        return
    given = scorer.score([sample.papers[i] for i, _ in both]).scores.argmax(axis=1)
    fitted = table.scores[[row for _, row in both]].argmax(axis=1)
    agreement = float((given == fitted).mean())
    if agreement < LEAST_AGREEMENT:
        raise ParityFailed(
            f"the exported model and the run agree on {agreement:.1%} of {len(both)} validation "
            f"papers, less than {LEAST_AGREEMENT:.0%}. Export with the classmark that fitted it, "
            "or train again with this one."
        )
