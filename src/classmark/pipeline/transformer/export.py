"""A fitted transformer: its network read from the run, pruned, converted to ONNX for a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classmark.dataset import iter_texts, read_split
from classmark.errors import MissingExtra, ParityFailed, UnreadableSource
from classmark.export.precision import Loss, measure_loss, too_few
from classmark.kernels import Scorer
from classmark.kernels.tokens import TOKENS_VERSION, PairTokenizer
from classmark.pipeline.authors import read_authors
from classmark.pipeline.export import Candidate, RunToExport
from classmark.pipeline.scoring import Source
from classmark.records import RunRecord, ScoreTable, TransformerPart
from classmark.records.run import damaged_run

if TYPE_CHECKING:
    from classmark.export.onnx import Exported, Network, Sample

SAMPLE_PAPERS = 4000
"""Of MiniLM int8 changes the verdict on 1 paper of 80: 1,000 cannot tell a loss of .005."""
COMPARED_PAPERS = 500
COUNTED_PAPERS, REFIT_PAPERS = 50_000, 4000
"""Training papers that pieces are counted in, and that a head is fitted to after pruning."""
LEAST_AGREEMENT = 0.97
"""Share of papers whose first label must be the one that the run gave them, fp16 fits included."""
_SEED = 0


@dataclass(frozen=True, eq=False)
class Prepared:
    """The network to export: as it was fitted, or pruned.

    Attributes:
        network: what is exported.
        ids: of the papers of the sample.
        sample: papers of the validation split.
        pruning: what left it, and what that lost, for card and bundle; None if nothing left.
    """

    network: Network
    ids: list[str]
    sample: Sample
    pruning: dict[str, Any] | None = None


def make_candidate(run: RunToExport) -> Candidate:
    """Return what the run of a transformer contributes to its bundle.

    Raises:
        RunCorrupt: a file of the run is missing or damaged.
        InvalidConfig: more should be pruned than there is.
        ParityFailed: the converted model does not give what the fitted one gave, or the pruned one
            may have lost too much.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    return candidate_of(run, prepare(run))


def prepare(run: RunToExport) -> Prepared:
    """Return the network of a run, pruned if the options say so; raises as ``make_candidate``."""
    network = read_network(run.folder, run.record)
    ids, sample = draw_sample(run.source, run.record.labels)
    if not run.options.pruning:
        return Prepared(network, ids, sample)
    from classmark.export.onnx import PARITY_PAPERS, check_parity, network_scorer, to_onnx

    reason = too_few(int((sample.labels >= 0).sum()), run.options.most_loss)
    if reason:
        raise ParityFailed(
            f"--prune {run.options.pruning}: what it loses cannot be judged: {reason}. Allow more "
            "with --most-loss, or build a dataset with a larger valid split."
        )
    plain = to_onnx(network)
    check_parity(network, plain, sample.papers[:PARITY_PAPERS])
    scorer = network_scorer(network, plain)
    _check_against_run(run.folder, ids[:COMPARED_PAPERS], sample, scorer)
    pruned = _prune(run, network, scorer)
    loss = measure_loss(
        _right(scorer, sample),
        _right(network_scorer(pruned, to_onnx(pruned)), sample),
        run.options.most_loss,
    )
    run.progress.step(f"pruned {run.options.pruning}: it {loss.words}")
    if not loss.is_small:
        raise ParityFailed(
            f"--prune {run.options.pruning}: the smaller network may lose more than "
            f"{loss.most_loss:g}: it {loss.words}. Prune less, or allow more with --most-loss."
        )
    return Prepared(pruned, ids, sample, _facts_of_pruning(run, loss))


def _prune(run: RunToExport, whole: Network, scorer: Scorer) -> Network:
    """Return a network without what the options say; ``scorer`` is the whole one."""
    from classmark.export.pieces import choose_pieces, count_pieces, prune_vocabulary
    from classmark.export.prune import prune_heads, prune_layers, refit_head

    pruning, network = run.options.pruning, whole
    run.progress.step(f"pruning {pruning}")
    papers = draw_texts(run.source, "train", COUNTED_PAPERS if pruning.vocabulary else REFIT_PAPERS)
    if pruning.vocabulary:
        counts = count_pieces(whole.tokenizer, papers)
        kept = choose_pieces(whole.tokenizer_json, counts, pruning.vocabulary)
        network = prune_vocabulary(network, kept)
    if pruning.layers:
        network = prune_layers(network, pruning.layers, papers)
    if pruning.heads:
        network = prune_heads(network, pruning.heads, papers)
    if pruning.layers or pruning.heads:
        run.progress.step(f"fitting its head to {len(papers[:REFIT_PAPERS]):,} training papers")
        wanted = scorer.score(papers[:REFIT_PAPERS]).scores
        network = refit_head(network, wanted, papers[:REFIT_PAPERS])
    return network


