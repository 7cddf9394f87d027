"""A fitted transformer: its network read from the run, converted to ONNX for a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classmark.dataset import read_split
from classmark.errors import MissingExtra, ParityFailed, UnreadableSource
from classmark.kernels import Scorer
from classmark.kernels.tokens import TOKENS_VERSION, PairTokenizer
from classmark.pipeline.export import Candidate, RunToExport
from classmark.pipeline.scoring import Source
from classmark.records import RunRecord, ScoreTable, TransformerPart
from classmark.records.run import damaged_run

if TYPE_CHECKING:
    from classmark.export.onnx import Exported, Network, Sample

SAMPLE_PAPERS = 4000
"""Of MiniLM int8 changes the verdict on 1 paper of 80: 1,000 cannot tell a loss of .005."""
COMPARED_PAPERS = 500
LEAST_AGREEMENT = 0.97
"""Share of papers whose first label must be the one that the run gave them, fp16 fits included."""
_SEED = 0


def make_candidate(run: RunToExport) -> Candidate:
    """Return what the run of a transformer contributes to its bundle.

    Raises:
        RunCorrupt: a file of the run is missing or damaged.
        ParityFailed: the converted model does not give what the fitted one gave.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    from classmark.export.onnx import OPSET, export_network
    from classmark.kernels.encoder import MODEL_FILE, TOKENIZER_FILE, EncoderConfig, EncoderScorer

    part, options = run.record.part_as(TransformerPart), run.options
    run.progress.step(f"converting the encoder to ONNX, precision {options.precision}")
    network = read_network(run.folder, run.record)
    ids, sample = draw_sample(run.source, run.record.labels)
    exported = export_network(
        network, sample, precision=options.precision, most_loss=options.most_loss
    )
    choice = exported.choice
    run.progress.step(f"kept {choice.kept}: {choice.reason}")
    config = EncoderConfig(choice.kept, network.inputs, network.n_labels)
    scorer = EncoderScorer(exported.model, network.tokenizer, config)
    plain = EncoderScorer(exported.plain, network.tokenizer, replace(config, precision="fp32"))
    _check_against_run(run.folder, ids[:COMPARED_PAPERS], sample, plain)
    parameters = {
        "max_length": network.tokenizer.max_length,
        "pooling": part.pooling,
        "precision": choice.kept,
        "inputs": list(network.inputs),
        "opset": OPSET,
    }
    return Candidate(
        what=f"{part.encoder.name} encoder, {part.pooling} pooling, ONNX",
        featuriser=TOKENS_VERSION,
        scorer=scorer,
        parameters=lambda curve: {**parameters, "curve": asdict(curve) if curve else None},
        files={MODEL_FILE: exported.model, TOKENIZER_FILE: tokenizer_json(run.folder)},
        facts=_facts_of(exported, network.tokenizer.max_length),
        provenance={"encoder": asdict(part.encoder), "precision": choice.to_dict()},
    )


def read_network(run_folder: Path, record: RunRecord) -> Network:
    """Return the fitted network of a run, in float32 and eval mode.

    Raises:
        RunNotFound: it is a run of another kind.
        RunCorrupt: a file of the run is missing or damaged.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel
    except ImportError as error:
        raise MissingExtra("exporting an encoder", "deep") from error
    from classmark.export.onnx import Network
    from classmark.training.transformer.network import EncoderClassifier

    part, n_labels = record.part_as(TransformerPart), len(record.labels)

    @contextmanager
    def reading(file: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError, SafetensorError, UnreadableSource) as error:
            raise damaged_run(run_folder, file, " ".join(str(error).split())[:300]) from error

    with reading("encoder/config.json"):
        config = AutoConfig.from_pretrained(run_folder / "encoder", local_files_only=True)
        make: Any = AutoModel.from_config
        encoder = make(config, attn_implementation="eager")
        model = EncoderClassifier(encoder, n_labels, part.pooling, dropout=0.0)
    with reading("weights/model.safetensors"):
        model.load_state_dict(load_file(run_folder / "weights" / "model.safetensors"))
    with reading("encoder/tokenizer.json"):
        tokenizer = PairTokenizer(tokenizer_json(run_folder), part.max_length)
    return Network(model.eval(), model.reads_types, n_labels, tokenizer)


def tokenizer_json(run_folder: Path) -> bytes:
    """Return the content of the run's ``tokenizer.json``."""
    return (run_folder / "encoder" / "tokenizer.json").read_bytes()


def _facts_of(exported: Exported, max_length: int) -> dict[str, str]:
    facts = {"tokens": f"at most {max_length}", "precision": exported.choice.reason}
    for name, trial in exported.trials.items():
        accuracy = "no labels" if trial.accuracy is None else f"top-1 {trial.accuracy:.4f}"
        facts[f"{name} on the sample"] = (
            f"{trial.papers_per_cpu_s:.1f} papers a CPU-second, {accuracy}, "
            f"{trial.bytes / 1e6:.1f} MB"
        )
    return facts


def draw_sample(source: Source, labels: tuple[str, ...]) -> tuple[list[str], Sample]:
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
