"""What a frozen encoder adds to the fast tier where nothing larger than two cores is at hand.

python benchmarks/two_cores.py --dataset DIR --work DIR [--tuned RUN]
    [--output benchmarks/reports/two-cores.json]

A stratified draw of 100,000 training papers is embedded once with the packaged encoder (shards that
the next call finds again: an hour and more). A fast model that has seen none of them gives their
scores, as it will give those of new papers. Each try is a head on embeddings, on those scores, or
on both; epochs and mixing weights are chosen on valid, numbers are of test. --tuned adds a run of
`classmark train model=transformer` with its last layer trained. Needs [deep].
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from classmark.bundle import find_bundle, load_bundle, read_manifest
from classmark.dataset import load_manifest
from classmark.evaluation import compare_tables, fit_temperature
from classmark.kernels import RawScores, make_scorer
from classmark.kernels.calibration import log_softmax
from classmark.kernels.cascade import make_member, mixed
from classmark.pipeline.scoring import make_table
from classmark.records import ScoreTable
from classmark.wire import ModelRef
from peer_embed import MODEL, embed_texts, read_embeddings
from peer_papers import Papers, build_dataset, draw_peers_dataset, draw_stratified, read_frames
from peers import N_TEST, N_TRAIN, N_VALID, metrics_of, rounded
from report import run_benchmark

MIX_WEIGHTS = tuple(round(w / 20, 2) for w in range(1, 20))
NEVER = -50.0
EPOCHS, BATCH, SMOOTHING, DROPOUT, SEED = 12, 256, 0.05, 0.3, 7
RATES = {False: 3e-3, True: 1e-3}  # of a linear head, and of one with a hidden layer
REFERENCE = "fast"
METRICS = ("top_1", "top_5", "precision_at_1_listed", "macro_f1", "ece")

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """Papers of a split: embeddings [n, 384], log-probabilities of the fast model [n, k]."""

    embedded: Floats
    fast: Floats
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Try:
    """A head: what it sees, how wide it is, and whether it only corrects the fast model."""

    name: str
    sees: tuple[str, ...]
    hidden: int = 0
    papers: int | None = None
    corrects: bool = False


TRIES = (
    Try("embeddings, linear head, 50,000 papers", ("embedded",), papers=50_000),
    Try("embeddings, linear head", ("embedded",)),
    Try("embeddings, hidden layer of 1,024", ("embedded",), hidden=1024),
    Try("scores of fast, linear head", ("fast",)),
    Try("embeddings and scores of fast, linear head", ("embedded", "fast")),
    Try("embeddings and scores of fast, hidden 1,024", ("embedded", "fast"), hidden=1024),
    Try("fast, corrected by a linear head on embeddings", ("embedded",), corrects=True),
    Try("fast, corrected by hidden 1,024 on both", ("embedded", "fast"), 1024, corrects=True),
)


def draw_papers(dataset: Path, work: Path, n: int) -> tuple[Papers, pl.DataFrame]:
    """Return the peers' dataset of n training papers, and n more that are not in it."""
    sizes = {"train": n, "valid": min(N_VALID, n), "test": min(N_TEST, n)}
    first = draw_peers_dataset(dataset, work / "dataset", sizes)
    train = read_frames(dataset)["train"]
    rest = train.filter(~pl.col("id").is_in(list(first.split("train").ids)))
    return first, draw_stratified(rest, n, ("period", "category_code"))


def fit_unseeing(dataset: Path, drawn: set[str], work: Path) -> Path:
    """Return a run of the fast recipe that has seen none of the drawn papers; they are its test."""
    runs = work / "unseeing"
    if not runs.exists():
        frames = read_frames(dataset)
        is_drawn = pl.col("id").is_in(list(drawn))
        splits = {
            "train": frames["train"].filter(~is_drawn),
            "valid": frames["valid"],
            "test": frames["train"].filter(is_drawn),
        }
        ends = ",".join(str(end) for end in load_manifest(dataset).config["periods"])
        found = build_dataset(splits, work / "dataset-unseeing", "--periods", ends)
        command = ["train", "experiment=wheel", f"dataset.path={found.folder}", f"runs_dir={runs}"]
        subprocess.run([sys.executable, "-m", "classmark", *command], check=True)
    return next(runs.glob("linear-*"))