def _facts_of_pruning(run: RunToExport, loss: Loss) -> dict[str, Any]:
    change: Any = loss.change
    return {
        "pruned": str(run.options.pruning),
        "reason": loss.words,
        "papers": loss.papers,
        "most_loss": loss.most_loss,
        "accuracy": {
            "whole": change.a,
            "pruned": change.b,
            "low": change.low,
            "high": change.high,
        },
    }


def _right(scorer: Scorer, sample: Sample) -> NDArray[np.bool_]:
    """Return for each labelled paper of a sample whether its first label is the right one."""
    known = np.flatnonzero(sample.labels >= 0)
    scores = scorer.score([sample.papers[i] for i in known.tolist()]).scores
    return np.asarray(scores.argmax(axis=1) == sample.labels[known])


def candidate_of(run: RunToExport, prepared: Prepared) -> Candidate:
    """Return what a network contributes to a bundle; raises as ``make_candidate``."""
    from classmark.export.onnx import OPSET, export_network
    from classmark.kernels.encoder import MODEL_FILE, TOKENIZER_FILE, EncoderConfig, EncoderScorer

    part, options = run.record.part_as(TransformerPart), run.options
    network, sample = prepared.network, prepared.sample
    run.progress.step(f"converting the encoder to ONNX, precision {options.quantize}")
    exported = export_network(
        network, sample, precision=options.quantize, most_loss=options.most_loss
    )
    choice = exported.choice
    run.progress.step(f"kept {choice.kept}: {choice.reason}")
    config = EncoderConfig(choice.kept, network.inputs, network.n_labels)
    scorer = EncoderScorer(exported.model, network.tokenizer, config)
    if prepared.pruning is None:
        plain = EncoderScorer(exported.plain, network.tokenizer, replace(config, precision="fp32"))
        _check_against_run(run.folder, prepared.ids[:COMPARED_PAPERS], sample, plain)
    parameters = {
        "max_length": network.tokenizer.max_length,
        "pooling": part.pooling,
        "precision": choice.kept,
        "inputs": list(network.inputs),
        "opset": OPSET,
    }
    pruning = {} if prepared.pruning is None else {"pruning": prepared.pruning}
    return Candidate(
        what=f"{part.encoder.name} encoder, {part.pooling} pooling, ONNX",
        featuriser=TOKENS_VERSION,
        scorer=scorer,
        parameters=lambda curve: {**parameters, "curve": asdict(curve) if curve else None},
        files={MODEL_FILE: exported.model, TOKENIZER_FILE: network.tokenizer_json},
        facts=_facts_of(exported, prepared),
        provenance={"encoder": asdict(part.encoder), "precision": choice.to_dict(), **pruning},
        authors=read_authors(run.folder, run.record),
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
        content = (run_folder / "encoder" / "tokenizer.json").read_bytes()
        tokenizer = PairTokenizer(content, part.max_length)
    return Network(model.eval(), model.reads_types, n_labels, tokenizer, content)


def _facts_of(exported: Exported, prepared: Prepared) -> dict[str, str]:
    facts = {"tokens": f"at most {prepared.network.tokenizer.max_length}"}
    if prepared.pruning is not None:
        facts["pruned"] = f"{prepared.pruning['pruned']}: it {prepared.pruning['reason']}"
    facts["precision"] = exported.choice.reason
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


def draw_texts(source: Source, split: str, n: int) -> list[tuple[str, str]]:
    """Return at most n papers of a split, drawn by a seed; the others do not stay in memory."""
    count = source.manifest.splits[split].papers
    drawn = set(np.random.default_rng(_SEED).permutation(count)[:n].tolist())
    texts = iter_texts(source.dataset, split, source.manifest)
    return [pair for row, pair in enumerate(texts) if row in drawn]


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