def embedded(texts: list[str], name: str, folder: Path) -> tuple[Floats, float]:
    """Return unit vectors float32 [n, 384] and the CPU-seconds that they took once."""
    folder.mkdir(parents=True, exist_ok=True)
    embed_texts(texts, name, folder)
    vectors, cost = read_embeddings(texts, folder)
    return vectors, cost["cpu_s"]


def rows_of(table: ScoreTable, ids: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the row of each paper in a table."""
    place = {identifier: row for row, identifier in enumerate(table.ids)}
    return np.array([place[identifier] for identifier in ids], dtype=np.intp)


def own_scores(run: Path, split: str, ids: tuple[str, ...], labels: tuple[str, ...]) -> Floats:
    """Return calibrated log-probabilities of a run for papers of one of its splits.

    A label that the run never saw, as happens with few papers, gets ``NEVER``.
    """
    valid = ScoreTable.read(run / "scores" / "model-valid.npz")
    table = ScoreTable.read(run / "scores" / f"model-{split}.npz")
    logs = log_softmax(table.scores, fit_temperature(valid.scores, valid.primary))
    rows = rows_of(table, ids)
    place = {label: column for column, label in enumerate(table.labels)}
    picked = np.full((len(ids), len(labels)), NEVER, dtype=np.float32)
    for column, label in enumerate(labels):
        if label in place:
            picked[:, column] = logs[rows, place[label]]
    return picked


def inputs_of(one: Try, parts: dict[str, Part]) -> dict[str, tuple[Any, Any]]:
    """Return of each split what a head sees, scaled by the training papers, and its offset."""
    import torch

    train = parts["train"]
    means = {s: getattr(train, s).mean(axis=0) for s in one.sees}
    scales = {s: getattr(train, s).std(axis=0) + 1e-6 for s in one.sees}

    def tensors(part: Part) -> tuple[Any, Any]:
        seen = [(getattr(part, s) - means[s]) / scales[s] for s in one.sees]
        offset = part.fast if one.corrects else np.zeros_like(part.fast)
        return torch.from_numpy(np.concatenate(seen, axis=1)), torch.from_numpy(offset)

    return {name: tensors(part) for name, part in parts.items()}


def make_head(width: int, hidden: int, k: int) -> Any:
    """Return a head that says nothing yet: its scores are 0."""
    from torch import nn

    last = nn.Linear(hidden or width, k)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    inner = [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(DROPOUT)] if hidden else []
    return nn.Sequential(*inner, last)


def fit_head(one: Try, parts: dict[str, Part], epochs: int = EPOCHS) -> dict[str, Floats]:
    """Return the scores [n, k] of valid and test by the head of the epoch that valid likes best."""
    import torch

    torch.manual_seed(SEED)
    inputs = inputs_of(one, parts)
    x, offset = (t[: one.papers] for t in inputs["train"])
    labels = torch.from_numpy(parts["train"].labels[: one.papers])
    head = make_head(x.shape[1], one.hidden, offset.shape[1])
    rate = RATES[bool(one.hidden)]
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    best: tuple[float, dict[str, Floats]] = (-1.0, {})
    for _ in range(epochs):
        head.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            loss(offset[rows] + head(x[rows]), labels[rows]).backward()
            optimiser.step()
            schedule.step()
        head.eval()
        with torch.inference_mode():
            scores = {s: (inputs[s][1] + head(inputs[s][0])).numpy() for s in ("valid", "test")}
        right = float((scores["valid"].argmax(axis=1) == parts["valid"].labels).mean())
        if right > best[0]:
            best = (right, scores)
    return best[1]


def mix_with_fast(
    scores: dict[str, Floats], parts: dict[str, Part]
) -> tuple[float, dict[str, Floats]]:
    """Return the weight that is right most often on valid, and both splits mixed with it."""
    temperature = fit_temperature(scores["valid"], parts["valid"].labels.astype(np.int16))
    logs = {s: log_softmax(scores[s], temperature) for s in scores}

    def at(weight: float) -> dict[str, Floats]:
        return {
            s: mixed(parts[s].fast.astype(np.float64), logs[s], weight).astype(np.float32)
            for s in logs
        }

    def right(weight: float) -> float:
        return float((at(weight)["valid"].argmax(axis=1) == parts["valid"].labels).mean())

    weight = max(MIX_WEIGHTS, key=right)
    return weight, at(weight)


def measure(scores: dict[str, Floats], bases: dict[str, ScoreTable]) -> tuple[Any, ScoreTable]:
    """Return the metrics of test by period, with intervals, and its table."""
    temperature = fit_temperature(scores["valid"], bases["valid"].primary)
    table = replace(bases["test"], scores=scores["test"], temperature=temperature)
    return metrics_of(table, METRICS), table


def beside(reference: ScoreTable, other: ScoreTable) -> dict[str, Any]:
    """Return the paired difference of top-1 to the fast model, of all and of the newest period."""
    newest = reference.periods[int(reference.years.argmax())]
    rows = np.array([period == newest for period in reference.periods])
    pairs = {"all": (reference, other), newest: (reference.select(rows), other.select(rows))}
    return {
        name: rounded(compare_tables(a, b).metrics["top_1"], "difference")
        for name, (a, b) in pairs.items()
    }


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything that tries share: the fast model's tables of valid and test are the reference."""

    parts: dict[str, Part]
    tables: dict[str, ScoreTable]
    facts: dict[str, Any]


def read_bench(dataset: Path, work: Path, n: int) -> Bench:
    """Return what heads see of each split, and what it cost."""
    shipped = find_bundle("fast")
    labels = read_manifest(shipped).labels
    member = make_member(load_bundle(shipped), labels, make_scorer)
    first, more = draw_papers(dataset, work, n)
    texts = first.texts("train")
    texts += [f"{t}\n{a}" for t, a in more.select("title", "summary").iter_rows()]
    vectors, cpu_s = embedded(texts, "train", work / "embeddings")
    train = first.split("train")
    ids, codes = (*train.ids, *more["id"]), [first.manifest.labels[y] for y in train.labels]
    place = {label: i for i, label in enumerate(labels)}
    target = np.array([place[code] for code in [*codes, *more["category_code"]]], dtype=np.int64)
    run = fit_unseeing(dataset, set(ids), work)
    parts = {"train": Part(vectors, own_scores(run, "test", ids, labels), target)}
    tables = {}
    for name in ("valid", "test"):
        split = first.split(name)
        logs, known = member.logarithms(list(zip(split.titles, split.abstracts, strict=True)))
        raw = RawScores(logs.astype(np.float32), known)
        ref = ModelRef("fast", "", "")
        tables[name] = make_table(raw, split, name, first.manifest, labels, ref)
        of_split, _ = embedded(first.texts(name), name, work / "embeddings")
        parts[name] = Part(of_split, raw.scores, tables[name].primary.astype(np.int64))
    papers = {name: len(part.labels) for name, part in parts.items()}
    return Bench(parts, tables, {"papers": papers, "embedding_cpu_s": round(cpu_s)})


def all_tries(bench: Bench, tuned: Path | None) -> Iterator[tuple[str, dict[str, Floats]]]:
    """Yield the name and the scores of valid and test of each try, before it is mixed."""
    for one in TRIES:
        print(one.name, file=sys.stderr)
        yield one.name, fit_head(one, bench.parts)
    if tuned:
        tables = bench.tables
        of_split = {s: own_scores(tuned, s, tables[s].ids, tables[s].labels) for s in tables}
        yield "last layers tuned", of_split


def measure_tries(bench: Bench, tuned: Path | None) -> list[dict[str, Any]]:
    """Return every try with its metrics, and how it differs from the fast model."""
    fast = {name: bench.parts[name].fast for name in bench.tables}
    metrics, reference = measure(fast, bench.tables)
    found: list[dict[str, Any]] = [{"name": REFERENCE, **metrics}]

    def note(name: str, scores: dict[str, Floats], **facts: Any) -> None:
        metrics, table = measure(scores, bench.tables)
        found.append({"name": name, **facts, **metrics, "beside_fast": beside(reference, table)})

    for name, scores in all_tries(bench, tuned):
        note(name, scores)
        weight, both = mix_with_fast(scores, bench.parts)
        note(f"{name}; mixed with fast", both, weight=weight)
    return found


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Try everything, and return what it brought."""
    bench = read_bench(options.dataset, options.work, options.papers)
    return {
        "dataset_digest": load_manifest(options.dataset, verify=False).digest,
        "encoder": MODEL,
        **bench.facts,
        "tries": measure_tries(bench, options.tuned),
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--dataset": {"type": Path, "required": True, "help": "folder of a built dataset"},
    "--work": {"type": Path, "required": True, "help": "folder of samples and shards"},
    "--papers": {"type": int, "default": N_TRAIN, "help": "half of those embedded; 50,000"},
    "--tuned": {"type": Path, "help": "run of model=transformer on the same dataset"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure_all, FLAGS, tiny={"papers": 40})
